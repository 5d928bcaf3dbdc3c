"""Which vectors lie beside the rows of a run and not in them? Those that its plan took from rows of earlier runs."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.calibrators import beside_column
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.parts import WorkReader
from winnow_workers.operator import VECTOR_FIELD, Vector
from winnow_workers.stored import Stored, StoredReader

READ_THREADS = 8
NEEDED = ("item_id", "run_id", "shard")  # of the rows, to find what lies beside them


class VectorsBeside:
    """Adds them to rows, shard by shard, of one run and of earlier ones; threads may ask at once."""

    def __init__(self, store: BlobStore, plan: PlanDocument) -> None:
        self._runs = Runs(store)
        self._plans = {plan.run_id: plan}
        self._works: dict[str, WorkReader] = {}
        self._pool = ThreadPoolExecutor(READ_THREADS)
        self._reader = StoredReader(store, self._pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def added(self, rows: pa.Table, tasks: Sequence[str]) -> pa.Table:
        """The rows of one shard (their NEEDED columns are) with the vectors of these tasks that lie beside them.

        Raises:
            StoreError: an object cannot be read.
        """
        if not tasks or rows.num_rows == 0:
            return rows
        run_id = rows["run_id"][0].as_py()
        if not self._plan(run_id).vectors:
            return rows
        work = self._works[run_id].rows(rows["shard"][0].as_py())
        is_wanted = pc.and_(pc.is_valid(work["vectors"]), pc.is_in(work["item_id"], rows["item_id"].combine_chunks()))
        work = work.filter(is_wanted)
        found = dict(zip(work["item_id"].to_pylist(), self._reader.of(work), strict=True))
        stored = {item: one for item, one in found.items() if isinstance(one, Stored)}
        for task in tasks:
            rows = _with(rows, task, {item: one.vectors[task] for item, one in stored.items() if task in one.vectors})
        return rows

    def _plan(self, run_id: str) -> PlanDocument:
        if run_id not in self._plans:
            self._plans[run_id] = self._runs.plan(run_id)
        self._works.setdefault(run_id, WorkReader(self._runs.store, self._plans[run_id].work))
        return self._plans[run_id]


def _with(rows: pa.Table, task: str, vectors: Mapping[str, Vector]) -> pa.Table:
    if not vectors:
        return rows
    width = len(next(iter(vectors.values())))
    values = np.full((rows.num_rows, width), np.nan, np.float32)
    is_known = np.zeros(rows.num_rows, np.bool_)
    own = pc.struct_field(rows[task], VECTOR_FIELD).to_pylist() if task in rows.column_names else None
    for place, item in enumerate(rows["item_id"].to_pylist()):
        vector = vectors.get(item, None if own is None else own[place])
        if vector is not None and len(vector) == width:
            values[place], is_known[place] = vector, True
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width, mask=pa.array(~is_known))
    if task in rows.column_names:  # its struct says what this run predicted, and stays
        return rows.append_column(beside_column(task), column)
    return rows.append_column(task, pa.StructArray.from_arrays([column], names=[VECTOR_FIELD]))
