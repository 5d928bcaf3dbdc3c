"""What was said of an item before? The committed rows of all earlier runs, read along with a sorted listing.

The work of a run is cut from a sorted listing, so its shards in order are sorted by key as well, those of copies apart:
one pass over the corpus needs one or two shards of every run in memory, and no set of what is final. What the newest
compaction took down of the runs before it is read in their place, if it is what they would say.
"""

import bisect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs import standing_files
from winnow_jobs.plan import Begun
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_jobs.standing import SAYS, SILENT, WITHOUT_PREDICTION, Rows, RunRows, Says
from winnow_jobs.standing_files import ReadRun, StandingDamaged, TakenDown
from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreError
from winnow_storage.parquet_rows import read_rows
from winnow_storage.schemas import Outcome
from winnow_storage.shards import committed_shards

READ_THREADS = 16
SHARDS_AHEAD = 64  # over all runs
T = TypeVar("T")


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
        self._plans = {plan.run_id: plan for plan in plans}
        self._corpus_id = corpus_id
        self._digests = {task.name: task.digest for task in tasks}
        self._objects: list[dict[int, BlobInfo]] = []
        self._readers: list[_Reader] | None = None
        self._given = ""  # the last key up to which rows were given
        self._pool = ThreadPoolExecutor(READ_THREADS)

    def __enter__(self) -> "History":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def until(self, key: str) -> list[Rows]:
        """The rows up to and with `key` that were not given yet, oldest run first.

        Raises:
            StoreError: an object among the results is no shard, or its rows are not sorted.
        """
        found = self._ask(lambda reader: list(reader.until(key)))
        self._given = key
        return [rows for some in found for rows in some]

    def bound(self) -> str | None:
        """A key up to which rows can be given without fetching more; None at the end of all.

        Raises:
            StoreError: as `until`.
        """
        last = self._ask(_Reader.last_key)
        return min((key for key in last if key is not None), default=None)

    def read_runs(self) -> dict[str, ReadRun]:
        """The runs, as they are read here."""
        self._open()
        return {
            plan.run_id: ReadRun(plan.digest, standing_files.objects_digest(infos.values()))
            for (plan, _), infos in zip(self._runs, self._objects, strict=True)
        }

    def taken_down(self) -> TakenDown | None:
        """What the newest compaction took down, if that is what its runs would say now."""
        record = standing_files.newest(self._store)
        if record is None or record.corpus_id != self._corpus_id:
            return None
        standing = all(
            run_id in self._plans and self._plans[run_id].digest == run.plan for run_id, run in record.runs.items()
        )
        now = self.read_runs()
        older = [(plan, names) for plan, names in self._runs if int(plan.run_id) <= record.through]
        same = all(
            record.runs.get(plan.run_id) == now[plan.run_id]
            and all(record.tasks.get(name) == self._digests[name] for name in names)
            for plan, names in older
        )
        return record if standing and same else None

    def _ask(self, question: Callable[["_Reader"], T]) -> list[T]:
        self._open()
        if self._readers is None:
            self._readers = self._opened(self.taken_down())
        try:
            return [question(reader) for reader in self._readers]
        except StandingDamaged:
            self._readers = self._opened(None)
            for reader in self._readers:
                deque(reader.until(self._given), maxlen=0)
            return [question(reader) for reader in self._readers]

    def _open(self) -> None:
        if len(self._objects) != len(self._runs):
            listed = self._pool.map(lambda run: committed_shards(self._store, run[0].run_id), self._runs)
            self._objects = list(listed)

    def _opened(self, record: TakenDown | None) -> list["_Reader"]:
        ahead = max(1, min(READ_THREADS, SHARDS_AHEAD // max(1, len(self._runs))))
        numbers = [int(plan.run_id) for plan, _ in self._runs]
        stood = [] if record is None else [_Reader(standing_files.read(self._store, record, self._digests, numbers))]
        through = 0 if record is None else record.through
        return stood + [
            _Reader(self._shards(place, shards, ahead))
            for place, number in enumerate(numbers)
            if number > through
            for shards in self._runs[place][0].sorted_streams(self._objects[place])
        ]

    def _shards(self, number: int, shards: Sequence[int], ahead: int) -> Iterator[RunRows]:
        names = self._runs[number][1]
        columns = ["key", "version", "outcome", *(f"{name}.{field}" for name in names for field in ("model", "error"))]

        def read(shard: int) -> RunRows:
            info = self._objects[number][shard]
            rows = read_rows(self._store, info, columns)
            says = np.stack([_says(rows, name) if name in names else _silence(rows) for name in self._names])
            found = RunRows(number, _whole(rows["key"]), _whole(rows["version"]), says, shard)
            self._check_order(found.keys, info)
            return found

        return mapped_ahead(self._pool, read, shards, ahead=ahead)

    def _check_order(self, keys: pa.StringArray, info: BlobInfo) -> None:
        if not pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py():
            raise StoreError(
                f"the rows of {self._store.root}/{info.key} are not sorted by key, as every shard's are",
                hint="winnow verify looks at a run's objects; move that object away, then run the same command",
            )


class _Reader:
    """The rows of one source, taken in order."""

    def __init__(self, rows: Iterator[Rows]) -> None:
        self._source = rows
        self._rows: Rows | None = None
        self._at = 0

    def last_key(self) -> str | None:
        """The last key of the rows at hand, or of the next ones; None at the end."""
        while self._rows is None or self._at == len(self._rows.keys):
            self._rows, self._at = next(self._source, None), 0
            if self._rows is None:
                return None
        key: str = self._rows.keys[-1].as_py()
        return key

    def until(self, key: str) -> Iterator[Rows]:
        """The rows up to and with `key` that were not given yet."""
        while (last := self.last_key()) is not None and self._rows is not None:
            rows, start = self._rows, self._at
            # Python orders text by code points, Arrow by UTF-8 bytes: the same order
            is_whole = last <= key
            stop = (
                len(rows.keys) if is_whole else bisect.bisect_right(rows.keys, key, lo=start, key=pa.StringScalar.as_py)
            )
            self._at = stop
            if stop > start:
                yield rows.slice(start, stop)
            if not is_whole:
                return


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
