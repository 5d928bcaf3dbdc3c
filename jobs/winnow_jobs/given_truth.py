"""What does a file say is true of a uniform random sample? A truth for `winnow learn`, in the form of labels' values.

A table (Parquet or CSV) has a row per item: `key`, and what its operator asks for. A `.json` file is COCO's, for detect
and segment; its file names are the items' keys.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from winnow_jobs.evaluation.true_items import TrueItem
from winnow_jobs.evaluation.truth import read_truth
from winnow_jobs.resolved import ResolvedTask
from winnow_storage.errors import UsageError
from winnow_workers.classifiers.label_tree import path_to

Values = Mapping[str, Sequence[Mapping[str, Any]]]  # by item: what each person, or the truth, says
_OF_COCO = ("detect", "segment")


@dataclass(frozen=True, slots=True)
class Truths:
    """What is known of items, by `name`: "item_id" or "key"."""

    name: str
    values: Values
    source: str
    purposes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)  # by purpose, labels that are of no uniform draw
    versions: Mapping[str, str] = field(default_factory=dict)  # of the items that people saw
    set_aside: int = 0  # items whose answers may have taught the model


class GivenTruth:
    """A file, read once for all tasks."""

    def __init__(self, file: Path) -> None:
        """Read a table; COCO is read when a task asks.

        Raises:
            UsageError: the file cannot be read, or its rows have no key.
        """
        self._file = file
        self._is_coco = file.suffix.lower() == ".json"
        if not self._is_coco:
            self._rows  # noqa: B018  a file that cannot be read is said before any work

    def of(self, task: ResolvedTask) -> Truths:
        """What it says about a task.

        Raises:
            UsageError: it is COCO, and says nothing about such a task, or cannot be read; a row holds no JSON.
        """
        if not self._is_coco:
            rows = [row for row in self._rows if row.get("operator") in (None, task.operator)]
            return Truths("key", {row["key"]: [self._value(task, row)] for row in rows}, "truth")
        if task.operator not in _OF_COCO:
            raise UsageError(
                f"task {task.name}: COCO JSON says nothing about {task.operator}",
                hint="give --truth a Parquet or CSV file with a row per item, and name the task with --tasks",
            )
        there = read_truth(self._file, task.operator).items
        return Truths("key", {key: [_coco_value(item)] for key, item in there.items()}, "truth")

    def _value(self, task: ResolvedTask, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row (see `quality`) as a label's value."""
        if task.operator == "detect":
            return {"boxes": self._parsed(row, "boxes")}
        if task.operator == "segment":
            there = self._parsed(row, "masks")
            return {"masks": None if there is None else [{"label": label, "rle": rle} for label, rle in there.items()]}
        labels = row.get("labels")
        several = [one.strip() for one in labels.split("|") if one.strip()] if isinstance(labels, str) else labels
        label, tree = row.get("label"), task.params.get("tree") or {}
        path = path_to(label, tree) if label is not None and label in tree else None
        others = {"full_text": row.get("text"), "is_anomalous": row.get("anomalous")}
        return {"label": label, "labels": several, "path": path} | others

    def _parsed(self, row: Mapping[str, Any], name: str) -> Any:
        text = row.get(name)
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise UsageError(
                f"the truth {self._file}, key {row['key']}: its {name} are no JSON: {error}",
                hint='boxes are [{"label": ..., "box": [left, top, right, bottom]}, ...], masks {label: RLE}',
            ) from error

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        file = self._file
        try:
            table = pyarrow.csv.read_csv(file) if file.suffix == ".csv" else pq.read_table(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise UsageError(
                f"the truth {file} cannot be read: {error}", hint="give a Parquet or CSV file, or COCO JSON"
            ) from error
        if "key" not in table.column_names:
            raise UsageError(f"the truth {file} has no column 'key'", hint="give a row per item with its key")
        for name in ("label", "labels", "text", "key"):
            if name in table.column_names and not pa.types.is_nested(table.schema.field(name).type):
                # a CSV with labels such as 7 has them as numbers
                place = table.column_names.index(name)
                table = table.set_column(place, name, table[name].cast(pa.string()))
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


def _coco_value(item: TrueItem) -> dict[str, Any]:
    boxes = item.objects and [{"label": one.label, "box": one.box, "crowd": one.crowd} for one in item.objects]
    masks = item.masks and [{"label": label, "rle": rle} for label, rle in item.masks.items()]
    there = {"boxes": [] if boxes is None else list(boxes), "masks": [] if masks is None else list(masks)}
    return there | {"ignored": item.ignored}  # the pixels of crowds
