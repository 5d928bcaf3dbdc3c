"""`winnow export`: what the rows say, in other people's formats; `winnow export labels` is in a file of its own."""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import pyarrow as pa
import typer

from winnow_jobs.commands.options import AsJson
from winnow_jobs.file_names import path_of, write_file
from winnow_jobs.job import find_output
from winnow_jobs.machine import ledger_of
from winnow_jobs.render import Screen
from winnow_jobs.resolved import CODE_VERSION
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.text_export.alto import alto
from winnow_jobs.text_export.hocr import hocr
from winnow_jobs.text_export.page_text import PageText, pages_of, text_column
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.dataset import iter_current, iter_results
from winnow_storage.errors import UsageError
from winnow_storage.shards import committed_shards
from winnow_storage.uri import Location, parse

export = typer.Typer(no_args_is_help=True, help="Results and labels in other formats.")

_RUN_ID = re.compile(r"\d{4,}")
_COLUMNS = ("item_id", "key", "uri", "width", "height", "run_id")


class TextFormat(StrEnum):
    """What `winnow export ocr` writes."""

    HOCR = "hocr"
    ALTO = "alto"


_WRITERS: Mapping[TextFormat, tuple[str, Callable[..., bytes]]] = MappingProxyType(
    {TextFormat.HOCR: (".hocr", hocr), TextFormat.ALTO: (".alto.xml", alto)}
)


@export.callback()
def _group() -> None:
    """Results and labels in other formats."""


@export.command("ocr")
def export_ocr(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|RUN_ID",
            help="A job spec: its current predictions; or a run, such as 0007.",
            show_default=False,
        ),
    ],
    *,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the files go.", show_default=False)],
    form: Annotated[TextFormat, typer.Option("--format", help="hOCR 1.2, or ALTO 4.")] = TextFormat.HOCR,
    task: Annotated[str | None, typer.Option(help="The task, if several read text.", show_default=False)] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="One run of the spec's job instead.", show_default=False)
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(help="Only these, by key or item_id; may be repeated.", show_default=False),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="The job's output, if the ledger does not know the run.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one file a page: its lines in reading order with their places, from the results alone.

    A file is named by its item's key; pages of PDFs are items (report.pdf/page-0001). Words get their share of their
    line's box, and its score, since rows hold lines. Pages that could not be read have no file, pages without text have
    one without lines.
    """
    place, run_id = _place(source, run, output)
    wanted = set(item or ())
    suffix, write = _WRITERS[form]
    written: dict[Path, str] = {}
    seen: set[str] = set()
    for page in _pages(place, run_id, task):
        if wanted and not wanted & {page.key, page.item_id}:
            continue
        seen |= wanted & {page.key, page.item_id}
        path = _path(to, page, suffix, taken=written)
        write_file(path, write(page, version=CODE_VERSION))
        written[path] = page.item_id
    if absent := sorted(wanted - seen):
        raise UsageError(
            f"no page that was read is named {', '.join(absent[:5])}",
            hint="take key or item_id as the results have it: SELECT key, item_id, outcome, reason FROM ...",
        )
    screen = Screen(as_json=as_json)
    record = {"files": len(written), "format": str(form), "to": str(to), "output": str(place), "run_id": run_id}
    if not screen.record(record):
        screen.say(f"{counted(len(written), 'page')} as {form} in {to}")


def _place(source: str, run: str | None, output: str | None) -> tuple[Location, str | None]:
    """The output, and the run if one is meant."""
    if _RUN_ID.fullmatch(source) and not Path(source).exists():
        if run is not None and run != source:
            raise UsageError(f"{source} and --run {run} are two runs", hint=f"winnow export ocr {source} --to FOLDER")
        return parse(output or find_output(ledger_of(None), source)), source
    spec = load_spec(Path(source))
    return parse(spec.spec.output.uri, base=spec.base), run


def _pages(place: Location, run_id: str | None, task: str | None) -> Iterator[PageText]:
    tables: Iterator[pa.Table]
    if run_id is None:
        tables = iter_current(place)
    else:
        store = open_store(place)
        tables = (table for _, table in iter_results(store, run_id))
        if not committed_shards(store, run_id):
            Runs(store).plan(run_id)  # says so if there is no such run
    for table in tables:
        column = text_column(table.schema, task)
        yield from pages_of(table.select([*_COLUMNS, column]), column)


def _path(folder: Path, page: PageText, suffix: str, *, taken: Mapping[Path, str]) -> Path:
    return path_of(folder, page.key, page.item_id, suffix, taken=taken)
