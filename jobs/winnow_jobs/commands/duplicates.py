"""`winnow duplicates`: which images are nearly the same?"""

import json
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import typer

from winnow_jobs.commands.options import AsJson
from winnow_jobs.commands.search import Output, SpecOrNone, Task, about, runs_of, say_left_out
from winnow_jobs.render import Screen
from winnow_jobs.similar.space import current_space
from winnow_jobs.words import counted
from winnow_storage.duplicate_threshold import find_threshold
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.near_duplicates import THRESHOLD, near_duplicates

_SUFFIXES = (".parquet", ".csv", ".json")


def duplicates(
    spec: SpecOrNone = None,
    *,
    task: Task = None,
    threshold: Annotated[
        str, typer.Option(help="The least cosine of a pair, above 0 and at most 1; or auto.", metavar="NUMBER|auto")
    ] = str(THRESHOLD),
    to: Annotated[
        Path | None, typer.Option(help="Write all groups to this .parquet, .csv or .json file.", show_default=False)
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="How many groups are shown, the largest first.")] = 20,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Find groups of images that are nearly the same, by the current embeddings of a job.

    Two images are in one group if their cosine reaches the threshold, or if a chain of such pairs connects them. One of
    each group stands for it: the one with the most pixels. All pairs are compared: the time grows with the square of
    their number.
    """
    screen = Screen(as_json=as_json)
    _check(threshold, to)
    space = current_space(runs_of(spec, output, "duplicates"), task)
    say_left_out(screen, space)
    value, source = THRESHOLD, "given"
    if threshold == "auto":
        by_data = find_threshold(space.vectors)
        value, source = (THRESHOLD, "default") if by_data is None else (by_data, "data")
    else:
        value = float(threshold)

    def told(done: int, total: int) -> None:
        if done < total:
            screen.note(f"{done:,} of {total:,} vectors are compared with all")

    found = near_duplicates(space.vectors, value, listener=told)
    if to is not None:
        _write(to, found.members)
    record = {
        **about(space),
        "threshold": value,
        "threshold_from": source,
        "vectors": found.vectors,
        "groups": found.groups,
        "members": found.members.num_rows,
        "superfluous": found.members.num_rows - found.groups,
        "file": None if to is None else str(to),
        "largest": list(islice(_groups(found.members), show)),
    }
    if not screen.record(record):
        _show(screen, record)


def _check(threshold: str, to: Path | None) -> None:
    """Whatever is wrong with the line is said before anything is read."""
    if threshold != "auto":
        try:
            is_cosine = 0.0 < float(threshold) <= 1.0
        except ValueError:
            is_cosine = False
        if not is_cosine:
            raise UsageError(
                f"--threshold {threshold!r} is no cosine above 0 and at most 1", hint="0.98 is usual; or auto"
            )
    if to is not None and to.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"--to {to}: of which kind?", hint=f"end it in {', '.join(_SUFFIXES)}")
    if to is not None and not to.absolute().parent.is_dir():
        raise UsageError(f"--to {to}: its folder is not there", hint=f"mkdir -p {to.absolute().parent}")


def _groups(members: pa.Table) -> Iterator[dict[str, Any]]:
    """One record per group."""
    rows = (row for batch in members.to_batches(max_chunksize=1024) for row in batch.to_pylist())
    for number, some in groupby(rows, key=lambda row: row["group"]):
        group = list(some)
        yield {
            "group": number,
            "size": group[0]["size"],
            "representative": group[0]["key"],
            "least_score": min(row["score"] for row in group),
            "members": [{key: row[key] for key in ("key", "item_id", "uri", "score")} for row in group],
        }


def _write(path: Path, members: pa.Table) -> None:
    try:
        if path.suffix.lower() == ".parquet":
            pq.write_table(members, path, compression="zstd")
        elif path.suffix.lower() == ".csv":
            pa_csv.write_csv(members, path)
        else:
            with path.open("w", encoding="utf-8") as file:
                json.dump(list(_groups(members)), file, ensure_ascii=False, indent=1)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}", hint="choose another place") from error


def _show(screen: Screen, record: dict[str, Any]) -> None:
    how = {"given": "", "data": ", found in the data", "default": ", the default: the data shows no clear gap"}
    screen.say(
        f"{counted(record['vectors'], 'vector')} of {record['task']} ({record['model']}), "
        f"threshold {record['threshold']:g}{how[record['threshold_from']]}"
    )
    screen.say(
        f"{counted(record['groups'], 'group')} of {counted(record['members'], 'image')}; "
        f"{record['superfluous']:,} could go if one of each group is kept"
    )
    rows = [
        [
            str(one["group"]),
            str(one["size"]),
            f"{one['least_score']:.4f}",
            one["representative"],
            ", ".join(member["key"] for member in one["members"][1:4]) + (", ..." if one["size"] > 4 else ""),
        ]
        for one in record["largest"]
    ]
    if rows:
        screen.table("", ["group", "images", "least", "representative", "others"], rows)
    if len(rows) < record["groups"]:
        screen.say(f"... and {record['groups'] - len(rows):,} more: --show, or --to FILE for all")
    if record["file"]:
        screen.say(f"all groups: {record['file']}")
