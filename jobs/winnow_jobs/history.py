"""What was said of an item before? The committed rows of all earlier runs, read along with a sorted listing.

The work of a run is cut from a sorted listing, so its shards in order are sorted by key as well, those of copies apart:
one pass over the corpus needs one or two shards of every run in memory, and no set of what is final.
"""

import bisect
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.plan import SAYS, SILENT, WITHOUT_PREDICTION, Begun, RunRows, Says
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreError
from winnow_storage.parquet_rows import read_rows
from winnow_storage.schemas import Outcome
from winnow_storage.shards import committed_shards

READ_THREADS = 16
SHARDS_AHEAD = 64  # over all runs


class History:
    """The rows of the earlier runs of one corpus that share a task, by digest, with what is planned now."""

    def __init__(
        self, store: BlobStore, plans: Sequence[PlanDocument], *, corpus_id: str, tasks: Sequence[ResolvedTask]
    ) -> None:
        self._store = store
        self._names = [task.name for task in tasks]
        shared = [(plan, _shared(plan, tasks)) for plan in plans if plan.spec.corpus.id == corpus_id]
        self._runs = [(plan, names) for plan, names in shared if names]
        self.begun = [Begun(plan.run_id, plan.created_at, plan.selection) for plan, _ in self._runs]
        self._readers: list[_Reader] | None = None
        self._pool = ThreadPoolExecutor(READ_THREADS)

    def __enter__(self) -> "History":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def until(self, key: str) -> list[RunRows]:
        """The rows up to and with `key` that were not given yet, oldest run first.

        Raises:
            StoreError: an object among the results is no shard, or its rows are not sorted.
        """
        if self._readers is None:
            self._readers = self._opened()
        return [rows for reader in self._readers for rows in reader.until(key)]

    def _opened(self) -> list["_Reader"]:
        committed = self._pool.map(lambda run: committed_shards(self._store, run[0].run_id), self._runs)
        ahead = max(1, min(READ_THREADS, SHARDS_AHEAD // max(1, len(self._runs))))
        return [
            _Reader(self._shards(number, infos, ahead))
            for number, found in enumerate(committed)
            for infos in self._runs[number][0].sorted_streams(found)
        ]

    def _shards(self, number: int, infos: Sequence[BlobInfo], ahead: int) -> Iterator[RunRows]:
        names = self._runs[number][1]
        columns = ["key", "version", "outcome", *(f"{name}.{field}" for name in names for field in ("model", "error"))]

        def read(info: BlobInfo) -> RunRows:
            rows = read_rows(self._store, info, columns)
            says = np.stack([_says(rows, name) if name in names else _silence(rows) for name in self._names])
            found = RunRows(number, _whole(rows["key"]), _whole(rows["version"]), says)
            self._check_order(found.keys, info)
            return found

        return mapped_ahead(self._pool, read, infos, ahead=ahead)

    def _check_order(self, keys: pa.StringArray, info: BlobInfo) -> None:
        if not pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py():
            raise StoreError(
                f"the rows of {self._store.root}/{info.key} are not sorted by key, as every shard's are",
                hint="winnow verify looks at a run's objects; move that object away, then run the same command",
            )


class _Reader:
    """The rows of one run, taken in order."""

    def __init__(self, shards: Iterator[RunRows]) -> None:
        self._shards = shards
        self._rows: RunRows | None = None
        self._at = 0
        self._ended = False

    def until(self, key: str) -> Iterator[RunRows]:
        """The rows up to and with `key` that were not given yet."""
        while not self._ended:
            if self._rows is None:
                self._rows, self._at = next(self._shards, None), 0
                self._ended = self._rows is None
                continue
            rows, start = self._rows, self._at
            count = len(rows.keys)
            # Python orders text by code points, Arrow by UTF-8 bytes: the same order
            if count and rows.keys[count - 1].as_py() > key:
                self._at = bisect.bisect_right(rows.keys, key, lo=start, key=pa.StringScalar.as_py)
                if self._at > start:
                    yield rows.slice(start, self._at)
                return
            self._rows = None
            if count > start:
                yield rows.slice(start, count)


def _shared(plan: PlanDocument, tasks: Sequence[ResolvedTask]) -> list[str]:
    theirs = {task.name: task.digest for task in plan.tasks()}
    return [task.name for task in tasks if theirs.get(task.name) == task.digest]


def _says(rows: pa.Table, task: str) -> Says:
    """What every row says of a task (`plan.SAYS`).

    A failed item's other tasks have their predictions. An `unavailable` row says nothing, nor does one whose task had
    not to run.
    """
    outcome = pc.index_in(rows["outcome"], value_set=pa.array(list(SAYS), pa.string()))
    code = outcome.to_numpy().astype(np.int8) + 1
    ended = np.isin(code, (SAYS[Outcome.DONE], SAYS[Outcome.FAILED]))
    has_model = pc.is_valid(pc.struct_field(rows[task], "model")).to_numpy()
    has_error = pc.is_valid(pc.struct_field(rows[task], "error")).to_numpy()
    says = np.where(np.isin(code, WITHOUT_PREDICTION), code, np.int8(SILENT))
    says[ended & has_model & ~has_error] = SAYS[Outcome.DONE]
    says[ended & has_error] = SAYS[Outcome.FAILED]
    return says


def _silence(rows: pa.Table) -> Says:
    return np.full(rows.num_rows, SILENT, np.int8)


def _whole(column: pa.ChunkedArray) -> pa.StringArray:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
