"""Which predictions are measured? A task's rows: of a run, of `current`, of a compaction, or of a file."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_annotation.policies import Policy
from winnow_jobs.evaluation.calibrated import Applied, applied_to_all, applied_to_run
from winnow_jobs.evaluation.true_items import Coco
from winnow_jobs.evaluation.truth_coco import parse_json
from winnow_jobs.runs import Runs
from winnow_storage import compaction
from winnow_storage.current_view import project
from winnow_storage.dataset import iter_current, iter_results
from winnow_storage.errors import UsageError
from winnow_storage.parquet_rows import read_groups

COMMON = ("key", "item_id", "version", "outcome", "failed_tasks", "width", "height")
# what the measures read of a struct; the rest of a row, such as vectors, stays where it is
FIELDS: Mapping[str, tuple[str, ...]] = {
    "classify": ("label", "labels", "path", "top"),
    "detect": ("boxes",),
    "segment": ("masks",),
    "ocr": ("full_text",),
    "anomaly": ("is_anomalous",),
    "embed": (),
}
_OF_ALL = ("model", "score", "p_ok", "error")


@dataclass(frozen=True, slots=True)
class Row:
    """One item: its struct, None if the task failed on it; `asked` is false where the task never ran."""

    key: str
    item_id: str | None
    version: str | None
    size: tuple[int, int] | None  # (height, width) px
    struct: Mapping[str, Any] | None
    asked: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """`name` for people; the rows are read as often as they are asked for, a part at a time. `by`: a learned calibrator
    whose p_ok they have then, as routing gives it.
    """

    name: str
    task: str
    operator: str
    tables: Callable[[Sequence[str]], Iterable[pa.Table]]
    by: Applied | None = None

    def keys(self) -> list[str]:
        """The keys of all items.

        Raises:
            UsageError: rows have no key.
        """
        found: list[str] = []
        for table in self.tables(["key"]):
            if "key" not in table.column_names:
                raise UsageError(f"{self.name}: the rows have no column key", hint="name every image by its key")
            found += table["key"].to_pylist()
        return found

    def __call__(self, *, with_heat: bool = False) -> Iterator[Row]:
        """Every item, in the order of the source."""
        fields = (*_OF_ALL, *FIELDS[self.operator], *(("heat_map",) if with_heat else ()))
        columns = [*COMMON, *(f"{self.task}.{name}" for name in fields)]
        for table in self._tables(columns):
            if self.task not in table.column_names:
                continue  # a shard of another run's tasks
            for row in table.to_pylist():
                yield _row(row, self.task)

    def _tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        if self.by is None:
            yield from self.tables(columns)
            return
        whole = {*columns}  # of a list that is read whole, nothing is asked for once more
        more = [name for name in self.by.columns if ".".join(name.split(".")[:2]) not in whole]
        for table in self.by(self.tables([*columns, *more])):
            yield project(table, columns)


def of_run(runs: Runs, run_id: str, task: str, operator: str, policy: Policy | None = None) -> Rows:
    """The committed rows of one run.

    Raises:
        UsageError: there is no such run, or it did not have this task.
    """
    names = [one.name for one in runs.plan(run_id).tasks()]
    if task not in names:
        raise UsageError(f"run {run_id} has no task {task!r}", hint=f"it has {', '.join(names)}")
    return Rows(
        f"run {run_id}",
        task,
        operator,
        lambda columns: (t for _, t in iter_results(runs.store, run_id, columns)),
        applied_to_run(runs, run_id, task, policy),
    )


def of_current(runs: Runs, task: str, operator: str, policy: Policy | None = None) -> Rows:
    """The newest usable prediction of every item of the newest snapshot."""
    by = applied_to_all(runs, task, policy)
    return Rows("current", task, operator, lambda columns: iter_current(runs.store.root, columns), by)


def of_compaction(runs: Runs, task: str, operator: str, policy: Policy | None = None) -> Rows:
    """What the newest compaction holds, whatever came later.

    Raises:
        UsageError: there is none.
    """
    found = compaction.latest(runs.store)
    if found is None:
        raise UsageError(f"{runs.store.root} has no compaction yet", hint="winnow compact SPEC")
    files = found.as_base().rows
    return Rows(
        f"compaction {found.number}",
        task,
        operator,
        lambda columns: (table for info in files for table in read_groups(runs.store, info, columns)),
        applied_to_all(runs, task, policy),
    )


def of_file(path: Path, task: str | None, operator: str, coco: Coco | None) -> Rows:
    """Rows in a Parquet, JSON or JSON Lines file: with a struct of the task, or with its fields beside the key.

    A JSON file may also hold COCO's results (image_id, category_id, score, bbox or segmentation) where the truth is
    COCO.

    Raises:
        UsageError: it cannot be read, or lacks what the operator's measures need.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}", hint="give --predictions a Parquet, JSON or JSON Lines file")
    name = task or "prediction"
    if path.suffix.lower() == ".parquet":
        return Rows(str(path), name, operator, _parquet(path, task, operator))
    records = _records(path)
    if records and "image_id" in records[0] and "category_id" in records[0]:
        if coco is None:
            raise UsageError(
                f"{path}: these are COCO's results, whose ids only a COCO truth explains",
                hint="give --truth the COCO JSON",
            )
        records = _from_coco(path, records, coco, operator)
    nested = [_nested(one, name, task, operator, where=f"{path}: record {place}") for place, one in enumerate(records)]
    return Rows(str(path), name, operator, lambda _columns: [pa.Table.from_pylist(nested)] if nested else [])


