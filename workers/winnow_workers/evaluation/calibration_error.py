"""Does a confidence of 0.8 mean right in 80 of 100 cases? Reliability, expected calibration error, Brier score.

Confidences are claims in [0, 1] about outcomes that are 0 or 1 (1: the prediction passed its acceptance test).
Bins are fixed and equally wide: bin i of n holds [i / n, (i + 1) / n), the last one also 1.0.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
BINS = 15  # as in Guo et al., 2017


@dataclass(frozen=True, slots=True)
class Bin:
    """One row of the reliability table; the two means are NaN where the bin is empty."""

    low: float
    high: float
    count: int
    mean_confidence: float
    share_ok: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """Sums over claims, per bin: enough for every number here, and they add up over parts of the data.

    `counts`, `confidence_sums` and `ok_sums` have one entry per bin; `squares` is the sum of (confidence - ok)^2.
    """

    counts: npt.NDArray[np.int64]
    confidence_sums: Floats
    ok_sums: Floats
    squares: float

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.counts + other.counts,
            self.confidence_sums + other.confidence_sums,
            self.ok_sums + other.ok_sums,
            self.squares + other.squares,
        )

    @property
    def n(self) -> int:
        """How many claims there are."""
        return int(self.counts.sum())

    @property
    def ece(self) -> float:
        """The gaps |mean confidence - share ok|, weighted by counts (Naeini et al., 2015); NaN without claims."""
        return float(np.abs(self.confidence_sums - self.ok_sums).sum() / self.n) if self.n else float("nan")

    @property
    def largest_gap(self) -> float:
        """The largest |mean confidence - share ok| of any bin that holds something (MCE); NaN without claims."""
        filled = self.counts > 0
        gaps = np.abs(self.confidence_sums[filled] - self.ok_sums[filled]) / self.counts[filled]
        return float(gaps.max()) if gaps.size else float("nan")

    @property
    def brier(self) -> float:
        """The mean of (confidence - ok)^2 (Brier, 1950); NaN without claims."""
        return self.squares / self.n if self.n else float("nan")

    def table(self) -> list[Bin]:
        """The reliability table, the least confident bin first."""
        edges = bin_edges(len(self.counts))
        rows = zip(edges[:-1], edges[1:], self.counts, self.confidence_sums, self.ok_sums, strict=True)
        return [
            Bin(float(low), float(high), int(count), _share(confidence, count), _share(ok, count))
            for low, high, count, confidence, ok in rows
        ]


def bin_edges(bins: int) -> Floats:
    """The `bins` + 1 edges."""
    return np.linspace(0.0, 1.0, bins + 1).astype(np.float64)


def reliability(confidence: npt.NDArray[np.floating[Any]], ok: npt.NDArray[Any], *, bins: int = BINS) -> Reliability:
    """The sums of `confidence` (n,) in [0, 1] and `ok` (n,), boolean or 0 and 1.

    Raises:
        ValueError: they differ in length, or a confidence is no number in [0, 1].
    """
    claims, outcomes = np.asarray(confidence, np.float64), np.asarray(ok, np.float64)
    if claims.shape != outcomes.shape or claims.ndim != 1:
        raise ValueError(f"confidences of shape {claims.shape} for outcomes of shape {outcomes.shape}")
    if not ((claims >= 0.0) & (claims <= 1.0)).all():  # NaN is neither
        raise ValueError("a confidence is no number in [0, 1]")
    places = np.minimum(np.searchsorted(bin_edges(bins), claims, side="right") - 1, bins - 1)
    return Reliability(
        np.bincount(places, minlength=bins).astype(np.int64),
        np.bincount(places, weights=claims, minlength=bins).astype(np.float64),
        np.bincount(places, weights=outcomes, minlength=bins).astype(np.float64),
        float(((claims - outcomes) ** 2).sum()),
    )


def expected_calibration_error(
    confidence: npt.NDArray[np.floating[Any]], ok: npt.NDArray[Any], *, bins: int = BINS
) -> float:
    """`reliability(...).ece`.

    Raises:
        ValueError: as `reliability` does.
    """
    return reliability(confidence, ok, bins=bins).ece


def brier_score(confidence: npt.NDArray[np.floating[Any]], ok: npt.NDArray[Any]) -> float:
    """`reliability(...).brier`.

    Raises:
        ValueError: as `reliability` does.
    """
    return reliability(confidence, ok).brier


def _share(part: float, count: int) -> float:
    return float(part / count) if count else float("nan")
