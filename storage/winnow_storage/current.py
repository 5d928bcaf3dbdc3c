"""What is the current row of every item over many runs? A merge by key of the newest snapshot with all committed rows.

Every stream is sorted by the UTF-8 bytes of the key, so memory holds one batch of each: a range of the snapshot, and
one shard of every run (and a few that are fetched ahead).
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.committed import Committed, CommittedRun, snapshot_rows
from winnow_storage.current_types import TaskTypes, conform, task_types
from winnow_storage.current_window import LEFT, Window, resolve_window
from winnow_storage.errors import StoreError
from winnow_storage.parquet_rows import read_groups, read_rows, read_schema
from winnow_storage.schemas import RESULT_COMMON, SNAPSHOT

WINDOW_ROWS = 8192
AHEAD = 8  # shards that are fetched ahead, over all runs


@dataclass(frozen=True, slots=True)
class Base:
    """An earlier resolution to go on from: its rows, and the versions that have left (schema LEFT), both sorted."""

    rows: tuple[BlobInfo, ...]
    left: tuple[BlobInfo, ...]


def committed_types(
    store: BlobStore, runs: Sequence[CommittedRun], base: Base | None = None
) -> dict[str, pa.StructType]:
    """The struct of every task over `runs` (oldest first) and `base`, from footers: two a run.

    Only the first and the last shard of a run are looked at: a run that was resumed with newer code may differ.
    """
    objects = [info for run in reversed(runs) for info in dict.fromkeys([*run.objects[-1:], *run.objects[:1]])]
    objects += base.rows[:1] if base is not None else []
    with ThreadPoolExecutor(AHEAD) as pool:
        return task_types(pool.map(lambda info: read_schema(store, info), objects))


def resolve(store: BlobStore, committed: Committed, types: TaskTypes, *, base: Base | None = None) -> Iterator[Window]:
    """The current rows, by ranges of keys, in order. Tasks that are not in `types` are not read.

    With a `base`, `committed` holds only the runs that go on from it.

    Raises:
        StoreError: an object is damaged, or not sorted by key.
    """
    pool, slots = ThreadPoolExecutor(AHEAD), threading.Semaphore(AHEAD)
    columns = [*RESULT_COMMON.names, *types]
    try:
        sources = [] if base is None else [_Stream(_base_rows(store, base.rows, types), store.root)]
        sources += [
            _Stream(_run_rows(store, run.run_id, objects, columns, types, pool, slots), store.root)
            for run in committed.runs
            for objects in run.sorted_streams
        ]
        left = _Stream((rows for info in (base.left if base else ()) for rows in read_groups(store, info)), store.root)
        snapshot = _Stream(_sliced(snapshot_rows(store, committed)), store.root)
        for items, rows, departed in _merge(snapshot, sources, left):
            yield resolve_window(items, rows, departed, types)
    finally:
        pool.shutdown(cancel_futures=True)


class _Stream:
    """A sorted stream of tables, of which rows are taken up to a key."""

    def __init__(self, tables: Iterable[pa.Table], place: object) -> None:
        self._tables = iter(tables)
        self._place = place
        self._rest: pa.Table | None = None
        self._first, self.last = "", ""

    def fill(self) -> bool:
        """Whether there are rows; `last` is then the last key of those at hand."""
        while self._rest is None:
            table = next(self._tables, None)
            if table is None:
                return False
            if table.num_rows:
                self._accept(table)
        return True

    def take(self, bound: str) -> pa.Table | None:
        """The rows at hand with keys up to `bound`."""
        rows = self._rest
        if rows is None or self._first > bound:
            return None
        if self.last <= bound:
            self._rest = None
            return rows
        end = _first_after(rows["key"], bound)
        self._rest = rows.slice(end)
        self._first = self._rest["key"][0].as_py()
        return rows.slice(0, end)

    def _accept(self, table: pa.Table) -> None:
        key = table["key"].combine_chunks()
        first = key[0].as_py()
        rising = pc.all(pc.greater(key[1:], key[:-1])).as_py() is not False
        if not rising or (self.last and first <= self.last):
            raise StoreError(
                f"the rows below {self._place} that hold {first!r} are not sorted by key, as Winnow writes them",
                hint="find the damaged run with: winnow verify RUN",
            )
        self._rest, self._first, self.last = table, first, key[-1].as_py()


def _merge(
    snapshot: _Stream, sources: list[_Stream], left: _Stream
) -> Iterator[tuple[pa.Table, list[pa.Table], pa.Table]]:
    """Ranges of keys in order, each with everything of that range; at its end some stream needs its next table."""
    live = [snapshot, *sources, left]
    while live := [stream for stream in live if stream.fill()]:
        bound = min(stream.last for stream in live)
        items, departed = snapshot.take(bound), left.take(bound)
        rows = [taken for stream in sources if (taken := stream.take(bound)) is not None]
        yield (
            SNAPSHOT.empty_table() if items is None else items,
            rows,
            LEFT.empty_table() if departed is None else departed,
        )


def _run_rows(
    store: BlobStore,
    run_id: str,
    objects: Sequence[BlobInfo],
    columns: Sequence[str],
    types: TaskTypes,
    pool: ThreadPoolExecutor,
    slots: threading.Semaphore,
) -> Iterator[pa.Table]:
    def load(info: BlobInfo) -> pa.Table:
        return conform(read_rows(store, info, columns), types, run_id=run_id)

    return _ahead(objects, load, pool, slots)


def _base_rows(store: BlobStore, files: Sequence[BlobInfo], types: TaskTypes) -> Iterator[pa.Table]:
    for info in files:
        for rows in read_groups(store, info):
            for start in range(0, rows.num_rows, WINDOW_ROWS):
                yield conform(rows.slice(start, WINDOW_ROWS), types, run_id=None)


def _ahead(
    objects: Sequence[BlobInfo],
    load: Callable[[BlobInfo], pa.Table],
    pool: ThreadPoolExecutor,
    slots: threading.Semaphore,
) -> Iterator[pa.Table]:
    """`load` of every object, in order; while one is worked on the next is fetched, if one of the slots is free."""
    waiting: Future[pa.Table] | None = None
    for place, info in enumerate(objects):
        if waiting is None:
            table = load(info)
        else:
            table, waiting = waiting.result(), None
            slots.release()
        if place + 1 < len(objects) and slots.acquire(blocking=False):
            waiting = pool.submit(load, objects[place + 1])
        yield table


def _sliced(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        for start in range(0, table.num_rows, WINDOW_ROWS):
            yield table.slice(start, WINDOW_ROWS)


def _first_after(key: pa.ChunkedArray, bound: str) -> int:
    """The first place in the sorted `key` that lies after `bound`."""
    low, high = 0, len(key)
    while low < high:
        middle = (low + high) // 2
        if key[middle].as_py() <= bound:
            low = middle + 1
        else:
            high = middle
    return low
