"""Which images are nearly the same? Groups: all that are connected by pairs whose cosine is at least a threshold.

Every pair is looked at, by products of blocks; a pair at the threshold's edge is computed again in float64. So the
groups do not depend on the size of the blocks, on the order of the rows, or on the processor. Of each group one item is
the representative: the one with the most pixels, then the most bytes, then the first key.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_storage.errors import UsageError
from winnow_storage.neighbours import DECIMALS, SLACK, directions
from winnow_storage.vectors import ROWS, Floats, VectorBlock, Vectors, unit

THRESHOLD = 0.98
MEMORY_BYTES = 1 << 30  # of vectors that are held at a time
GROUPS = pa.schema(
    [
        pa.field("group", pa.int64(), nullable=False),  # from 1, the largest first
        pa.field("size", pa.int64(), nullable=False),  # of the group
        pa.field("is_representative", pa.bool_(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # cosine with the representative
        *ROWS,
    ]
)
_TILE_ROWS = 2048
_EDGES_AT_ONCE = 4_000_000
Doubles = npt.NDArray[np.float64]
Blocks = Callable[[], Iterable[VectorBlock]]  # every call gives the same
Listener = Callable[[int, int], None]  # (vectors compared with all, vectors)


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """`members` (schema GROUPS): the items of all groups, by group, the representative first. `vectors`: looked at."""

    members: pa.Table
    vectors: int
    threshold: float

    @property
    def groups(self) -> int:
        """How many there are."""
        return len(set(self.members["group"].to_pylist()))


def near_duplicates(
    vectors: Vectors, threshold: float, *, memory_bytes: int = MEMORY_BYTES, listener: Listener | None = None
) -> NearDuplicates:
    """The groups of items of which each has a cosine of at least `threshold` with another one of its group.

    Raises:
        UsageError: a threshold that is no cosine above zero.
        StoreError: an object is damaged.
    """
    if not 0.0 < threshold <= 1.0:
        raise UsageError(f"a threshold of {threshold} is no cosine above 0", hint="0.98 is usual; at most 1")
    blocks = _kept(vectors, memory_bytes)
    parts, total = _components(blocks, threshold, memory_bytes, listener)
    sizes = np.bincount(parts, minlength=1)
    is_member = sizes[parts] > 1
    rows = _rows_of(blocks, is_member)
    if rows.num_rows == 0:
        return NearDuplicates(GROUPS.empty_table(), total, threshold)
    order, group, size, first = _ordered(rows, parts[is_member])
    scores = _scores(blocks, is_member, group, first)[order]
    columns = [group[order], size[order], first[order], scores]
    chosen = rows.take(pa.array(order))
    return NearDuplicates(pa.table([*map(pa.array, columns), *chosen.columns], schema=GROUPS), total, threshold)


@dataclass(slots=True)
class _Components:
    """Which rows are connected, as far as is known: a label each. Edges are gathered, then joined all at once."""

    labels: npt.NDArray[np.int64]
    waiting: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = field(default_factory=list)
    count: int = 0

    def join(self, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> None:
        ours, theirs = self.labels[left], self.labels[right]
        news = np.flatnonzero(ours != theirs)
        if len(news):
            self.waiting.append((ours[news], theirs[news]))
            self.count += len(news)
        if self.count >= _EDGES_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        if not self.waiting:
            return
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        left, right = (np.concatenate(side) for side in zip(*self.waiting, strict=True))
        size = len(self.labels)
        edges = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(size, size))
        _, joined = connected_components(edges, directed=False)
        self.labels = joined[self.labels].astype(np.int64)
        self.waiting, self.count = [], 0


def _components(
    blocks: Blocks, threshold: float, memory_bytes: int, listener: Listener | None
) -> tuple[npt.NDArray[np.int64], int]:
    """(the number of the component of every row, in their order; how many rows there are)."""
    total = sum(len(block.vectors) for block in blocks())
    parts, start = _Components(np.arange(total, dtype=np.int64)), 0
    while start < total:
        held = _held(blocks, start, memory_bytes)
        _join_within(parts, start, held, threshold)
        end = start + len(held)
        if end < total:
            for place, block in _placed(blocks):
                later = max(end - place, 0)  # what comes before was compared when it was held
                if later < len(block.vectors):
                    _join_between(parts, start, held, place + later, unit(block.vectors[later:]), threshold)
        start = end
        if listener is not None:
            listener(end, total)
    parts.settle()
    return parts.labels, total


def _kept(vectors: Vectors, memory_bytes: int) -> Blocks:
    """The blocks: held, if all of them may be; otherwise read each time."""
    kept: list[VectorBlock] = []
    size = 0
    for block in vectors.blocks():
        kept.append(block)
        size += block.vectors.nbytes
        if size > memory_bytes:
            return vectors.blocks
    return lambda: kept


def _placed(blocks: Blocks) -> Iterator[tuple[int, VectorBlock]]:
    place = 0
    for block in blocks():
        yield place, block
        place += len(block.vectors)


def _held(blocks: Blocks, start: int, memory_bytes: int) -> Floats:
    """As many vectors from `start` on as fit into memory, at least one block; of length one."""
    held: list[Floats] = []
    size = 0
    for place, block in _placed(blocks):
        skipped = max(start - place, 0)
        if skipped >= len(block.vectors):
            continue
        held.append(unit(block.vectors[skipped:]))
        size += held[-1].nbytes
        if size >= memory_bytes:
            break
    return np.concatenate(held)


def _join_within(parts: _Components, start: int, held: Floats, threshold: float) -> None:
    for first in range(0, len(held), _TILE_ROWS):
        tile = held[first : first + _TILE_ROWS]
        for other in range(first, len(held), _TILE_ROWS):
            _join_tiles(parts, start + first, tile, start + other, held[other : other + _TILE_ROWS], threshold)


def _join_between(parts: _Components, start: int, held: Floats, place: int, others: Floats, threshold: float) -> None:
    for first in range(0, len(held), _TILE_ROWS):
        for other in range(0, len(others), _TILE_ROWS):
            tiles = held[first : first + _TILE_ROWS], others[other : other + _TILE_ROWS]
            _join_tiles(parts, start + first, tiles[0], place + other, tiles[1], threshold)


def _join_tiles(parts: _Components, left: int, ours: Floats, right: int, theirs: Floats, threshold: float) -> None:
    scores = ours @ theirs.T
    rows, columns = np.nonzero(scores >= threshold - SLACK)
    if left == right:
        rows, columns = rows[keep := rows < columns], columns[keep]
    if len(rows) == 0:
        return
    edge = np.flatnonzero(scores[rows, columns] < threshold + SLACK)
    if len(edge):
        exact = _pairwise(ours[rows[edge]], theirs[columns[edge]])
        kept = np.ones(len(rows), np.bool_)
        kept[edge] = exact >= threshold
        rows, columns = rows[kept], columns[kept]
    parts.join(rows + left, columns + right)


def _pairwise(ours: Floats, theirs: Floats) -> Doubles:
    """The cosine of each with its counterpart, in float64, rounded."""
    scores: Doubles = np.einsum("ij,ij->i", directions(ours.astype(np.float64)), directions(theirs.astype(np.float64)))
    return np.round(scores, DECIMALS) + 0.0


def _rows_of(blocks: Blocks, is_member: npt.NDArray[np.bool_]) -> pa.Table:
    rows = [ROWS.empty_table()]
    for place, block in _placed(blocks):
        rows.append(block.rows.filter(pa.array(is_member[place : place + len(block.vectors)])))
    return pa.concat_tables(rows).combine_chunks()


def _ordered(
    rows: pa.Table, parts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """(the order in which members are listed; of each member its group's number and size, whether it stands for it)."""
    zero = np.zeros(rows.num_rows)
    width, height, size_bytes = (
        np.asarray(rows[name].fill_null(0).to_numpy(), np.float64) + zero for name in ("width", "height", "bytes")
    )
    rank = np.argsort(np.argsort(np.array(rows["key"].to_pylist(), dtype=object), kind="stable"), kind="stable")
    _, part, sizes = np.unique(parts, return_inverse=True, return_counts=True)
    order = np.lexsort((rank, -size_bytes, -width * height, part))
    first = np.zeros(rows.num_rows, np.bool_)
    first[order[np.unique(part[order], return_index=True)[1]]] = True
    leaders = np.flatnonzero(first)
    # groups by size, then by the place of their representative
    by_size = leaders[np.lexsort((leaders, -sizes[part[leaders]]))]
    number = np.empty(len(sizes), np.int64)
    number[part[by_size]] = np.arange(1, len(sizes) + 1)
    group = number[part]
    listed = np.lexsort((rank, ~first, group))
    return listed, group, sizes[part].astype(np.int64), first


def _scores(
    blocks: Blocks, is_member: npt.NDArray[np.bool_], group: npt.NDArray[np.int64], first: npt.NDArray[np.bool_]
) -> Doubles:
    """The cosine of every member with its representative, in the order of the rows. Twice over the vectors."""
    leaders: Floats | None = None
    for places, found in _members(blocks, is_member):
        if leaders is None:
            leaders = np.zeros((int(group.max()) + 1, found.shape[1]), np.float32)
        own = first[places]
        leaders[group[places][own]] = found[own]
    scores = np.ones(len(group))
    for places, found in _members(blocks, is_member):
        if leaders is not None:
            scores[places] = _pairwise(found, leaders[group[places]])
    return scores


def _members(blocks: Blocks, is_member: npt.NDArray[np.bool_]) -> Iterator[tuple[npt.NDArray[np.int64], Floats]]:
    """(their numbers among the members, their vectors), block by block."""
    number = 0
    for place, block in _placed(blocks):
        own = is_member[place : place + len(block.vectors)]
        yield np.arange(number, number + own.sum()), block.vectors[own]
        number += int(own.sum())
