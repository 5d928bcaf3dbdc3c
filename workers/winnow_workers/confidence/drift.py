"""Are a run's scores still distributed as those that a calibrator was fitted on? Two-sample Kolmogorov-Smirnov.

The calibrator keeps quantiles of the scores that it stands for; a run counts its own between them, in memory of a fixed
size. The statistic D is the largest difference of the two distribution functions at those quantiles, which is never
more than the full statistic, so the false alarm rate is at most ALPHA where items are independent. A difference too
small to matter (under LEAST_DISTANCE) is no drift, however many items show it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from winnow_workers.confidence.features import Floats

ALPHA = 0.001
LEAST_DISTANCE = 0.05
LEAST_ITEMS = 50
_QUANTILES = 201


class Sketch(BaseModel):
    """A distribution of `n` scores: `shares[i]` of them are at most `scores[i]`; ascending."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    scores: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How far `n` scores are from a sketch, and from which distance on that is drift."""

    n: int
    distance: float
    threshold: float

    @property
    def has_drifted(self) -> bool:
        """Whether a warning is due."""
        return self.n >= LEAST_ITEMS and self.distance > self.threshold


class Counted:
    """Counts scores between a sketch's quantiles."""

    def __init__(self, sketch: Sketch) -> None:
        self._sketch = sketch
        self._counts = np.zeros(len(sketch.scores) + 1, np.int64)

    def add(self, scores: np.ndarray[Any, np.dtype[np.floating[Any]]]) -> None:
        """Some more; those that are not finite are left out."""
        finite = np.asarray(scores, np.float64)
        finite = finite[np.isfinite(finite)]
        places = np.searchsorted(np.array(self._sketch.scores), finite, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))

    def drift(self) -> Drift:
        """Of all that were added."""
        n, m = int(self._counts.sum()), self._sketch.n
        if n == 0:
            return Drift(0, 0.0, 1.0)
        shares = np.cumsum(self._counts)[:-1] / n
        distance = float(np.abs(shares - np.array(self._sketch.shares)).max())
        critical = np.sqrt(-np.log(ALPHA / 2) / 2) * np.sqrt((n + m) / (n * m))
        return Drift(n, distance, max(float(critical), LEAST_DISTANCE))


def sketch(scores: Floats) -> Sketch:
    """Of (n,) finite scores, at least one."""
    ordered = np.sort(scores)
    points = np.unique(np.quantile(ordered, np.linspace(0.0, 1.0, _QUANTILES), method="inverted_cdf"))
    shares = np.searchsorted(ordered, points, side="right") / len(ordered)
    return Sketch(n=len(ordered), scores=tuple(map(float, points)), shares=tuple(map(float, shares)))
