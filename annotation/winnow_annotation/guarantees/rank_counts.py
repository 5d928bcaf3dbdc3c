"""How are the ranks of millions of predictions distributed? Counts in fixed bins, which add up over shards and runs.

Where the thresholds of a sequence stand follows from these alone, never from labels. A bin holds the non-negative
float32 numbers that share their sign, exponent and 8 bits of the fraction: 0.4 % wide, whatever the size of a rank.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
_SHIFT = 15
_BINS = 1 << (32 - _SHIFT - 1)


@dataclass(slots=True)
class RankCounts:
    """How many ranks fell into each bin; ranks are never negative, NaN (a prediction without one) counts in `total`."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    total: int = 0

    def add(self, ranks: Numbers) -> None:
        """Some more."""
        known = np.maximum(ranks[~np.isnan(ranks)], 0.0)
        with np.errstate(over="ignore"):
            bins = known.astype(np.float32).view(np.uint32) >> _SHIFT
        self.counts += np.bincount(bins, minlength=_BINS)
        self.total += len(ranks)

    def thresholds(self, shares: Sequence[float]) -> Numbers:
        """For each share of all the lower edge of the bin down to which it reaches, descending, each once.

        More than the share may lie above, never less, unless too few predictions have a rank: then the least edge.
        """
        occupied = np.flatnonzero(self.counts)[::-1]
        if not len(occupied):
            return np.empty(0)
        above = np.cumsum(self.counts[occupied])
        places = np.searchsorted(above, np.ceil(np.asarray(shares) * self.total - 1e-9))
        chosen = np.unique(occupied[np.minimum(places, len(occupied) - 1)])[::-1]
        return edges(chosen)

    def share_from(self, threshold: float) -> float:
        """The share of all whose bin begins at or above it."""
        occupied = np.flatnonzero(self.counts)
        return float(self.counts[occupied[edges(occupied) >= threshold]].sum()) / max(1, self.total)

    def merge(self, other: "RankCounts") -> None:
        """Count those of another too."""
        self.counts += other.counts
        self.total += other.total

    def sparse(self) -> dict[str, object]:
        """As JSON: bins with anything in them, and their counts."""
        occupied = np.flatnonzero(self.counts)
        return {"total": self.total, "bins": occupied.tolist(), "counts": self.counts[occupied].tolist()}

    @classmethod
    def from_sparse(cls, document: Mapping[str, object]) -> "RankCounts":
        """Raises KeyError, TypeError, ValueError or IndexError if it is none."""
        found = cls()
        found.counts[np.asarray(document["bins"], np.int64)] = np.asarray(document["counts"], np.int64)
        found.total = int(str(document["total"]))
        return found


def edges(bins: NDArray[np.int64]) -> Numbers:
    """The least number of each bin."""
    found: Numbers = (bins.astype(np.uint32) << _SHIFT).view(np.float32).astype(np.float64)
    return found
