"""Which due items are expected to be copies? Those whose bytes seem to be those of another, due before or predicted.

What seems so (`content_tags`) costs a prediction at most if it is not: whoever works on a copy digests its bytes and
holds them against its leader's. Memory is that of a few numbers for every due item.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow_jobs.content_tags import DIGEST, ETAG, NO_TAG, READ_THREADS, Batches, Hashes, sizes_of, tag, tags_of
from winnow_jobs.plan import Begun, is_since
from winnow_jobs.resolved import ResolvedCorpus, ResolvedSpec, ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_jobs.standing import Mask
from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.parquet_rows import read_rows
from winnow_storage.parts import WorkReader
from winnow_storage.schemas import PLACE
from winnow_storage.shards import committed_shards, shard_key
from winnow_workers.throttle import Throttle

NOWHERE = -1  # of a run: none of the earlier ones


@dataclass(frozen=True, slots=True)
class Copies:
    """Which of the due items are copies, and for each copy in order where its leader's row stands, or will stand.

    Of a leader in this run `run` is NOWHERE and `row` counts through all items that are no copies. `is_repeated` says
    of each copy whether it is not the first due item of its bytes.
    """

    is_copy: Mask
    is_repeated: Mask
    run: NDArray[np.int32]  # its place in `run_ids`
    shard: NDArray[np.int32]
    row: NDArray[np.int64]
    run_ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.run)

    def told(self, start: int, stop: int, *, run_id: str, shard_items: int) -> dict[str, pa.Array]:
        """What the work tells of the copies from `start` to before `stop`, once this run is cut."""
        run, row = self.run[start:stop], self.row[start:stop]
        here = run == NOWHERE
        names = pa.array([*self.run_ids, run_id]).take(pa.array(np.where(here, len(self.run_ids), run)))
        shards = np.where(here, row // shard_items, self.shard[start:stop])
        rows = np.where(here, row % shard_items, row)
        columns = [names, pa.array(shards, pa.int32()), pa.array(rows, pa.int32())]
        leaders = pa.StructArray.from_arrays(columns, fields=list(PLACE))
        return {"leader": leaders, "is_repeated": pa.array(self.is_repeated[start:stop])}


def no_copies(items: int) -> Copies:
    """What is expected of so many items where nobody asked."""
    nothing = np.empty(0, np.int32)
    return Copies(np.zeros(items, np.bool_), np.empty(0, np.bool_), nothing, nothing, np.empty(0, np.int64))


def repeated_rows(work: WorkReader, plan: PlanDocument, shard: int, rows: pa.Table) -> pa.ChunkedArray:
    """Which rows of a shard are copies of bytes that the run has in a row before, or stored ones of such bytes.

    Raises:
        StoreError: the work of the shard cannot be read.
    """
    if shard < plan.first_copy_shard and not plan.vectors:
        return pa.chunked_array([pa.repeat(pa.scalar(value=False), rows.num_rows)])
    expected = work.rows(shard)
    at = pc.index_in(rows["item_id"], value_set=expected["item_id"].combine_chunks())
    is_repeated = pc.fill_null(expected["is_repeated"].take(at), fill_value=False)
    is_proved = pc.or_(pc.is_valid(rows["copied_from"]), pc.is_valid(expected["vectors"].take(at)))
    return pc.and_(is_proved, is_repeated)


class Earlier:
    """The rows of earlier runs that may lead: predicted, not copied, for every task of the new run, under its limits.

    Runs that are asked again (`--since`) do not lead.
    """

    def __init__(
        self,
        store: BlobStore,
        plans: Sequence[PlanDocument],
        spec: ResolvedSpec,
        *,
        tasks: Sequence[ResolvedTask],
        since: str | None,
    ) -> None:
        wanted = {task.name: task.digest for task in tasks}
        self._store = store
        self._tasks = list(wanted)
        self.run_ids = tuple(
            plan.run_id
            for plan in plans
            if plan.shards
            and plan.spec.limits == spec.limits
            and wanted.items() <= {task.name: task.digest for task in plan.tasks()}.items()
            and not is_since(Begun(plan.run_id, plan.created_at, plan.selection), since)
        )

    def rows(self) -> Iterator[tuple[int, int, pa.Table]]:
        """(place of its run in `run_ids`, shard, rows) of every committed shard, oldest run first.

        The rows have the columns bytes, version, content_sha256, and leads: whether it may.

        Raises:
            StoreError: a shard object cannot be read.
        """
        with ThreadPoolExecutor(READ_THREADS) as pool:
            yield from mapped_ahead(pool, self._read, self._shards(), ahead=READ_THREADS)

    def _shards(self) -> Iterator[tuple[int, int, BlobInfo]]:
        for run, run_id in enumerate(self.run_ids):
            for shard, info in committed_shards(self._store, run_id).items():
                yield run, shard, info

    def _read(self, one: tuple[int, int, BlobInfo]) -> tuple[int, int, pa.Table]:
        run, shard, info = one
        names = ["bytes", "version", "content_sha256"]
        fields = [f"{task}.{field}" for task in self._tasks for field in ("model", "error")]
        rows = read_rows(self._store, info, [*names, "copied_from", *fields])
        leads = pc.is_null(rows["copied_from"])
        for task in self._tasks:
            leads = pc.and_(leads, pc.is_valid(pc.struct_field(rows[task], "model")))
            leads = pc.and_(leads, pc.is_null(pc.struct_field(rows[task], "error")))
        return run, shard, rows.select(names).append_column("leads", leads)


def expected_copies(due: Batches, earlier: Earlier, corpus: ResolvedCorpus) -> Copies:
    """The copies among the due items; the first item of a tag in their order leads where no earlier row does.

    Files are read for that, no faster than the corpus may be.

    Raises:
        StoreError: an earlier run's shard cannot be read.
    """
    throttle = Throttle(corpus.max_requests_per_s, corpus.max_bytes_per_s)
    tags = tags_of(due, throttle, everyones=bool(earlier.run_ids))
    known, first, tag_of = np.unique(tags, return_index=True, return_inverse=True)
    run, shard, row = _earlier_places(earlier, known)
    led_before = run[tag_of] != NOWHERE
    is_repeated = first[tag_of] != np.arange(len(tags))
    is_copy = (tags != NO_TAG) & (led_before | is_repeated)
    here = is_copy & ~led_before
    of_leaders = np.cumsum(~is_copy) - 1
    rows = np.where(here, of_leaders[first[tag_of]], row[tag_of])
    at = tag_of[is_copy]
    return Copies(is_copy, is_repeated[is_copy], run[at], shard[at], rows[is_copy], earlier.run_ids)


def repeated_stored(due: Batches, store: BlobStore) -> Mask:
    """Of which due items the bytes, of which nothing is fetched, are those of another such item before it.

    Raises:
        StoreError: a shard object cannot be read.
    """
    tags = np.concatenate([np.empty(0, np.uint64), *(_stored_tags(batch, store) for batch in due())])
    _, first, tag_of = np.unique(tags, return_index=True, return_inverse=True)
    found: Mask = (tags != NO_TAG) & (first[tag_of] != np.arange(len(tags)))
    return found


def _stored_tags(batch: pa.RecordBatch, store: BlobStore) -> Hashes:
    tags = np.full(batch.num_rows, NO_TAG, np.uint64)
    wanted: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for number, vectors in enumerate(batch.column("vectors").to_pylist()):
        for one in (vectors or ())[:1]:  # all are of the same bytes
            wanted.setdefault((one["run_id"], one["shard"]), []).append((number, one["row"]))

    def read(shard: tuple[str, int]) -> list[tuple[int, int]]:
        info = store.info(shard_key(*shard))
        if info is None:
            return []
        rows = read_rows(store, info, ["bytes", "content_sha256"])
        sizes, digests = sizes_of(rows["bytes"]).tolist(), rows["content_sha256"].to_pylist()
        there = [(number, row) for number, row in wanted[shard] if row < rows.num_rows]
        return [(number, tag(DIGEST, sizes[row], digests[row])) for number, row in there]

    with ThreadPoolExecutor(READ_THREADS) as pool:
        for some in pool.map(read, wanted):
            for number, value in some:
                tags[number] = value
    return tags


def _earlier_places(earlier: Earlier, known: Hashes) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """For every one of the sorted tags `known` the newest row of an earlier run with that tag: run, shard, row."""
    run, shard = np.full(len(known), NOWHERE, np.int32), np.zeros(len(known), np.int32)
    row = np.zeros(len(known), np.int64)
    for number, its_shard, rows in earlier.rows():
        may = np.flatnonzero(rows["leads"].to_numpy())
        sizes = sizes_of(rows["bytes"])[may].tolist()
        for kind in (ETAG, DIGEST):
            values = rows[kind].take(pa.array(may)).to_pylist()
            tags = np.fromiter(map(tag, repeat(kind), sizes, values), np.uint64, len(may))
            found = (tags != NO_TAG) & _is_in(tags, known)
            at = np.searchsorted(known, tags[found])
            run[at], shard[at], row[at] = number, its_shard, may[found]
    return run, shard, row


def _is_in(values: NDArray[np.generic], known: NDArray[np.generic]) -> Mask:
    """Which of `values` are among `known`, which are sorted."""
    if len(known) == 0:
        return np.zeros(len(values), np.bool_)
    found: Mask = known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values
    return found
