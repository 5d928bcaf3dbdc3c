"""What is the current row of every item in a range of keys? Pure: the snapshot and committed rows in, rows out.

An item has a row if any row of its version in the snapshot is committed. Of those rows

- `outcome`, `reason`, `run_id` and `shard` are the newest one's;
- `content_sha256`, `bytes`, `format`, `width` and `height` are the newest that are known;
- each task's struct is the newest usable prediction, whatever run made it; null if there is none;
- `failed_tasks` lists the tasks that failed in any of them and have no usable prediction.

`uri` is the snapshot's. Newest is decided by the number of the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.current_types import DROPPED, Mask, TaskTypes, current_schema
from winnow_storage.schemas import RESULT_COMMON, SNAPSHOT

Places = npt.NDArray[np.int64]

# Versions with committed rows that are not in the snapshot, sorted by key: who is gone, and who comes back.
LEFT = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("versions", pa.list_(pa.struct([pa.field("item_id", pa.string()), pa.field("version", pa.string())]))),
    ]
)

_NAMED = ("item_id", "key", "uri", "version")
_KNOWN = ("content_sha256", "bytes", "format", "width", "height")
_NEWEST = tuple(name for name in RESULT_COMMON.names if name not in (*_NAMED, *_KNOWN, "failed_tasks"))
_VERSION = ["key", "item_id", "version"]


@dataclass(frozen=True, slots=True)
class Window:
    """What came of a range of keys. `rows` has the current schema, `left` the schema LEFT."""

    rows: pa.Table
    left: pa.Table
    pending: int  # items of the snapshot without a row
    gone: int  # items with committed rows that are not in the snapshot
    dropped: int  # predictions of the snapshot's versions that could not be cast
    came_back: int  # versions in the snapshot that had left before: their rows are in none of the sources


def resolve_window(snapshot: pa.Table, sources: Sequence[pa.Table], left: pa.Table, types: TaskTypes) -> Window:
    """Resolve the items of `snapshot`, which has the columns of SNAPSHOT.

    `sources` hold rows as `current_types.conform` makes them, oldest run first, keys unique within each; `left` holds
    what is known to have left before. All of them are of the same range of keys.
    """
    snapshot = snapshot.select(SNAPSHOT.names).combine_chunks()
    common = _common(sources)
    at, known_item = _places(common, snapshot)
    newest = _best(at, np.ones(len(at), dtype=np.bool_), snapshot.num_rows)
    kept = np.flatnonzero(newest >= 0)
    predictions = {name: _predictions(name, kind, sources, at, snapshot.num_rows) for name, kind in types.items()}
    columns = {name: snapshot[name].take(pa.array(kept)) for name in _NAMED}
    for name in _KNOWN:
        columns[name] = _take(common[name], _best(at, _valid(common[name]), snapshot.num_rows)[kept])
    for name in _NEWEST:
        columns[name] = common[name].take(pa.array(newest[kept]))
    usable = {name: best >= 0 for name, (_, best) in predictions.items()}
    columns["failed_tasks"] = _failed(common["failed_tasks"], at, usable, snapshot.num_rows).take(pa.array(kept))
    for name, (structs, best) in predictions.items():
        columns[name] = _take(structs, best[kept])
    schema = current_schema(types)
    departed, gone, came_back = _departed(common, at, known_item, left, snapshot)
    return Window(
        rows=pa.table([columns[name] for name in schema.names], schema=schema),
        left=departed,
        pending=snapshot.num_rows - len(kept),
        gone=gone,
        dropped=int(common[DROPPED].to_numpy()[at >= 0].sum()),
        came_back=came_back,
    )


def _common(sources: Sequence[pa.Table]) -> pa.Table:
    names = [*RESULT_COMMON.names, DROPPED]
    if not sources:
        return RESULT_COMMON.append(pa.field(DROPPED, pa.int64())).empty_table()
    return pa.concat_tables([rows.select(names) for rows in sources]).combine_chunks()


def _places(rows: pa.Table, snapshot: pa.Table) -> tuple[Places, Mask]:
    """For every row the place of its item's version in the snapshot, -1 for none; and whether its item is there."""
    of_key = pc.index_in(rows["key"], value_set=snapshot["key"].combine_chunks())
    same_item = pc.equal(snapshot["item_id"].take(of_key), rows["item_id"])
    same_version = pc.equal(snapshot["version"].take(of_key), rows["version"])
    item = pc.fill_null(same_item, False).to_numpy()  # noqa: FBT003
    there = item & pc.fill_null(same_version, False).to_numpy()  # noqa: FBT003
    return np.where(there, pc.fill_null(of_key, -1).to_numpy(), -1).astype(np.int64), item


