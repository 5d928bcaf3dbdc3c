"""Whose predictions does a copy take over? Those of its leader's committed row, once their bytes are proved the same.

A plan only expects that, from ETags or digests. The bytes of a copy are fetched and digested like any other's; what is
not proved that way is decoded and predicted.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from winnow_storage.blobs import BlobStore
from winnow_storage.parquet_rows import read_rows
from winnow_storage.shards import shard_key

TAKEN_OVER = ("format", "width", "height")  # and the predictions of the tasks that are due


@dataclass(frozen=True, slots=True)
class Leader:
    """A committed row that holds a usable prediction of every task that is due for its copy.

    `row` has one row, with the columns TAKEN_OVER and one for each of these tasks.
    """

    item_id: str
    content_sha256: str
    row: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a prediction must be to be taken over: by this model, in a struct of this type."""

    model: str  # digest
    type: pa.DataType


class LeaderReader:
    """Reads the rows of leaders; every shard object that holds some is read once a call."""

    def __init__(self, store: BlobStore, tasks: Mapping[str, Wanted], pool: Executor) -> None:
        self._store = store
        self._tasks = tasks
        self._pool = pool

    def of(self, work: pa.Table) -> list[Leader | None]:
        """For every row of `work` (`schemas.WORK`) its leader; None if it has none, or none that will do.

        Raises:
            StoreError: a shard object cannot be read.
        """
        found: list[Leader | None] = [None] * work.num_rows
        tasks = work["tasks"].to_pylist()
        columns = ["item_id", "content_sha256", *TAKEN_OVER, *self._tasks]
        for index, row in rows_at(self._store, work["leader"], columns, self._pool):
            found[index] = self._usable(row, tasks[index])
        return found

    def _usable(self, row: pa.RecordBatch, due: Sequence[str]) -> Leader | None:
        if not all(name in row.schema.names and self._is_usable(row.column(name), self._tasks[name]) for name in due):
            return None
        (item_id,), (content,) = row["item_id"].to_pylist(), row["content_sha256"].to_pylist()
        return None if content is None else Leader(item_id, content, row.select([*TAKEN_OVER, *due]))

    def _is_usable(self, prediction: pa.StructArray, wanted: Wanted) -> bool:
        if prediction.type != wanted.type:
            return False  # of a version of Winnow that wrote other fields
        model, error = prediction.field("model")[0].as_py(), prediction.field("error")[0].as_py()
        return prediction.null_count == 0 and model == wanted.model and error is None


def rows_at(
    store: BlobStore, places: pa.ChunkedArray, columns: Sequence[str], pool: Executor
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(index, its one row) of every place (`schemas.PLACE`, nullable) at which there is a row.

    Raises:
        StoreError: a shard object cannot be read.
    """
    wanted: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for index, place in enumerate(places.to_pylist()):
        if place is not None:
            wanted.setdefault((place["run_id"], place["shard"]), []).append((index, place["row"]))

    def read(shard: tuple[str, int]) -> list[tuple[int, pa.RecordBatch]]:
        info = store.info(shard_key(*shard))
        if info is None:
            return []  # that run was removed
        rows = read_rows(store, info, columns)
        there = [(index, row) for index, row in wanted[shard] if row < rows.num_rows]
        # taken, not sliced: a slice would keep the whole shard in memory
        return [(index, rows.take(pa.array([row])).combine_chunks().to_batches()[0]) for index, row in there]

    for found in pool.map(read, wanted):
        yield from found


def with_copies(rows: pa.RecordBatch, leaders: Mapping[int, Leader]) -> pa.RecordBatch:
    """`rows` with what the copies among them, by their numbers, take over from their leaders."""
    if not leaders:
        return rows
    columns = []
    for name in rows.schema.names:
        taken = {at: one.row.column(name) for at, one in leaders.items() if name in one.row.schema.names}
        places = np.arange(rows.num_rows)
        places[list(taken)] = rows.num_rows + np.arange(len(taken))
        columns.append(pa.concat_arrays([rows.column(name), *taken.values()]).take(pa.array(places)))
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)
