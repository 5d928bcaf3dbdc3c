"""How good is a task's prediction of every item, and of all of them together? Pairs of truth and struct to numbers.

A task that failed on an item counts against it: an answer that is never right stands in for the missing one. Each
measure is defined in `winnow_workers.evaluation`; what "ok" means in `acceptance`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from winnow_jobs.evaluation.truth import TrueItem
from winnow_workers.evaluation import acceptance, classes, masks, multilabel, ranking, texts
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.boxes import NOTHING, Objects, match
from winnow_workers.evaluation.calibration_error import reliability
from winnow_workers.evaluation.intervals import clopper_pearson
from winnow_workers.evaluation.risk_coverage import risk_coverage

Struct = Mapping[str, Any] | None  # None: the task failed on the item
Measures = dict[str, float]
MOST_CONFUSED = 20
TOP_K = (1, 3, 5)


@dataclass(frozen=True, slots=True)
class Pair:
    """One item: its key, what is true, and the task's struct."""

    key: str
    truth: TrueItem
    struct: Struct


@dataclass(frozen=True, slots=True)
class Compared:
    """Numbers over all items; `ok` and `confidence` (NaN where there is none) per item; tables to show."""

    measures: Measures
    ok: Sequence[bool]
    tables: Mapping[str, Any]


def compare(pairs: Sequence[Pair], operator: str, wanted: Acceptance) -> dict[str, Any]:
    """The record of one task over at least one pair.

    Raises:
        KeyError: nothing is defined for this operator (see `OPERATORS`).
    """
    compared = OPERATORS[operator](pairs, wanted)
    ok = np.array(compared.ok, np.bool_)
    column, confidence = _confidence(pairs)
    curve = risk_coverage(confidence, ok)
    interval = clopper_pearson(int(ok.sum()), len(ok))
    measures = {
        "ok_share": float(ok.mean()),
        **compared.measures,
        "aurc": curve.aurc,
        "excess_aurc": curve.excess_aurc,
        "errors_found_by_reviewing_10_percent": curve.found_by_review(0.1),
    }
    record: dict[str, Any] = {
        "n": len(pairs),
        "failed": sum(pair.struct is None for pair in pairs),
        "ok_interval_95": [interval.low, interval.high],
        "confidence": column,
        "measures": measures,
        "tables": dict(compared.tables) | {"risk_coverage": curve.points(50)},
    }
    known = np.isfinite(confidence) & (confidence >= 0) & (confidence <= 1)
    if column == "p_ok" and known.any():
        bins = reliability(confidence[known], ok[known])
        measures |= {"ece": bins.ece, "brier": bins.brier}
        record["tables"]["reliability"] = [[one.low, one.high, one.count, one.mean_confidence, one.share_ok]
                                           for one in bins.table()]  # fmt: skip
    return record | {"per_item": [(pair.key, bool(one)) for pair, one in zip(pairs, ok, strict=True)]}