def _best(at: Places, eligible: Mask, count: int) -> Places:
    """For each of `count` places the last eligible row that is at it, -1 for none."""
    best = np.full(count, -1, dtype=np.int64)
    rows = np.flatnonzero(eligible & (at >= 0))
    np.maximum.at(best, at[rows], rows)
    return best


def _predictions(
    name: str, kind: pa.StructType, sources: Sequence[pa.Table], at: Places, count: int
) -> tuple[pa.ChunkedArray, Places]:
    """The structs of a task over those sources that have it, and for each place the newest usable one."""
    chunks: list[pa.Array] = []
    places: list[Places] = [np.empty(0, dtype=np.int64)]
    start = 0
    for rows in sources:
        if name in rows.column_names:
            chunks.extend(rows[name].chunks)
            places.append(at[start : start + rows.num_rows])
        start += rows.num_rows
    structs = pa.chunked_array(chunks, kind)
    return structs, _best(np.concatenate(places), _valid(structs), count)


def _failed(column: pa.ChunkedArray, at: Places, usable: Mapping[str, Mask], count: int) -> pa.ListArray:
    """For each of `count` places, the tasks that a row at it lists as failed and that have no usable prediction."""
    lists = pa.concat_arrays([*column.chunks, pa.array([], column.type)])
    values, places = lists.flatten(), at[pc.list_parent_indices(lists).to_numpy()]
    names = [*usable, *(name for name in pc.unique(values).to_pylist() if name not in usable)]
    codes = pc.index_in(values, value_set=pa.array(names, pa.string())).to_numpy()
    failed = np.zeros((count, len(names)), dtype=np.bool_)
    failed[places[places >= 0], codes[places >= 0]] = True
    for code, name in enumerate(usable):
        failed[:, code] &= ~usable[name]
    offsets = np.concatenate([[0], failed.sum(axis=1).cumsum()])
    listed = pa.array(names, pa.string()).take(pa.array(np.nonzero(failed)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), listed)


def _departed(
    rows: pa.Table, at: Places, known_item: Mask, left: pa.Table, snapshot: pa.Table
) -> tuple[pa.Table, int, int]:
    """The versions that are not in the snapshot; how many items they are that are not in it either; who came back."""
    before = _versions(left)
    before_at, before_known = _places(before, snapshot)
    found = pa.concat_tables(
        [
            _marked(rows, known_item).filter(pa.array(at < 0)),
            _marked(before, before_known).filter(pa.array(before_at < 0)),
        ]
    )
    came_back = int((before_at >= 0).sum())
    if found.num_rows == 0:
        return LEFT.empty_table(), 0, came_back
    found = found.group_by([*_VERSION, "known"], use_threads=False).aggregate([])
    found = found.sort_by([(name, "ascending") for name in _VERSION]).combine_chunks()
    gone = found.filter(pc.invert(found["known"])).group_by(["key", "item_id"], use_threads=False).aggregate([])
    return _by_key(found), gone.num_rows, came_back


def _marked(versions: pa.Table, known: Mask) -> pa.Table:
    return pa.table([*(versions[name] for name in _VERSION), pa.array(known)], names=[*_VERSION, "known"])


def _versions(left: pa.Table) -> pa.Table:
    """The rows of LEFT, one for each version."""
    lists = pa.concat_arrays([*left["versions"].chunks, pa.array([], LEFT.field("versions").type)])
    item_id, version = lists.flatten().flatten()
    key = left["key"].take(pc.list_parent_indices(lists))
    return pa.table([key, item_id, version], names=_VERSION)


def _by_key(versions: pa.Table) -> pa.Table:
    """Sorted versions as rows of LEFT, one for each key."""
    key = versions["key"].combine_chunks()
    starts = np.flatnonzero(np.concatenate([[True], pc.not_equal(key[1:], key[:-1]).to_numpy(zero_copy_only=False)]))
    pairs = pa.StructArray.from_arrays(
        [versions["item_id"].combine_chunks(), versions["version"].combine_chunks()], names=["item_id", "version"]
    )
    lists = pa.ListArray.from_arrays(pa.array(np.append(starts, len(key)), pa.int32()), pairs)
    return pa.table([key.take(pa.array(starts)), lists], schema=LEFT)


def _take(column: pa.ChunkedArray, rows: Places) -> pa.ChunkedArray:
    return column.take(pa.array(rows, mask=rows < 0))


def _valid(column: pa.ChunkedArray) -> Mask:
    mask: Mask = pc.is_valid(column).to_numpy()
    return mask
