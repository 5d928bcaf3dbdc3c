"""How good is a task's prediction of every item, and of all of them together? Pairs of truth and struct to a record.

A task that failed on an item counts against it: an answer that is never right stands in for the missing one. Each
number is defined in `winnow_workers.evaluation`; what "ok" means in `acceptance` there.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow_jobs.evaluation.measure import Judged, Measure, Pair, Struct
from winnow_jobs.evaluation.measure_anomaly import AnomalyMeasure
from winnow_jobs.evaluation.measure_classes import ClassifyMeasure
from winnow_jobs.evaluation.measure_neighbours import EmbedMeasure
from winnow_jobs.evaluation.measure_objects import DetectMeasure, SegmentMeasure
from winnow_jobs.evaluation.measure_texts import OcrMeasure
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.calibration_error import BINS, reliability
from winnow_workers.evaluation.intervals import bootstrap, clopper_pearson
from winnow_workers.evaluation.risk_coverage import risk_coverage

__all__ = ["OPERATORS", "Pair", "Resampling", "Struct", "compare"]
CURVE_POINTS = 100

OPERATORS: Mapping[str, Callable[[Acceptance], Measure]] = {
    "classify": ClassifyMeasure,
    "detect": DetectMeasure,
    "segment": SegmentMeasure,
    "ocr": OcrMeasure,
    "anomaly": AnomalyMeasure,
    "embed": EmbedMeasure,
}


@dataclass(frozen=True, slots=True)
class Resampling:
    """How often items are drawn again for intervals; never, at 0."""

    draws: int = 0
    seed: int = 0


@dataclass(slots=True)
class _Kept:
    """What is kept of every item: 41 bytes beside its key. `other` ranks predictions that have no p_ok."""

    keys: list[str] = field(default_factory=list)
    ok: "array[int]" = field(default_factory=lambda: array("b"))
    value: "array[float]" = field(default_factory=lambda: array("d"))
    weight: "array[float]" = field(default_factory=lambda: array("d"))
    p_ok: "array[float]" = field(default_factory=lambda: array("d"))
    other: "array[float]" = field(default_factory=lambda: array("d"))
    failed: int = 0


def compare(
    pairs: Iterable[Pair],
    operator: str,
    wanted: Acceptance,
    *,
    has_where: bool = False,
    resampling: Resampling | None = None,
) -> dict[str, Any]:
    """The record of one task over at least one pair; `per_item` has a list for each column, an entry for each item.

    Raises:
        KeyError: nothing is defined for this operator (see `OPERATORS`).
        UsageError: truth and prediction of an item cannot be compared.
    """
    measure = AnomalyMeasure(wanted, has_where=has_where) if operator == "anomaly" else OPERATORS[operator](wanted)
    kept = _Kept()
    for pair in pairs:
        _keep(kept, pair, measure.add(pair), measure)
    ok = np.frombuffer(kept.ok, np.int8).astype(np.bool_)
    column, confidence = _confidence(kept, measure)
    curve = risk_coverage(confidence, ok)
    measures = {
        "ok_share": float(ok.mean()),
        **measure.measures(),
        "aurc": curve.aurc,
        "excess_aurc": curve.excess_aurc,
        "errors_found_by_reviewing_10_percent": curve.found_by_review(0.1),
    }
    tables = measure.tables() | {"risk_coverage": curve.points(CURVE_POINTS)}
    more, reliabilities = _calibration(confidence, ok)
    intervals = {"ok_share": clopper_pearson(int(ok.sum()), len(ok)), **measure.intervals()}
    if resampling is not None and resampling.draws:
        for name, statistic in measure.statistics().items():
            intervals[name] = bootstrap(statistic, len(ok), draws=resampling.draws, seed=resampling.seed)
    return {
        "n": len(ok),
        "failed": kept.failed,
        "notes": measure.notes(),
        "confidence": column,
        "without_confidence": int(np.isnan(confidence).sum()),
        "measures": measures | more,
        "intervals": {name: asdict(one) for name, one in intervals.items()},
        "tables": tables | reliabilities,
        "per_item": {
            "key": kept.keys,
            "ok": ok.tolist(),
            "value": kept.value.tolist(),
            "weight": kept.weight.tolist(),
            "confidence": confidence.tolist(),
        },
        "value_name": measure.value_name,
    }


def _keep(kept: _Kept, pair: Pair, judged: Judged, measure: Measure) -> None:
    struct = pair.struct
    p_ok = None if struct is None else struct.get("p_ok")
    other = None if struct is None else measure.confidence(struct)
    kept.keys.append(pair.key)
    kept.ok.append(judged.ok)
    kept.value.append(judged.value)
    kept.weight.append(judged.weight)
    kept.p_ok.append(float("nan") if p_ok is None else float(p_ok))
    kept.other.append(float("nan") if other is None else float(other))
    kept.failed += struct is None


def _confidence(kept: _Kept, measure: Measure) -> tuple[str, npt.NDArray[np.float64]]:
    """p_ok where any item has one, else what stands in for it: the two are never mixed. NaN where it is null."""
    for name, values in (("p_ok", kept.p_ok), (measure.confidence_name, kept.other)):
        found = np.frombuffer(values, np.float64)
        if not np.isnan(found).all():
            return name, found
    return "none", np.full(len(kept.ok), np.nan)


def _calibration(
    confidence: npt.NDArray[np.float64], ok: npt.NDArray[np.bool_]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Nothing where a confidence is none in [0, 1]. Items that failed made no claim, and are left out."""
    known = ~np.isnan(confidence)
    if not known.any() or confidence[known].min() < 0.0 or confidence[known].max() > 1.0:
        return {}, {}
    bins = reliability(confidence[known], ok[known], bins=BINS)
    rows = [[one.low, one.high, one.count, one.mean_confidence, one.share_ok] for one in bins.table()]
    return {"ece": bins.ece, "largest_gap": bins.largest_gap, "brier": bins.brier}, {"reliability": rows}
