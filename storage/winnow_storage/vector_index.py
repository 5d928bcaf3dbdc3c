"""Which vectors are probably the nearest, found without looking at all of them? HNSW graphs, kept below the output.

`indexes/` is derived from committed rows and may be deleted at any time. The rows of a view are cut into segments where
an item's id says so (so a new item touches its own segment only), and each segment is a graph of its own (Malkov and
Yashunin, 2018; by usearch), named by what it was built from. A view's manifest names its segments:

    indexes/TASK/SPACE/view-VIEW.json     schema Manifest
    indexes/TASK/SPACE/segment-ROWS.json  schema Segment: what it was built from, and the two objects that hold it
    indexes/TASK/SPACE/SHA256.usearch     the graph, with the vectors as they are stored; labels are numbers of rows
    indexes/TASK/SPACE/SHA256.parquet     these rows

What a search finds is scored again from the vectors, exactly, so that its scores are those of `neighbours`.
"""

import heapq
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from winnow_storage.blobs import BlobStore
from winnow_storage.committed import Committed
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ids import digest_bytes, digest_value
from winnow_storage.neighbours import Neighbours, check_width, directions, exact_scores, without
from winnow_storage.vectors import ROWS, VectorBlock, Vectors

FORMAT = 1
CUT = "0000"  # an id that ends so ends a segment: 65,536 rows on average, whatever comes or goes elsewhere
MAX_ROWS = 262_144  # of a segment that no id ends, so that memory is bounded
MIN_ROWS = 4096  # of a segment, so that small corpora have one
CONNECTIVITY = 16
EXPANSION_ADD = 128
EXPANSION_SEARCH = 128
_MORE = 16  # candidates beyond those that are asked for: the graph's own distances are coarse
_MAX_OBJECT_BYTES = 4 << 30

Listener = Callable[[int], None]  # vectors that are in the index by now


