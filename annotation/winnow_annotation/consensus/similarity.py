"""How alike are two people's answers about an item? One number in [0, 1] for every operator; 1 is the same."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from winnow_annotation.consensus.clusters import MATCH_IOU, Iou, Shape
from winnow_annotation.consensus.opinions import Value
from winnow_annotation.consensus.shapes import box_iou, label_mask_iou, with_pixels


def similarity(operator: str, first: Value, second: Value) -> float | None:
    """Of classes and verdicts 1 or 0; of sets of labels their F1; of boxes and masks the F1 of those that match (same
    label, IoU from 0.5); of texts 1 less the edits per character; of neighbours the share that both call alike. None
    where one of them says nothing.
    """
    return _KINDS[operator](first, second)


def _same(field: str) -> Callable[[Value, Value], float | None]:
    def compare(first: Value, second: Value) -> float | None:
        if first.get(field) is None or second.get(field) is None:
            return None
        return float(first[field] == second[field])

    return compare


def _labels(first: Value, second: Value) -> float | None:
    if first.get("labels") is None or second.get("labels") is None:
        return _same("label")(first, second)
    one, other = set(first["labels"]), set(second["labels"])
    return 2.0 * len(one & other) / (len(one) + len(other)) if one or other else 1.0


def _boxes(first: Value, second: Value) -> float | None:
    if first.get("boxes") is None or second.get("boxes") is None:
        return None
    return _f1(first["boxes"], second["boxes"], _labelled(box_iou))


def _masks(first: Value, second: Value) -> float | None:
    if first.get("masks") is None or second.get("masks") is None:
        return None
    return _f1(with_pixels(first["masks"]), with_pixels(second["masks"]), label_mask_iou)


def _texts(first: Value, second: Value) -> float | None:
    one, other = first.get("full_text"), second.get("full_text")
    if one is None or other is None:
        return None
    longest = max(len(one), len(other), 1)
    return 1.0 - int(Levenshtein.distance(one, other)) / longest


def _neighbours(first: Value, second: Value) -> float | None:
    one, other = (
        {item["item_id"]: item["same"] for item in value.get("neighbours") or () if item["same"] is not None}
        for value in (first, second)
    )
    both = one.keys() & other.keys()
    return sum(one[name] == other[name] for name in both) / len(both) if both else None


def _labelled(iou: Iou) -> Iou:
    return lambda first, second: iou(first, second) if first.get("label") == second.get("label") else 0.0


def _f1(first: Sequence[Shape], second: Sequence[Shape], iou: Iou) -> float:
    if not first and not second:
        return 1.0
    table = np.array([[iou(one, other) for other in second] for one in first])
    if not table.size:
        return 0.0
    rows, columns = linear_sum_assignment(table, maximize=True)
    matched = int((table[rows, columns] >= MATCH_IOU).sum())
    return 2.0 * matched / (len(first) + len(second))


_KINDS: Mapping[str, Callable[[Any, Any], float | None]] = MappingProxyType(
    {
        "classify": _labels,
        "anomaly": _same("is_anomalous"),
        "detect": _boxes,
        "segment": _masks,
        "ocr": _texts,
        "embed": _neighbours,
    }
)
