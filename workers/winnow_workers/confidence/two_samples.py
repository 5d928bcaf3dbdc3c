"""Are two samples of one distribution? Of vectors by maximum mean discrepancy, of classes by chi-square; both permuted.

Which sample a row is of is shuffled many times; the p-value is the share of the shuffles that part the two as far. So
it is exact whatever the number, width or distribution of the rows: where both samples come from one distribution, p is
at most a with probability at most a.

Maximum mean discrepancy (Gretton, Borgwardt, Rasch, Schölkopf, Smola, A Kernel Two-Sample Test, JMLR 13, 2012) takes
one product of matrices for all shuffles, and sees any difference that its kernel does. A classifier two-sample test
(Lopez-Paz and Oquab, ICLR 2017) must set half of the rows aside and learn anew; of a few hundred rows it sees less
(Rabanser, Günnemann, Lipton, Failing Loudly, NeurIPS 2019).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow_workers.confidence.features import Floats

SHUFFLES = 1999  # of vectors: the least p is 1 / 2,000
CLASS_SHUFFLES = 9999
MOST_CLASSES = 50  # the rarest are one
_SCALES = (0.25, 0.5, 1.0)  # of the kernels' width, beside the median distance between rows: below it lie the classes
_BLOCK = 500  # shuffles at a time
_TIE = 1e-9  # of chi-square: the same table, added up in another order


@dataclass(frozen=True, slots=True)
class Parted:
    """How far two samples part, from which distance on that is seldom enough, and how seldom chance does as much."""

    distance: float
    threshold: float
    p_value: float


@dataclass(frozen=True, slots=True)
class VectorsParted(Parted):
    """`unlike` has of each new row how much more it is like the new ones than like those before (the witness)."""

    unlike: Floats


def compare_vectors(before: Floats, now: Floats, *, limit: float, seed: int) -> VectorsParted:
    """Maximum mean discrepancy of (n, width) and (m, width) finite rows; `threshold` is what p of `limit` begins at.

    The kernel is the mean of three Gaussians, a quarter, half and once as wide as the median distance between rows.
    """
    kernel = _kernel(np.concatenate([before, now]).astype(np.float32))
    if kernel is None:  # all rows are the same
        return VectorsParted(0.0, 0.0, 1.0, np.zeros(len(now)))
    weights = np.concatenate([np.full(len(before), -1 / len(before)), np.full(len(now), 1 / len(now))])
    weights = weights.astype(np.float32)
    liking = kernel @ weights
    squared = float(liking @ weights)
    rng, count = np.random.default_rng(seed), shuffles(SHUFFLES, limit)
    found = np.empty(count)
    for start in range(0, count, _BLOCK):
        some = rng.permuted(np.tile(weights, (min(_BLOCK, count - start), 1)), axis=1)
        found[start : start + len(some)] = np.einsum("ij,ij->i", some @ kernel, some)
    threshold = float(np.quantile(found, 1 - limit, method="higher"))
    p_value = (1 + int((found >= squared).sum())) / (1 + count)
    unlike = liking[len(before) :].astype(np.float64)
    return VectorsParted(_root(squared), _root(threshold), p_value, unlike)


def compare_classes(before: Mapping[str, int], now: Mapping[str, int], *, limit: float, seed: int) -> Parted:
    """Chi-square of two counts by class, exact given how many there are of each; `distance` is Cramér's V, 0 to 1."""
    table = _table(before, now)
    (n, m), totals, count = table.sum(axis=1), table.sum(axis=0), shuffles(CLASS_SHUFFLES, limit)
    expected = totals * (m / (n + m))

    def parted(counts: NDArray[np.integer]) -> Floats:
        # chi-square of both rows over how many there are: the counts before are what is left of the totals
        found: Floats = ((counts - expected) ** 2 / expected).sum(axis=-1) / n
        return found

    found = parted(np.random.default_rng(seed).multivariate_hypergeometric(totals, int(m), size=count))
    seen = float(parted(table[1]))
    p_value = (1 + int((found >= seen - _TIE).sum())) / (1 + count)
    threshold = float(np.quantile(found, 1 - limit, method="higher"))
    return Parted(math.sqrt(seen), math.sqrt(threshold), p_value)


def shuffles(least: int, limit: float) -> int:
    """How many there must be for a p below `limit` to be possible."""
    return max(least, math.ceil(2 / limit) - 1)


def _kernel(rows: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """(n, n) of (n, width); None where all rows are the same."""
    rows = rows - rows.mean(axis=0)  # so that close rows far from zero do not cancel
    lengths = np.einsum("ij,ij->i", rows, rows)
    squared = np.maximum(lengths[:, None] + lengths[None, :] - 2 * (rows @ rows.T), 0)
    apart = squared[np.triu_indices(len(rows), 1)]
    rounding = float(np.finfo(np.float32).eps) * float(lengths.max())
    apart = apart[apart > rounding]
    if apart.size == 0:
        return None
    width = float(np.median(apart))
    kernel: NDArray[np.float32] = np.zeros_like(squared)
    for scale in _SCALES:
        kernel += np.exp(squared / np.float32(-2 * scale * scale * width)) / len(_SCALES)
    return kernel


def _root(squared: float) -> float:
    return math.sqrt(max(squared, 0.0))


def _table(before: Mapping[str, int], now: Mapping[str, int]) -> NDArray[np.int64]:
    """(2, classes), the rarest of both together as one."""
    seen = {name for counts in (before, now) for name, count in counts.items() if count}
    names = sorted(seen, key=lambda name: (-before.get(name, 0) - now.get(name, 0), name))
    table = np.array([[counts.get(name, 0) for name in names] for counts in (before, now)], np.int64)
    if len(names) > MOST_CLASSES:
        rest = table[:, MOST_CLASSES - 1 :].sum(axis=1, keepdims=True)
        table = np.concatenate([table[:, : MOST_CLASSES - 1], rest], axis=1)
    return table
