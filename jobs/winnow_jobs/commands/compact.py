"""`winnow compact`: the current row of every item, over all runs, as a few large files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson, now
from winnow_jobs.compact import compact as compact_output
from winnow_jobs.render import Screen
from winnow_jobs.spec_source import load_spec
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import Location, parse


def compact(
    spec: Annotated[Path | None, typer.Argument(metavar="SPEC", help="The job spec.", show_default=False)] = None,
    *,
    output: Annotated[
        str | None, typer.Option(help="The job's output, in place of a spec.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the newest usable prediction of every item and task, over all runs, as a few large Parquet files.

    They stand below current/ in the job's output, and current/latest.json names them. Nothing is written if they cover
    everything that is committed. Only what came since the last compaction is read, where that is exact.
    """
    screen = Screen(as_json=as_json)
    with screen.listening() as listener:
        record = compact_output(open_store(_place(spec, output)), listener, now)
    if not screen.record(record):
        _show(screen, record)


def _place(spec: Path | None, output: str | None) -> Location:
    if output is not None and spec is None:
        return parse(output)
    if spec is not None and output is None:
        source = load_spec(spec)
        return parse(source.spec.output.uri, base=source.base)
    raise UsageError(
        "winnow compact takes a job spec or --output, one of them",
        hint="winnow compact job.yaml, or winnow compact --output URI-OF-THE-OUTPUT",
    )


def _show(screen: Screen, record: dict[str, Any]) -> None:
    what = "wrote" if record["wrote"] else "nothing new is committed; there are"
    rows, files = counted(record["rows"], "row"), counted(record["files"], "file")
    runs = f"{counted(len(record['covers']), 'run')} up to {record['snapshot_run']}"
    screen.say(f"{record['job']}: {what} {rows} in {files} ({record['bytes'] / 2**20:,.1f} MiB) of {runs}")
    screen.say(f"  pending: {counted(record['pending'], 'item')}; gone: {counted(record['gone'], 'item')}")
    if record["dropped"]:
        older = counted(record["dropped"], "older prediction")
        screen.say(f"  left out, because the fields of their task are others now: {older}")
    screen.say(f"current: {record['folder']}part-*.parquet")
    if record["superseded"]:
        folders = ", ".join(record["superseded"])
        screen.say(f"older compactions, to remove with your store's own tool once nobody reads them: {folders}")
