"""Which vectors are the nearest to a query, exactly? All are looked at, block by block, by their cosine.

A matrix product finds what may be among the nearest; what it finds is computed again in float64 and rounded, so that
neither the size of the blocks nor the processor decides an order. Equal scores come in the order of their keys.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_storage.errors import UsageError
from winnow_storage.vectors import ROWS, Floats, VectorBlock, Vectors, unit

DECIMALS = 6  # of a score; float32 sums of thousands of products agree to about that
TOGETHER = 256  # queries that are compared with a block at once: their scores take 8 MiB
SLACK = 1e-5  # how far a float32 product may be from the exact one


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest to one query, the nearest first: their rows (vectors.ROWS) and scores, cosines in [-1, 1].

    `among`: how many vectors there are to choose from.
    """

    rows: pa.Table
    scores: npt.NDArray[np.float64]
    among: int


@dataclass(slots=True)
class Best:
    """The `count` best rows that were offered so far."""

    query: npt.NDArray[np.float64]  # of length one
    count: int
    rows: pa.Table = field(default_factory=ROWS.empty_table)
    scores: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def least(self) -> float:
        """What a score must reach to be among the best."""
        return float(self.scores[-1]) if len(self.scores) == self.count else -np.inf

    def offer(self, block: VectorBlock, rough: Floats) -> None:
        """Take what may be among the best; `rough` are the block's scores to within SLACK."""
        limit = self.least
        if len(rough) > self.count:
            limit = max(limit, np.partition(rough, -self.count)[-self.count] - SLACK)
        places = np.flatnonzero(rough >= limit - SLACK)
        if len(places):
            self.add(block.rows.take(pa.array(places)), exact_scores(block.vectors[places], self.query))

    def add(self, rows: pa.Table, scores: npt.NDArray[np.float64]) -> None:
        """Keep the best of these and of those at hand."""
        rows, scores = pa.concat_tables([self.rows, rows]), np.concatenate([self.scores, scores])
        order = np.lexsort((np.array(rows["key"].to_pylist(), dtype=object), -scores))[: self.count]
        self.rows, self.scores = rows.take(pa.array(order)), scores[order]


def nearest(
    vectors: Vectors, queries: npt.ArrayLike, count: int, *, leave_out: Collection[str] = ()
) -> list[Neighbours]:
    """The `count` nearest to each of the (n, width) queries; items whose item_id is in `leave_out` are passed over.

    Raises:
        UsageError: the queries have another width than the vectors.
        StoreError: an object is damaged.
    """
    wanted = np.asarray(queries, dtype=np.float64)
    best = [Best(one, count + len(leave_out)) for one in directions(wanted)]
    rough, among = unit(wanted), 0
    for block in vectors.blocks():
        among += len(block.vectors)
        check_width(wanted.shape[1], block.vectors.shape[1])
        stored = unit(block.vectors)
        for start in range(0, len(best), TOGETHER):
            scores = rough[start : start + TOGETHER] @ stored.T
            for one, own, highest in zip(best[start:], scores, scores.max(axis=1), strict=False):
                if highest >= one.least - SLACK:
                    one.offer(block, own)
    return [without(Neighbours(one.rows, one.scores, among), leave_out, count) for one in best]


def check_width(query: int, stored: int) -> None:
    """Raises:
    UsageError: a query cannot be compared with the vectors.
    """
    if query != stored:
        raise UsageError(
            f"the query has {query} numbers, the vectors have {stored}", hint="embed both by the same task"
        )


def without(found: Neighbours, leave_out: Collection[str], count: int) -> Neighbours:
    """The first `count` that are not left out."""
    kept = [place for place, item in enumerate(found.rows["item_id"].to_pylist()) if item not in leave_out][:count]
    return Neighbours(found.rows.take(pa.array(kept, pa.int64())), found.scores[kept], found.among)


def directions(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same of length one, float64; a vector of length zero stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    turned: npt.NDArray[np.float64] = vectors / np.where(lengths > 0, lengths, 1.0)
    return turned


def exact_scores(vectors: Floats, query: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The cosine of each with a query of length one, in float64, rounded to DECIMALS."""
    scores: npt.NDArray[np.float64] = np.round(directions(vectors.astype(np.float64)) @ query, DECIMALS)
    return scores + 0.0  # no negative zero
