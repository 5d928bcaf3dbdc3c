"""What is true, and where does it stand? Files of several kinds become one record per item, by operator.

| operator | truth |
|---|---|
| classify | CSV with `key,label`, or for a tree `key,path` (animal > dog); with `key,labels`, several ones separated \
by `|`; or a column of 0 and 1 per label |
| detect | COCO JSON: boxes, crowds |
| segment | COCO JSON: polygons, RLE, crowds; or a folder of PNG index masks, named like the images |
| ocr | CSV with `key,text`, or a folder of .txt files, named like the images |
| anomaly | CSV with `key,anomalous` (true or false; also good or defect, 1 or 0); or a folder `good` beside others |
| any of them | `labels`: what people answered in Label Studio, or a JSON export of it; JSON Lines or Parquet for what \
may be CSV |

A key of the truth is the item's key, or the end of exactly one item's key from a `/` on, without suffix for folders.
Where a table has a column `operator`, it says which kind of task a row is about.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_jobs.evaluation.true_items import TrueItem, TruthSet
from winnow_jobs.evaluation.truth_coco import parse_json, read_coco
from winnow_jobs.evaluation.truth_folders import read_index_masks, read_texts, read_verdict_folders
from winnow_jobs.evaluation.truth_people import read_export
from winnow_storage.errors import UsageError

_YES = {"true", "1", "yes", "defect", "anomalous", "bad"}
_NO = {"false", "0", "no", "good", "normal", "ok"}
_ROWS = frozenset({".csv", ".jsonl", ".ndjson", ".parquet"})
_Row = tuple[int, Mapping[str, str]]
# where a table says what is true, by operator; of classify every label may have a column of its own instead
_COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "classify": ("label", "labels", "path"),
        "detect": ("boxes",),
        "segment": ("masks",),
        "ocr": ("text",),
        "anomaly": ("anomalous", "label"),
    }
)
_LARGEST_CELL = 1 << 26  # characters of a CSV's cell: masks of a large image, as JSON


def read_truth(place: Path, operator: str, *, classes: Sequence[str] = ()) -> TruthSet:
    """The truth at `place` for a task of that operator; `classes` names the values 1, 2, ... of index masks.

    Raises:
        UsageError: no such file, or one that does not say what this operator is asked; names file and line.
    """
    if not place.exists():
        raise UsageError(f"there is no truth at {place}", hint="give --truth a file or a folder")
    kind = "folder" if place.is_dir() else place.suffix.lower()
    if kind == ".json":
        return _json(place, operator)
    if (operator, kind) in _FOLDERS:
        return _FOLDERS[operator, kind](place, classes)
    if kind in _ROWS and operator in _TABLES:
        return _TABLES[operator](place)
    known = [*(".csv, .jsonl, .parquet" for name in _TABLES if name == operator), ".json",
             *("a folder" for name, _ in _FOLDERS if name == operator)]  # fmt: skip
    raise UsageError(
        f"{place}: no truth of this kind is known for {operator}", hint=f"for {operator} give {' or '.join(known)}"
    )


def _json(place: Path, operator: str) -> TruthSet:
    text, document = parse_json(place)
    if isinstance(document, list) and document:
        return read_export(place, text, document, operator)
    if operator not in {"detect", "segment"}:
        raise UsageError(
            f"{place}: no truth of this kind is known for {operator}",
            hint="a JSON file is COCO (detect, segment) or an export of Label Studio",
        )
    return read_coco(place, text, document, wants_masks=operator == "segment")


def truth_rows(place: Path, operator: str) -> Iterator[_Row]:
    """(line, row) of every row about this operator, each with a key of its own; of Parquet the number of the row.

    Raises:
        UsageError: a row or the header is not as it must be, or it is no table.
    """
    seen: dict[str, int] = {}
    needed = _COLUMNS[operator]
    for line, row in _table(place, needed):
        if not seen and ("key" not in row or (operator != "classify" and not any(name in row for name in needed))):
            raise UsageError(
                f"{place}:1: the columns are {', '.join(row) or 'none'}",
                hint=f"the first line must name key and {' or '.join(needed)}",
            )
        if row.get("operator") not in (None, "", operator):
            continue
        key = row.get("key")
        if not key:
            raise UsageError(f"{place}:{line}: the key is empty", hint="write the image's key")
        if key in seen:
            raise UsageError(f"{place}:{line}: {key} stands on line {seen[key]} already", hint="keep one of them")
        seen[key] = line
        yield line, row
    if not seen:
        raise UsageError(f"{place}: it has no rows about {operator}", hint="write a header, then a row for each image")


def _table(place: Path, needed: Sequence[str]) -> Iterator[_Row]:
    kind = place.suffix.lower()
    if kind not in _ROWS:
        raise UsageError(f"{place}: no table", hint="give a file .csv, .jsonl or .parquet")
    if kind == ".parquet":
        return _parquet(place, needed)
    return _csv(place) if kind == ".csv" else _json_lines(place)


def _csv(place: Path) -> Iterator[_Row]:
    csv.field_size_limit(_LARGEST_CELL)
    with place.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(
                        f"{place}:{reader.line_num}: not the {len(reader.fieldnames or ())} values of the header",
                        hint='put values that hold a comma between quotes: "a, b"',
                    )
                yield reader.line_num, row
        except csv.Error as error:
            raise UsageError(f"{place}:{reader.line_num}: {error}", hint="close every quote") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{place} is not UTF-8 ({error.reason})", hint="save it as UTF-8") from error


def _json_lines(place: Path) -> Iterator[_Row]:
    with place.open("rb") as file:
        for line, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except ValueError as error:
                raise UsageError(f"{place}:{line}: no JSON: {error}", hint="each line is one object") from error
            if not isinstance(row, dict):
                raise UsageError(f"{place}:{line}: no object", hint="each line is one object")
            yield line, {name: _text(value) for name, value in row.items()}


def _parquet(place: Path, needed: Sequence[str]) -> Iterator[_Row]:
    """Null says nothing: such cells are left out, and so are rows that have no other in the columns that are needed."""
    try:
        table = pq.read_table(place)
        for number, column in enumerate(table.schema):
            if column.name in {"key", "label", "labels", "text", "anomalous"} and not pa.types.is_nested(column.type):
                # as they are written: a label 7 that became 7.0 beside nulls is 7
                table = table.set_column(number, column.name, table[number].cast(pa.string()))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{place} cannot be read: {error}", hint="write it as Parquet again") from error
    for number, row in enumerate(table.to_pylist(), 1):
        said = {name: _text(value) for name, value in row.items() if value is not None}
        if any(name in said for name in needed) or not any(name in row for name in needed):
            yield number, said


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(_text(one) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _classes(place: Path) -> TruthSet:
    items = {}
    for line, row in truth_rows(place, "classify"):
        if "labels" in row:
            items[row["key"]] = TrueItem(labels=tuple(sorted({one.strip() for one in row["labels"].split("|") if one})))
        elif "path" in row:
            path = tuple(one.strip() for one in row["path"].split(">"))
            if not all(path):
                raise UsageError(f"{place}:{line}: the path has an empty label", hint="write animal > dog")
            items[row["key"]] = TrueItem(label=path[-1], path=path)
        elif "label" in row:
            if not row["label"]:
                raise UsageError(f"{place}:{line}: the label is empty", hint="write a label, or remove the line")
            items[row["key"]] = TrueItem(label=row["label"])
        else:
            items[row["key"]] = TrueItem(labels=_one_hot(place, line, row))
    return TruthSet(items, str(place))


def _one_hot(place: Path, line: int, row: Mapping[str, str]) -> tuple[str, ...]:
    columns = {name: value.strip() for name, value in row.items() if name not in {"key", "operator"}}
    if not columns:
        raise UsageError(f"{place}:1: the columns are key", hint="the first line must name key and label or labels")
    wrong = next((name for name, value in columns.items() if value not in {"0", "1"}), None)
    if wrong is not None:
        raise UsageError(
            f"{place}:{line}: the column {wrong} is {columns[wrong]!r}; the columns are {', '.join(row)}",
            hint="name a column label or labels, or write 0 or 1 below every label",
        )
    return tuple(sorted(name for name, value in columns.items() if value == "1"))


def _texts(place: Path) -> TruthSet:
    return TruthSet({row["key"]: TrueItem(text=row["text"]) for _, row in truth_rows(place, "ocr")}, str(place))


def _verdicts(place: Path) -> TruthSet:
    items = {}
    for line, row in truth_rows(place, "anomaly"):
        word = (row.get("anomalous") or row.get("label") or "").strip().lower()
        if word not in _YES | _NO:
            raise UsageError(f"{place}:{line}: {word!r} is no verdict", hint="write true or false (defect or good)")
        items[row["key"]] = TrueItem(anomalous=word in _YES)
    return TruthSet(items, str(place))


_TABLES: Mapping[str, Callable[[Path], TruthSet]] = {"classify": _classes, "ocr": _texts, "anomaly": _verdicts}
_FOLDERS: Mapping[tuple[str, str], Callable[[Path, Sequence[str]], TruthSet]] = {
    ("ocr", "folder"): read_texts,
    ("segment", "folder"): read_index_masks,
    ("anomaly", "folder"): read_verdict_folders,
}
