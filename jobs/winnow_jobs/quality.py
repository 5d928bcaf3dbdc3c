"""How good are a run's predictions? Measured against a table of what is true, one measure for each task.

A truth table has a row per item, joined with the results on `key`: `operator` names the kind of task that the row says
something about, and `label`, `text`, `anomalous` or `masks` (JSON: class -> COCO RLE) what is true. Rows whose `clean`
is false, spoiled on purpose, are left out of the character error. Each number is the one of `winnow evaluate`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from winnow_jobs.evaluation.compare import Pair, compare
from winnow_jobs.evaluation.true_items import TrueItem
from winnow_storage.errors import UsageError
from winnow_workers.evaluation.acceptance import Acceptance

Measured = tuple[str, float, int]  # name, value, items


@dataclass(frozen=True, slots=True)
class Target:
    """What a measure is to reach: `at_least` or `at_most`."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Whether `value` reaches it; NaN never does."""
        low = self.at_least is None or value >= self.at_least
        return low and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"at least {self.at_least}" if self.at_least is not None else f"at most {self.at_most}"


@dataclass(frozen=True, slots=True)
class QualityMeasure:
    """One number about one task ("items" for the outcomes), over `n` items."""

    task: str
    name: str
    value: float
    n: int
    target: Target | None = None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        wanted = None if self.target is None else {"text": str(self.target), "met": self.target.met(self.value)}
        return {"task": self.task, "name": self.name, "value": self.value, "n": self.n, "target": wanted}


def measure(
    truth: pa.Table, results: pa.Table, tasks: Mapping[str, str], *, targets: Mapping[str, Target] | None = None
) -> list[QualityMeasure]:
    """Measure every task (name -> operator) that the truth says something about, and the outcomes.

    Raises:
        UsageError: the truth has no `key` column.
    """
    if "key" not in truth.column_names:
        raise UsageError("the truth has no column 'key'", hint="give a Parquet file with a row per item and its key")
    known = {row["key"]: row for row in truth.to_pylist()}
    found: list[tuple[str, Measured]] = [("items", _outcomes(known, results))] if _says_outcomes(truth) else []
    for name, operator in tasks.items():
        pairs = _pairs(known, results, name, operator) if operator in _MEASURES else []
        if pairs:
            shown, measured = _MEASURES[operator]
            record = compare(pairs, operator, Acceptance())
            found.append((name, (shown, record["measures"][measured], record["n"])))
    wanted = targets or {}
    return [QualityMeasure(task, what, value, count, wanted.get(what)) for task, (what, value, count) in found]


def _says_outcomes(truth: pa.Table) -> bool:
    return "expected_outcome" in truth.column_names


def _outcomes(known: Mapping[str, Mapping[str, Any]], results: pa.Table) -> Measured:
    got = dict(zip(results["key"].to_pylist(), results["outcome"].to_pylist(), strict=True))
    right = sum(1 for key, row in known.items() if got.get(key) == row["expected_outcome"])
    return "outcomes as expected", right / max(1, len(known)), len(known)


def _pairs(known: Mapping[str, Mapping[str, Any]], results: pa.Table, task: str, operator: str) -> list[Pair]:
    if task not in results.column_names:
        return []
    pairs: list[Pair] = []
    columns = (results[name].to_pylist() for name in ("key", "outcome", task))
    for key, outcome, struct in zip(*columns, strict=True):
        row = known.get(key)
        if row is None or row.get("operator") != operator or (struct is None and outcome == "done"):
            continue  # the truth says nothing about it, or the run did not ask this task
        if operator == "ocr" and row.get("clean") is False:
            continue
        failed = struct is None or struct["error"] is not None
        pairs.append(Pair(key, _true(row, operator), None if failed else struct))
    return pairs


def _true(row: Mapping[str, Any], operator: str) -> TrueItem:
    if operator == "classify":
        return TrueItem(label=row["label"])
    if operator == "ocr":
        return TrueItem(text=row["text"] or "")
    if operator == "segment":
        return TrueItem(masks=json.loads(row["masks"] or "{}"))
    return TrueItem(anomalous=bool(row["anomalous"]))


# operator -> what it is measured by, as people read it and in the record of `evaluation.compare`
_MEASURES: Mapping[str, tuple[str, str]] = {
    "classify": ("accuracy", "accuracy"),
    "ocr": ("character error", "character_error_rate"),
    "segment": ("mean IoU", "mean_item_iou"),
    "anomaly": ("AUROC", "auroc"),
}