def _row(row: Mapping[str, Any], task: str) -> Row:
    struct, outcome = row[task], row.get("outcome") or "done"
    if struct is not None and struct.get("error") is not None:
        struct, asked = None, True
    else:
        # a null struct: the task never ran on a readable item, or its item ended before any task
        is_failed = task in (row.get("failed_tasks") or ()) or outcome not in {"done", "failed"}
        asked = struct is not None or is_failed
    height, width = row.get("height"), row.get("width")
    size = None if height is None or width is None else (int(height), int(width))
    return Row(row["key"], row.get("item_id"), row.get("version"), size, struct, asked)


def _parquet(path: Path, task: str | None, operator: str) -> Callable[[Sequence[str]], Iterator[pa.Table]]:
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}", hint="is it complete?") from error
    is_nested = task in names
    needed = {*FIELDS[operator]} - {"path", "top"}
    if "key" not in names or not (is_nested or needed & {*names}):
        raise UsageError(
            f"{path}: the columns are {', '.join(names)}",
            hint=f"it needs key, and a struct named as --task says or {' and '.join(sorted(needed))}",
        )

    def tables(columns: Sequence[str]) -> Iterator[pa.Table]:
        wanted = columns if is_nested else [one.rpartition(".")[2] for one in columns]
        there = [one for one in wanted if one.partition(".")[0] in names]
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(batch_size=16_384, columns=there, use_threads=False):
                table = pa.Table.from_batches([batch])
                if is_nested or list(columns) == ["key"]:
                    yield table
                else:
                    rows = [
                        _nested(one, task or "prediction", task, operator, where=str(path)) for one in table.to_pylist()
                    ]
                    yield pa.Table.from_pylist(rows)

    return tables


def _records(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        found = []
        for line, text in enumerate(path.read_bytes().splitlines(), 1):
            try:
                found.append(json.loads(text))
            except ValueError as error:
                raise UsageError(f"{path}:{line}: no JSON: {error}", hint="each line is one object") from error
    else:
        found = parse_json(path)[1]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"{path} is no list of objects", hint='write [{"key": ...}, ...], or one object a line')
    return found


def _nested(row: Mapping[str, Any], name: str, task: str | None, operator: str, *, where: str) -> dict[str, Any]:
    """A row with the fields in a struct."""
    if not isinstance(row.get("key"), str):
        raise UsageError(f"{where}: it has no key", hint="name every image by its key")
    common = {one: row.get(one) for one in COMMON}
    if task is not None and task in row:
        return common | {name: row[task]}
    needed = {*FIELDS[operator]} - {"path", "top"}
    if row.get("outcome", "done") in {"done", None} and not row.get("error") and not needed & {*row}:
        raise UsageError(
            f"{where} ({row['key']}): it has no {' or '.join(sorted(needed))}", hint="see docs/evaluate.md"
        )
    own = {one: value for one, value in row.items() if one not in COMMON}
    return common | {name: own | {one: row.get(one) for one in (*_OF_ALL, *FIELDS[operator])}}


def _from_coco(path: Path, records: Iterable[Mapping[str, Any]], coco: Coco, operator: str) -> list[dict[str, Any]]:
    """One row per image of the truth: an image that the results do not name had nothing found in it."""
    field = "boxes" if operator == "detect" else "masks"
    found: dict[Any, list[dict[str, Any]]] = {number: [] for number in coco.keys}
    for place, one in enumerate(records):
        if one["image_id"] not in coco.keys or one["category_id"] not in coco.labels:
            raise UsageError(
                f"{path}: record {place}: its image {one['image_id']!r} or category {one['category_id']!r} "
                f"is not in the truth",
                hint="both files must be of one data set",
            )
        entry: dict[str, Any] = {"label": coco.labels[one["category_id"]], "score": one.get("score", 0.0)}
        if operator == "detect":
            left, top, width, height = one["bbox"]
            entry["box"] = [left, top, left + width, top + height]
        else:
            entry["rle"] = one["segmentation"]
        found[one["image_id"]].append(entry)
    scores = {number: [entry["score"] for entry in entries] for number, entries in found.items()}
    return [
        {"key": key, field: found[number], "score": min(scores[number], default=None)}
        for number, key in coco.keys.items()
    ]
