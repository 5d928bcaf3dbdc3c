"""What do committed rows hold of an item of which nothing need be fetched? Its vectors, and what they say of its file.

The plan names the rows (`schemas.WORK`, vectors): of this item in this version, by the tasks whose vectors are wanted.
What is not there any more as planned makes the item unavailable, so the next run takes it again, from its pixels.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.blobs import BlobStore
from winnow_storage.parquet_rows import read_rows
from winnow_storage.shards import shard_key
from winnow_workers.operator import VECTOR_FIELD, Vector
from winnow_workers.signals import Unavailable

_ITEM = ("item_id", "version")
_OF_FILE = ("content_sha256", "bytes", "format", "width", "height")

Place = tuple[str, int]  # run_id, shard
Asked = tuple[int, str, int]  # which of the items, the task whose vector it is, the row


@dataclass(frozen=True, slots=True)
class Stored:
    """Of an item's file what its row says, as the columns are called, and its vectors (width,) by task."""

    file: Mapping[str, Any]
    vectors: Mapping[str, Vector]


class StoredReader:
    """Reads what is stored of many items; every shard object that holds some is read once a call."""

    def __init__(self, store: BlobStore, pool: Executor) -> None:
        self._store = store
        self._pool = pool

    def of(self, work: pa.Table) -> list[Stored | Unavailable | None]:
        """For every row of `work` (`schemas.WORK`) what is stored of it; None where it is to be fetched.

        Raises:
            StoreError: a shard object cannot be read.
        """
        places = work["vectors"].to_pylist()
        asked: dict[Place, list[Asked]] = {}
        for index, vectors in enumerate(places):
            for one in vectors or ():
                asked.setdefault((one["run_id"], one["shard"]), []).append((index, one["task"], one["row"]))
        found: dict[int, dict[str, tuple[dict[str, Any], Vector]]] = {}
        for some in self._pool.map(self._read, asked, asked.values()):
            for index, task, row, vector in some:
                found.setdefault(index, {})[task] = (row, vector)
        items = zip(*(work[name].to_pylist() for name in _ITEM), strict=True)
        return [
            None if vectors is None else _stored(dict(zip(_ITEM, item, strict=True)), vectors, found.get(index, {}))
            for index, (item, vectors) in enumerate(zip(items, places, strict=True))
        ]

    def _read(self, place: Place, asked: Sequence[Asked]) -> list[tuple[int, str, dict[str, Any], Vector]]:
        info = self._store.info(shard_key(*place))
        if info is None:
            return []  # that run was removed
        tasks = sorted({task for _, task, _ in asked})
        fields = [f"{task}.{field}" for task in tasks for field in (VECTOR_FIELD, "error")]
        rows = read_rows(self._store, info, [*_ITEM, *_OF_FILE, *fields])
        there = [one for one in asked if one[2] < rows.num_rows]
        # taken, not sliced: a slice would keep the whole shard in memory
        chosen = rows.take(pa.array([row for _, _, row in there], pa.int64()))
        about = chosen.select([*_ITEM, *_OF_FILE]).to_pylist()
        vectors = {task: _vectors(chosen, task) for task in tasks}
        read = ((index, task, about[at], vectors[task].get(at)) for at, (index, task, _) in enumerate(there))
        return [(index, task, row, vector) for index, task, row, vector in read if vector is not None]


def _stored(
    item: Mapping[str, Any],
    wanted: Sequence[Mapping[str, Any]],
    found: Mapping[str, tuple[dict[str, Any], Vector]],
) -> Stored | Unavailable:
    for one in wanted:
        row, _ = found.get(one["task"], ({}, None))
        if any(row.get(name) != item[name] for name in _ITEM):
            return Unavailable(
                f"the row of run {one['run_id']} that held its vector of {one['task']} is not there any more; "
                "the next run takes it again"
            )
    rows = [row for row, _ in found.values()]
    return Stored({name: rows[0][name] for name in _OF_FILE}, {task: vector for task, (_, vector) in found.items()})


def _vectors(rows: pa.Table, task: str) -> dict[int, Vector]:
    """(width,) of each row that has one without an error, by its number."""
    if task not in rows.column_names:
        return {}
    struct = rows[task].combine_chunks()
    own = dict(zip((field.name for field in struct.type), struct.flatten(), strict=True))
    column = own.get(VECTOR_FIELD)
    if column is None or not pa.types.is_fixed_size_list(column.type):
        return {}
    usable = pc.and_(pc.is_valid(column), pc.is_null(own["error"])) if "error" in own else pc.is_valid(column)
    places = np.flatnonzero(usable.to_numpy(zero_copy_only=False))
    values = column.take(pa.array(places)).flatten().to_numpy(zero_copy_only=False)
    vectors = values.reshape(len(places), column.type.list_size)
    return {int(place): vector for place, vector in zip(places, vectors, strict=True)}