class Segment(BaseModel):
    """Some consecutive rows, and the two objects that hold their graph and what they are of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    built_from: str
    rows: int
    graph: str  # sha256
    table: str  # sha256


class Manifest(BaseModel):
    """The segments of one view of a task's vectors, in the order of the keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    task: str
    space: str
    width: int
    segments: tuple[Segment, ...]

    @property
    def rows(self) -> int:
        """Vectors in it."""
        return sum(one.rows for one in self.segments)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the indexes of a task's vectors stand; `space` is the digest that all of these vectors share."""

    store: BlobStore
    task: str
    space: str

    def key(self, name: str) -> str:
        """Of an object, relative to the output."""
        return f"indexes/{self.task}/{self.space[:16]}/{name}"


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index that is there. `built` vectors were added for it; the others stood in graphs that were there."""

    place: Place
    manifest: Manifest
    built: int
    _open: dict[str, "_Graph"] = field(default_factory=dict)

    def nearest(self, queries: npt.ArrayLike, count: int, *, leave_out: Collection[str] = ()) -> list[Neighbours]:
        """As `neighbours.nearest`, of what the graphs find. Graphs stay open for the next call.

        Raises:
            UsageError: the queries have another width than the vectors.
            StoreError: a segment is damaged or gone.
        """
        wanted = directions(np.asarray(queries, dtype=np.float64))
        check_width(wanted.shape[1], self.manifest.width)
        return [self._nearest(one, count, leave_out) for one in wanted]

    def _nearest(self, query: npt.NDArray[np.float64], count: int, leave_out: Collection[str]) -> Neighbours:
        wanted = count + len(leave_out)
        found: list[tuple[float, int, int]] = []  # what is least first, so that it sorts: (-score, segment, row)
        for number, segment in enumerate(self.manifest.segments):
            graph = self._graph(segment)
            labels = graph.candidates(query, wanted + _MORE)
            exact = exact_scores(graph.vectors(labels), query)
            found += [(-float(score), number, int(label)) for score, label in zip(exact, labels, strict=True)]
        best = heapq.nsmallest(wanted, found)
        rows = [self._graph(self.manifest.segments[number]).rows.slice(label, 1) for _, number, label in best]
        table = pa.concat_tables([ROWS.empty_table(), *rows])
        scores = np.array([-score + 0.0 for score, _, _ in best])
        return without(Neighbours(table, scores, self.manifest.rows), leave_out, count)

    def _graph(self, segment: Segment) -> "_Graph":
        if segment.graph not in self._open:
            self._open[segment.graph] = _open_graph(self.place, segment)
        return self._open[segment.graph]


def view_digest(committed: Committed, runs: Collection[str]) -> str:
    """What `current` is made of: equal digests, equal rows. `runs`: whose vectors are wanted."""
    parts = [
        [run.run_id, run.plan, [[info.key, info.bytes, info.version] for info in run.objects]] for run in committed.runs
    ]
    snapshot = [[info.key, info.bytes] for info in committed.snapshot]
    return digest_value([FORMAT, parts, snapshot, sorted(runs)])[:32]


def ensure_index(
    place: Place,
    vectors: Vectors,
    view: str,
    *,
    listener: Listener | None = None,
    cut: str = CUT,
    min_rows: int = MIN_ROWS,
) -> VectorIndex:
    """The index of a view (`view_digest`), built as far as it is not there.

    Raises:
        StoreError: the output cannot be read or written; or a vector is too wide for an object.
    """
    name = place.key(f"view-{view}.json")
    found = _read(place, name, Manifest)
    if found is not None and found.format == FORMAT and all(_stands(place, one) for one in found.segments):
        return VectorIndex(place, found, 0)
    segments: list[Segment] = []
    built, done, width = 0, 0, 0
    for block in _segments(vectors, cut, min_rows):
        width = block.vectors.shape[1]
        segment, is_new = _ensure_segment(place, block)
        segments.append(segment)
        done += segment.rows
        built += segment.rows if is_new else 0
        if listener is not None:
            listener(done)
    manifest = Manifest(format=FORMAT, task=place.task, space=place.space, width=width, segments=tuple(segments))
    place.store.put(name, manifest.model_dump_json().encode())
    return VectorIndex(place, manifest, built)


@dataclass(slots=True)
class _Graph:
    graph: Any
    rows: pa.Table
    data: bytes  # the graph looks into it

    def candidates(self, query: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.uint64]:
        self.graph.expansion_search = max(EXPANSION_SEARCH, 2 * count)
        found: npt.NDArray[np.uint64] = self.graph.search(query.astype(np.float32), count).keys
        return found

    def vectors(self, labels: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = np.asarray(self.graph.get(labels, dtype="f32"), np.float32)
        return found.reshape(len(labels), -1)


def _open_graph(place: Place, segment: Segment) -> _Graph:
    from usearch.index import Index

    data = _get(place, f"{segment.graph}.usearch", segment.graph)
    table = _get(place, f"{segment.table}.parquet", segment.table)
    return _Graph(Index.restore(data, view=True), pq.read_table(pa.BufferReader(table)), data)


def _get(place: Place, name: str, sha256: str) -> bytes:
    """Checked before it is opened: what reads a graph believes every byte of it."""
    key = place.key(name)
    data = place.store.get(key)
    if digest_bytes(data) != sha256:
        raise StoreError(
            f"{place.store.root}/{key} is damaged", hint="remove that object: the same command makes it again"
        )
    return data


def _stands(place: Place, segment: Segment) -> bool:
    return all(
        place.store.info(place.key(name)) is not None
        for name in (f"{segment.graph}.usearch", f"{segment.table}.parquet")
    )


def _segments(vectors: Vectors, cut: str, min_rows: int) -> Iterator[VectorBlock]:
    """The vectors in stretches that end where an id ends in `cut`, of `min_rows` at least (but for the last)."""
    waiting: list[VectorBlock] = []
    count = 0
    for block in vectors.blocks():
        start = 0
        for end in np.flatnonzero(pc.ends_with(block.rows["item_id"], cut).to_numpy()) + 1:
            if count + end - start >= min_rows:
                yield _joined([*waiting, _part(block, start, end)])
                waiting, count, start = [], 0, int(end)
        if start < len(block.vectors):
            waiting.append(_part(block, start, len(block.vectors)))
            count += len(block.vectors) - start
        if count >= MAX_ROWS:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _part(block: VectorBlock, start: int, end: int) -> VectorBlock:
    return VectorBlock(block.rows.slice(start, end - start), block.vectors[start:end], block.stored)


def _joined(blocks: list[VectorBlock]) -> VectorBlock:
    rows = pa.concat_tables([block.rows for block in blocks]).combine_chunks()
    return VectorBlock(rows, np.concatenate([block.vectors for block in blocks]), blocks[0].stored)


def _ensure_segment(place: Place, block: VectorBlock) -> tuple[Segment, bool]:
    """(the segment of these rows, whether its graph was built now)."""
    built_from = digest_value(
        [FORMAT, place.space, block.stored, CONNECTIVITY, EXPANSION_ADD, *(column.to_pylist() for column in block.rows)]
    )
    name = place.key(f"segment-{built_from[:32]}.json")
    found = _read(place, name, Segment)
    if found is not None and found.built_from == built_from and _stands(place, found):
        return found, False
    graph = _build(block)
    if len(graph) > _MAX_OBJECT_BYTES:
        raise StoreError(
            f"a segment of {block.rows.num_rows:,} vectors is {len(graph):,} bytes, more than one object may be",
            hint="search without --approximate",
        )
    sink = pa.BufferOutputStream()
    pq.write_table(block.rows, sink, compression="zstd")
    table = sink.getvalue().to_pybytes()
    segment = Segment(
        built_from=built_from, rows=block.rows.num_rows, graph=digest_bytes(graph), table=digest_bytes(table)
    )
    place.store.put(place.key(f"{segment.graph}.usearch"), graph)
    place.store.put(place.key(f"{segment.table}.parquet"), table)
    place.store.put(name, segment.model_dump_json().encode())
    return segment, True


def _build(block: VectorBlock) -> bytes:
    from usearch.index import Index

    graph = Index(
        ndim=block.vectors.shape[1],
        metric="cos",
        dtype={"float16": "f16", "float32": "f32"}[block.stored],
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
    )
    graph.add(np.arange(len(block.vectors), dtype=np.uint64), block.vectors)
    return bytes(graph.save())


def _read(place: Place, key: str, kind: Any) -> Any:
    """What stands there, if it can be understood; it is derived, so otherwise it is made again."""
    try:
        return kind.model_validate_json(place.store.get(key))
    except (BlobMissing, ValidationError):
        return None
