"""What is true, and where does it stand? Files of several kinds become one record per item, by operator.

| operator | truth |
|---|---|
| classify | CSV with `key,label`, or for a tree `key,path` (animal > dog); with `key,labels`, several ones separated \
by `|`; or a column of 0 and 1 per label |
| detect | COCO JSON: boxes, crowds |
| segment | COCO JSON: polygons, RLE, crowds; or a folder of PNG index masks, named like the images |
| ocr | CSV with `key,text`, or a folder of .txt files, named like the images |
| anomaly | CSV with `key,anomalous` (true or false; also good or defect, 1 or 0); or a folder `good` beside others |
| any of them | `labels`: what people answered in Label Studio, or a JSON export of it; JSON Lines for what may be CSV |

A key of the truth is the item's key, or the end of exactly one item's key from a `/` on, without suffix for folders.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from winnow_jobs.evaluation.true_items import TrueItem, TruthSet
from winnow_jobs.evaluation.truth_coco import parse_json, read_coco
from winnow_jobs.evaluation.truth_folders import read_index_masks, read_texts, read_verdict_folders
from winnow_jobs.evaluation.truth_people import read_export
from winnow_storage.errors import UsageError

_YES = {"true", "1", "yes", "defect", "anomalous", "bad"}
_NO = {"false", "0", "no", "good", "normal", "ok"}
_ROWS = frozenset({".csv", ".jsonl", ".ndjson"})
_Row = tuple[int, Mapping[str, str]]


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
    known = [*(".csv or .jsonl" for name in _TABLES if name == operator), ".json",
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


def _rows(place: Path, *needed: str) -> Iterator[_Row]:
    """(line, row) of every row, each with a key of its own.

    Raises:
        UsageError: a row or the header is not as it must be.
    """
    seen: dict[str, int] = {}
    for line, row in _csv(place) if place.suffix.lower() == ".csv" else _json_lines(place):
        if not seen and ("key" not in row or (needed and not any(name in row for name in needed))):
            raise UsageError(
                f"{place}:1: the columns are {', '.join(row) or 'none'}",
                hint=f"the first line must name key and {' or '.join(needed)}",
            )
        key = row.get("key")
        if not key:
            raise UsageError(f"{place}:{line}: the key is empty", hint="write the image's key")
        if key in seen:
            raise UsageError(f"{place}:{line}: {key} stands on line {seen[key]} already", hint="keep one of them")
        seen[key] = line
        yield line, row
    if not seen:
        raise UsageError(f"{place}: it has no rows", hint="write a header, then a row for each image")


def _csv(place: Path) -> Iterator[_Row]:
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


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "|".join(_text(one) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _classes(place: Path) -> TruthSet:
    items = {}
    for line, row in _rows(place):
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
    columns = {name: value.strip() for name, value in row.items() if name != "key"}
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
    return TruthSet({row["key"]: TrueItem(text=row["text"]) for _, row in _rows(place, "text")}, str(place))


def _verdicts(place: Path) -> TruthSet:
    items = {}
    for line, row in _rows(place, "anomalous", "label"):
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
