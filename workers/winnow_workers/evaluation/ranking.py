"""How well does a score rank positives above negatives? AUROC, average precision, the best F1."""

from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.floating[Any]]
Truth = npt.NDArray[Any]  # (n,), boolean or 0 and 1


def auroc(scores: Scores, positive: Truth) -> float:
    """The chance that a positive scores above a negative, ties counting half (Mann and Whitney); NaN unless both occur.

    Infinite scores rank as such.
    """
    values, above, below = _by_score(scores, np.asarray(positive, np.float64))
    return weighted_auroc(values, above, below)


def weighted_auroc(values: Scores, positives: Scores, negatives: Scores) -> float:
    """The same of `positives` and `negatives` (n,) counts at each of `values` (n,), distinct and descending."""
    if not positives.sum() or not negatives.sum():
        return float("nan")
    before = np.cumsum(positives) - positives / 2
    return float((before * negatives).sum() / (positives.sum() * negatives.sum())) if len(values) else float("nan")


def average_precision(scores: Scores, positive: Truth) -> float:
    """The sum over thresholds of precision times the recall gained there, equal scores at once; NaN without positives.

    This is the area under the step function, not interpolated (as scikit-learn has it).
    """
    _, above, below = _by_score(scores, np.asarray(positive, np.float64))
    if not above.sum():
        return float("nan")
    hits, taken = np.cumsum(above), np.cumsum(above + below)
    return float((above / above.sum() * hits / taken).sum())


def best_f1(scores: Scores, positive: Truth) -> tuple[float, float]:
    """(the highest F1 over all thresholds, the threshold: score >= it is positive); NaN without positives."""
    values, above, below = _by_score(scores, np.asarray(positive, np.float64))
    if not above.sum():
        return float("nan"), float("nan")
    f1 = 2 * np.cumsum(above) / (np.cumsum(above + below) + above.sum())
    best = int(f1.argmax())
    return float(f1[best]), float(values[best])


def roc_points(scores: Scores, positive: Truth, at_most: int = 200) -> list[tuple[float, float]]:
    """(false positive rate, true positive rate) for drawing, from (0, 0) to (1, 1); nothing unless both occur."""
    _, above, below = _by_score(scores, np.asarray(positive, np.float64))
    if not above.sum() or not below.sum():
        return []
    true, false = np.cumsum(above) / above.sum(), np.cumsum(below) / below.sum()
    chosen = np.unique(np.linspace(0, len(true) - 1, min(len(true), at_most)).round().astype(np.int64))
    return [(0.0, 0.0), *((float(false[k]), float(true[k])) for k in chosen)]


def _by_score(scores: Scores, positive: Scores) -> tuple[Scores, Scores, Scores]:
    """Distinct scores, descending, and how many positives and negatives have each."""
    values, places = np.unique(-np.asarray(scores, np.float64), return_inverse=True)
    above = np.bincount(places, weights=positive, minlength=len(values)).astype(np.float64)
    below = np.bincount(places, weights=1.0 - positive, minlength=len(values)).astype(np.float64)
    return -values, above, below
