"""Are a run's scores still distributed as those that a calibrator was fitted on? Two-sample Kolmogorov-Smirnov.

Two numbers of each prediction are watched: its score, and the `p_ok` that the calibrator gives it, which also sees what
the score does not, such as single masks. Each is tested at its part of the false alarm rate.

The calibrator keeps quantiles of the numbers that it stands for; a run counts its own between them, in memory of a
fixed size. The statistic D is the largest difference of the two distribution functions at those quantiles, which is
never more than the full statistic, so the false alarm rate is at most what was asked for where items are independent. A
difference too small to matter (under LEAST_DISTANCE) is no drift, however many items show it. Predictions without a
number (pages on which nothing was read) count as lower than all others: more of them than before is drift too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from winnow_workers.confidence.features import Floats

ALPHA = 0.001  # the false alarm rate where nobody asks for another
LEAST_DISTANCE = 0.05
LEAST_ITEMS = 50
_QUANTILES = 201


class Sketch(BaseModel):
    """A distribution of `n` scores: `shares[i]` of them are at most `scores[i]`; ascending.

    `silent` of the n predictions have no score; null in calibrators of before they were counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    scores: tuple[float, ...]
    shares: tuple[float, ...]
    silent: int | None = None


@dataclass(frozen=True, slots=True)
class Drift:
    """How far `n` numbers are from a sketch, and from which distance on that is drift; `of` is score or p_ok.

    `p_value` is that of all numbers that are watched together.
    """

    n: int
    distance: float
    threshold: float
    p_value: float
    of: str = "score"

    @property
    def has_drifted(self) -> bool:
        """Whether a warning is due."""
        return self.n >= LEAST_ITEMS and self.distance > self.threshold


class Counted:
    """Counts scores between a sketch's quantiles."""

    def __init__(self, sketch: Sketch) -> None:
        self._sketch = sketch
        self._counts = np.zeros(len(sketch.scores) + 1, np.int64)
        self._silent = 0

    def add(self, scores: np.ndarray[Any, np.dtype[np.floating[Any]]]) -> None:
        """Some more, NaN where a prediction has none: left out where the sketch does not know how many had none."""
        finite = np.asarray(scores, np.float64)
        finite = finite[np.isfinite(finite)]
        if self._sketch.silent is not None:
            self._silent += len(scores) - len(finite)
        places = np.searchsorted(np.array(self._sketch.scores), finite, side="left")
        self._counts += np.bincount(places, minlength=len(self._counts))

    def drift(self, alpha: float = ALPHA, *, of: int = 2) -> Drift:
        """Of all that were added, at the false alarm rate `alpha` of `of` numbers together."""
        n, m = int(self._counts.sum()) + self._silent, self._sketch.n
        if n == 0:
            return Drift(0, 0.0, 1.0, 1.0)
        shares = np.append(self._silent, self._silent + np.cumsum(self._counts)[:-1]) / n
        expected = np.append((self._sketch.silent or 0) / m, self._sketch.shares)
        distance = float(np.abs(shares - expected).max())
        critical = math.sqrt(-math.log(alpha / of / 2) / 2 * (n + m) / (n * m))
        p_value = min(1.0, of * 2 * math.exp(-2 * distance**2 * n * m / (n + m)))
        return Drift(n, distance, max(critical, LEAST_DISTANCE), p_value)


class Watch:
    """Counts several numbers of each prediction, each between the quantiles of its own sketch."""

    def __init__(self, sketches: Mapping[str, Sketch]) -> None:
        self._counted = {name: Counted(one) for name, one in sketches.items()}

    def add(self, columns: Mapping[str, np.ndarray[Any, np.dtype[np.floating[Any]]]]) -> None:
        """Some more predictions, NaN where one has no such number; a column for each sketch at least."""
        for name, counted in self._counted.items():
            counted.add(columns[name])

    def drift(self, alpha: float = ALPHA) -> Drift:
        """The number that has parted the most, over its threshold."""
        of = len(self._counted)
        found = [replace(counted.drift(alpha, of=of), of=name) for name, counted in self._counted.items()]
        return max(found, key=lambda one: one.distance / one.threshold)


def sketch(scores: Floats) -> Sketch:
    """Of (n,) scores, NaN where a prediction has none, at least one finite."""
    ordered = np.sort(scores[np.isfinite(scores)])
    silent = len(scores) - len(ordered)
    points = np.unique(np.quantile(ordered, np.linspace(0.0, 1.0, _QUANTILES), method="inverted_cdf"))
    shares = (silent + np.searchsorted(ordered, points, side="right")) / len(scores)
    return Sketch(n=len(scores), scores=tuple(map(float, points)), shares=tuple(map(float, shares)), silent=silent)