def _confidence(pairs: Sequence[Pair]) -> tuple[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """p_ok where any item has one, else the score; NaN where it is null."""
    for column in ("p_ok", "score"):
        values = [None if pair.struct is None else pair.struct.get(column) for pair in pairs]
        if any(value is not None for value in values):
            return column, np.array([np.nan if value is None else value for value in values], np.float64)
    return "none", np.full(len(pairs), np.nan)


def _classify(pairs: Sequence[Pair], _wanted: Acceptance) -> Compared:
    if any(pair.truth.labels is not None for pair in pairs):
        return _several_labels(pairs)
    true = [pair.truth.label or "" for pair in pairs]
    said = [None if pair.struct is None else pair.struct["label"] for pair in pairs]
    ranked = [[] if pair.struct is None else [one["label"] for one in pair.struct["top"]] for pair in pairs]
    counts = classes.confusion(true, said)
    scores = classes.class_scores(counts)
    measures = {"accuracy": classes.accuracy(counts), "balanced_accuracy": classes.balanced_accuracy(scores)}
    for k in TOP_K[1:]:
        hits = [classes.top_k_hit(label, order, k) for label, order in zip(true, ranked, strict=True)]
        measures[f"top_{k}_accuracy"] = float(np.mean(hits))
    for name, average in (("macro", classes.macro(scores)), ("weighted", classes.weighted(scores)),
                          ("micro", classes.micro(counts))):  # fmt: skip
        measures |= {
            f"{name}_precision": average.precision, f"{name}_recall": average.recall, f"{name}_f1": average.f1
        }  # fmt: skip
    return Compared(
        measures,
        [acceptance.label_ok(label, one) for label, one in zip(true, said, strict=True)],
        {"classes": _class_rows(scores), "most_confused": classes.most_confused(counts, MOST_CONFUSED)},
    )


def _several_labels(pairs: Sequence[Pair]) -> Compared:
    true = [frozenset(pair.truth.labels or ()) for pair in pairs]
    said = [_said_labels(pair.struct) for pair in pairs]
    scored = [_label_scores(pair.struct) for pair in pairs]
    labels = sorted({label for some in (*true, *said) for label in some})
    scores = multilabel.label_scores(true, said, labels)
    micro, macro = multilabel.micro_score(scores), classes.macro(scores)
    measures = {
        "subset_accuracy": multilabel.subset_accuracy(true, said),
        "hamming_loss": multilabel.hamming_loss(true, said, labels),
        "map": multilabel.mean_ap(multilabel.average_precisions(true, scored, labels)),
        "micro_f1": micro.f1,
        "macro_f1": macro.f1,
    }
    ok = [acceptance.labels_ok(one, other) for one, other in zip(true, said, strict=True)]
    return Compared(measures, ok, {"classes": _class_rows(scores)})


def _said_labels(struct: Struct) -> frozenset[str]:
    if struct is None:
        return frozenset()
    several = struct.get("labels")
    if several is not None:
        return frozenset(one if isinstance(one, str) else one["label"] for one in several)
    return frozenset([struct["label"]] if struct["label"] is not None else [])


def _label_scores(struct: Struct) -> dict[str, float]:
    return {} if struct is None else {one["label"]: float(one["score"]) for one in struct["top"] or []}


def _detect(pairs: Sequence[Pair], wanted: Acceptance) -> Compared:
    from winnow_workers.evaluation.coco_map import coco_map

    both = [(_true_objects(pair.truth), _said_boxes(pair.struct)) for pair in pairs]
    summary, per_class = coco_map(both, "bbox")
    found = [match(true, said.above(wanted.box_threshold), iou=wanted.box_iou) for true, said in both]
    hits, extra = sum(one.right for one in found), sum(one.extra for one in found)
    missed = sum(len(one.missed) for one in found)
    one = classes.score_of("", hits=hits, support=hits + missed, predicted=hits + extra)
    measures = summary | {"precision": one.precision, "recall": one.recall, "f1": one.f1}
    ok = [acceptance.boxes_ok(true, said, wanted) for true, said in both]
    return Compared(measures, ok, {"ap_per_class": sorted(per_class.items())})


def _true_objects(truth: TrueItem) -> Objects:
    objects = truth.objects or ()
    return Objects(
        np.array([one.box for one in objects], np.float64).reshape(-1, 4),
        tuple(one.label for one in objects),
        crowd=np.array([one.crowd for one in objects], np.bool_),
        areas=np.array([one.area for one in objects], np.float64),
    )


def _said_boxes(struct: Struct) -> Objects:
    boxes = [] if struct is None else struct["boxes"] or []
    if not boxes:
        return NOTHING
    return Objects(
        np.array([one["box"] for one in boxes], np.float64).reshape(-1, 4),
        tuple(one["label"] for one in boxes),
        np.array([one["score"] for one in boxes], np.float64),
    )


def _segment(pairs: Sequence[Pair], wanted: Acceptance) -> Compared:
    items = [masks.overlaps(pair.truth.masks or {}, _said_masks(pair.struct)) for pair in pairs]
    summed = masks.totals(items)
    measures = {
        "mean_iou": masks.mean_iou(summed),
        "mean_dice": masks.mean_dice(summed),
        "mean_item_iou": masks.mean_item_iou(items),
    }
    rows = [[label, one.iou, one.dice] for label, one in summed.items()]
    return Compared(measures, [acceptance.masks_ok(one, wanted) for one in items], {"iou_dice_per_class": rows})


def _said_masks(struct: Struct) -> dict[str, Any]:
    by_label: dict[str, list[Any]] = {}
    for one in (struct or {}).get("masks") or []:
        by_label.setdefault(one["label"], []).append(one["rle"])
    return {label: rles[0] if len(rles) == 1 else masks.union(rles) for label, rles in by_label.items()}


def _ocr(pairs: Sequence[Pair], wanted: Acceptance) -> Compared:
    read = ["" if pair.struct is None else pair.struct["full_text"] or "" for pair in pairs]
    errors = [
        texts.text_errors(pair.truth.text or "", text, wanted.normalisation)
        for pair, text in zip(pairs, read, strict=True)
    ]
    measures = {
        "character_error_rate": texts.error_rate([e.characters for e in errors], [e.true_characters for e in errors]),
        "word_error_rate": texts.error_rate([e.words for e in errors], [e.true_words for e in errors]),
    }
    failed = [pair.struct is None for pair in pairs]
    ok = [acceptance.text_ok(error) and not gone for error, gone in zip(errors, failed, strict=True)]
    return Compared(measures, ok, {})


def _anomaly(pairs: Sequence[Pair], _wanted: Acceptance) -> Compared:
    true = np.array([bool(pair.truth.anomalous) for pair in pairs])
    # an item without a score could be called neither: the least anomalous score counts against a defect
    scores = np.array([-np.inf if pair.struct is None else float(pair.struct["score"]) for pair in pairs])
    said = [None if pair.struct is None else bool(pair.struct["is_anomalous"]) for pair in pairs]
    f1, threshold = ranking.best_f1(scores, true)
    measures = {
        "auroc": ranking.auroc(scores, true),
        "average_precision": ranking.average_precision(scores, true),
        "f1_max": f1,
        "f1_max_threshold": threshold,
    }
    ok = [acceptance.verdict_ok(true=bool(one), predicted=other) for one, other in zip(true, said, strict=True)]
    measures["accuracy"] = float(np.mean(ok))
    return Compared(measures, ok, {"roc": ranking.roc_points(scores, true, 50)})


def _class_rows(scores: Sequence[classes.ClassScore]) -> list[list[Any]]:
    return [[one.label, one.precision, one.recall, one.f1, one.support, one.predicted] for one in scores]


OPERATORS: Mapping[str, Callable[[Sequence[Pair], Acceptance], Compared]] = {
    "classify": _classify,
    "detect": _detect,
    "segment": _segment,
    "ocr": _ocr,
    "anomaly": _anomaly,
}
