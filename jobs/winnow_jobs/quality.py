"""How good are a run's predictions? Measured against a table of what is true, one measure for each task.

A truth table has a row per item, joined with the results on `key`: `operator` names the kind of task that the row says
something about, and `label`, `text`, `anomalous` or `masks` (JSON: class -> COCO RLE) what is true. Rows whose `clean`
is false, spoiled on purpose, are left out of the character error.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from winnow_storage.errors import UsageError

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]  # a row of the truth, and the prediction's struct
Measured = tuple[str, float, int]  # name, value, items

_NO_ANSWER: Mapping[str, Any] = {"label": None, "full_text": "", "masks": [], "score": 0.0}


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
        measured = _MEASURES.get(operator)
        pairs = _pairs(known, results, name, operator)
        if measured is not None and pairs:
            found.append((name, measured(pairs)))
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
        # what a task failed on counts against it: an answer that is never right stands in for the missing one
        pairs.append((row, _NO_ANSWER if struct is None or struct["error"] is not None else struct))
    return pairs


def _accuracy(pairs: Sequence[Pair]) -> Measured:
    """The share of items whose first label is the true one."""
    right = sum(1 for row, struct in pairs if struct["label"] == row["label"])
    return "accuracy", right / len(pairs), len(pairs)


def _character_error(pairs: Sequence[Pair]) -> Measured:
    """Levenshtein distance over the length of the truth, summed over the clean items; runs of white space are one."""
    from rapidfuzz.distance import Levenshtein

    clean = [(row, struct) for row, struct in pairs if row.get("clean") is not False]
    texts = [(_squeeze(row["text"]), _squeeze(struct["full_text"])) for row, struct in clean]
    length = sum(len(true) for true, _ in texts)
    errors = sum(Levenshtein.distance(true, read) for true, read in texts)
    return "character error", errors / max(1, length), len(clean)


def _mean_iou(pairs: Sequence[Pair]) -> Measured:
    """Intersection over union of each (item, class) that is in the truth or in the prediction, averaged."""
    from pycocotools import mask as coco

    ious: list[float] = []
    for row, struct in pairs:
        true = json.loads(row["masks"] or "{}")
        seen = {one["label"]: one["rle"] for one in struct["masks"] or []}
        for label in sorted({*true, *seen}):
            if label in true and label in seen:
                ious.append(float(coco.iou([_rle(seen[label])], [_rle(true[label])], [0])[0][0]))
            else:
                ious.append(0.0)
    return "mean IoU", float(np.mean(ious)) if ious else float("nan"), len(pairs)


def _auroc(pairs: Sequence[Pair]) -> Measured:
    """Area under the ROC curve of the anomaly score; NaN unless both kinds are there."""
    from sklearn.metrics import roc_auc_score

    true = [bool(row["anomalous"]) for row, _ in pairs]
    value = float(roc_auc_score(true, [struct["score"] for _, struct in pairs])) if len(set(true)) > 1 else float("nan")
    return "AUROC", value, len(pairs)


def _squeeze(text: str | None) -> str:
    return " ".join((text or "").split())


def _rle(rle: Mapping[str, Any]) -> dict[str, Any]:
    return {"size": list(rle["size"]), "counts": rle["counts"].encode("ascii")}


_MEASURES: Mapping[str, Callable[[Sequence[Pair]], Measured]] = {
    "classify": _accuracy,
    "ocr": _character_error,
    "segment": _mean_iou,
    "anomaly": _auroc,
}
