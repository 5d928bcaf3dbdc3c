"""What does a file say is true of a uniform random sample? A truth for `winnow learn`, in the form of labels' values.

Files are read as `winnow evaluate` reads them. A table has a row per item: `key`, and what its operator asks for; of
detect and segment `boxes` or `masks`, as JSON. A `.json` file is COCO's, for these two; its file names are the items'
keys.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from winnow_jobs.evaluation.true_items import TrueItem, with_paths
from winnow_jobs.evaluation.truth import read_truth, truth_rows
from winnow_jobs.resolved import ResolvedTask
from winnow_storage.errors import UsageError

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
    file: Path | None = None

    def unfit(self, key: str, error: ValueError) -> UsageError:
        """What is said where an item's masks are of another size than the predicted ones."""
        place = "" if self.file is None else f"{self.file}: "
        return UsageError(
            f"{place}key {key}: {error}",
            hint="correct the truth: its masks must be of the upright image's size",
        )


class GivenTruth:
    """A file, read when a task asks."""

    def __init__(self, file: Path) -> None:
        """Look whether it is there.

        Raises:
            UsageError: it is no file.
        """
        if not file.is_file():
            raise UsageError(f"there is no truth at {file}", hint="give --truth a file")
        self._file = file

    def of(self, task: ResolvedTask) -> Truths:
        """What it says about a task.

        Raises:
            UsageError: it says nothing about such a task, or cannot be read; names file and line.
        """
        if self._file.suffix.lower() == ".json":
            return Truths("key", {key: [value] for key, value in self._of_coco(task).items()}, "truth", file=self._file)
        if task.kind in _OF_COCO:
            rows = truth_rows(self._file, task.kind)
            return Truths(
                "key", {row["key"]: [self._parts(task, line, row)] for line, row in rows}, "truth", file=self._file
            )
        there = with_paths(read_truth(self._file, task.kind), task.params.get("tree") or {})
        return Truths("key", {key: [_value(item)] for key, item in there.items.items()}, "truth")

    def _of_coco(self, task: ResolvedTask) -> dict[str, dict[str, Any]]:
        if task.kind not in _OF_COCO:
            raise UsageError(
                f"task {task.name}: COCO JSON says nothing about {task.kind}",
                hint="give --truth a Parquet or CSV file with a row per item, and name the task with --tasks",
            )
        return {key: _coco_value(item) for key, item in read_truth(self._file, task.kind).items.items()}

    def _parts(self, task: ResolvedTask, line: int, row: Mapping[str, str]) -> dict[str, Any]:
        """The boxes or masks of a row as a label's value."""
        name = "boxes" if task.kind == "detect" else "masks"
        try:
            found = json.loads(row.get(name, ""))
        except ValueError as error:
            raise UsageError(
                f"{self._file}:{line}: key {row['key']}: its {name} are no JSON: {error}",
                hint='boxes are [{"label": ..., "box": [left, top, right, bottom]}, ...], masks {label: RLE}',
            ) from error
        if name == "masks" and found is not None:
            found = [{"label": label, "rle": rle} for label, rle in found.items()]
        return {name: found}


def _value(item: TrueItem) -> dict[str, Any]:
    labels, path = (None if some is None else list(some) for some in (item.labels, item.path))
    return {
        "label": item.label,
        "labels": labels,
        "path": path,
        "full_text": item.text,
        "is_anomalous": item.anomalous,
    }


def _coco_value(item: TrueItem) -> dict[str, Any]:
    boxes = item.objects and [{"label": one.label, "box": one.box, "crowd": one.crowd} for one in item.objects]
    masks = item.masks and [{"label": label, "rle": rle} for label, rle in item.masks.items()]
    there = {"boxes": [] if boxes is None else list(boxes), "masks": [] if masks is None else list(masks)}
    return there | {"ignored": item.ignored}  # the pixels of crowds
