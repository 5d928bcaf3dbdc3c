"""What can happen to the objects of a run? Damages, one by one, each with the objects that it must be found in."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow_storage.blobs import open_store
from winnow_storage.shards import Receipt, encode_shard, read_receipt
from winnow_storage.uri import parse

PLAN, SUMMARY, ROUTES = "runs/0001/plan.json", "runs/0001/summary.json", "routes/0001.parquet"
RESULTS, SEAL = "runs/0001/results", "runs/0001/seal.json"
SHARD, OTHER = f"{RESULTS}/00000001.parquet", f"{RESULTS}/00000002.parquet"

Rows = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class Damage:
    """`apply` damages a copy of a sound output; `keys` are found, and one of them says `what`."""

    name: str
    apply: Callable[[Path], None]
    keys: Callable[[Path], set[str]]
    what: str


def rewrite(key: str, rows: Rows = lambda table: table, **receipt: Any) -> Callable[[Path], None]:
    """The shard's object again, by the real encoder, with other rows or another receipt."""

    def apply(out: Path) -> None:
        standing = read_receipt(open_store(parse(str(out))), key)
        table = pq.read_table(out / key).replace_schema_metadata(None)
        changed: Receipt = replace(standing, **receipt)
        (out / key).write_bytes(encode_shard(rows(table), changed))

    return apply


def set_value(column: str, value: object, *, at: int = 0) -> Rows:
    """The table with another value in one row; `column` may reach into a struct (`kind.model`)."""

    def apply(table: pa.Table) -> pa.Table:
        listed = table.to_pylist()
        name, _, inner = column.partition(".")
        if inner:
            listed[at][name][inner] = value
        else:
            listed[at][name] = value
        return pa.Table.from_pylist(listed, schema=table.schema)

    return apply


def with_type(column: str, kind: pa.DataType) -> Rows:
    """The table with another type of a column."""

    def apply(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(column)
        return table.set_column(place, column, pc.cast(table[column], kind))

    return apply


def other_dimension(table: pa.Table) -> pa.Table:
    """The task `vector` with vectors of one number."""
    place = table.schema.get_field_index("vector")
    fields = list(table.schema.field("vector").type)
    kind = pa.struct([*fields[:-1], pa.field("vector", pa.list_(pa.float32(), 1))])
    structs = [None if one is None else one | {"vector": [0.5]} for one in table["vector"].to_pylist()]
    return table.set_column(place, "vector", pa.array(structs, kind))


def edit(key: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """A JSON document with something changed."""

    def apply(out: Path) -> None:
        document = json.loads((out / key).read_text())
        change(document)
        (out / key).write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))

    return apply


def routes(change: Rows) -> Callable[[Path], None]:
    """The routes with other rows."""
    return lambda out: pq.write_table(change(pq.read_table(out / ROUTES)), out / ROUTES)


def part(kind: str) -> Callable[[Path], str]:
    """The key of the first part of the plan's `work` or `snapshot`."""
    return lambda out: str(json.loads((out / PLAN).read_text())[kind][0]["key"])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(out: Path) -> None:
    one, other = (out / SHARD).read_bytes(), (out / OTHER).read_bytes()
    (out / SHARD).write_bytes(other)
    (out / OTHER).write_bytes(one)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def zero_a_page(path: Path) -> None:
    """The pages of the column that no count looks at."""
    metadata = pq.read_metadata(path).row_group(0)
    columns = [metadata.column(place) for place in range(metadata.num_columns)]
    chunk = next(one for one in columns if one.path_in_schema.startswith("vector.vector"))
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size] = bytes(
        chunk.total_compressed_size
    )
    path.write_bytes(data)


def other_run(out: Path) -> None:
    """A shard of another output's run with the same numbers: everything fits but the plan."""
    rewrite(SHARD, plan_digest="0" * 64)(out)


def _doubled(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1), table])


def _without_digest(table: pa.Table) -> pa.Table:
    """A row of another version whose bytes nobody read."""
    return set_value("content_sha256", None)(set_value("version", "other")(table))


def _keys(*keys: str) -> Callable[[Path], set[str]]:
    return lambda _: set(keys)


def _shard(name: str, rows: Rows, what: str) -> Damage:
    return Damage(name, rewrite(SHARD, rows), _keys(SHARD), what)


def _part(name: str, kind: str, damage: Callable[[Path], None], what: str) -> Damage:
    return Damage(name, lambda out: damage(out / part(kind)(out)), lambda out: {part(kind)(out)}, what)


DAMAGES = [
    Damage("shard removed", lambda out: (out / SHARD).unlink(), _keys(SHARD), "it is not there, although the run"),
    Damage("shard cut off", lambda out: truncate(out / SHARD), _keys(SHARD), "it cannot be read"),
    Damage("shard emptied", lambda out: (out / SHARD).write_bytes(b"") and None, _keys(SHARD), "it cannot be read"),
    Damage("page overwritten", lambda out: zero_a_page(out / SHARD), _keys(SHARD), "it cannot be read"),
    Damage("shards swapped", swap, _keys(SHARD, OTHER), "its receipt is of shard"),
    Damage("shard of another plan", other_run, _keys(SHARD), "the digest of another plan"),
    Damage("shard of another job", rewrite(SHARD, job="other"), _keys(SHARD), "its receipt is of job other"),
    Damage("receipt: outcomes", rewrite(SHARD, outcomes={"done": 9}), _keys(SHARD), "its receipt says outcomes"),
    Damage("receipt: bytes", rewrite(SHARD, bytes=1), _keys(SHARD), "its receipt says bytes 1"),
    Damage("receipt: errors", rewrite(SHARD, errors={"kind": 2}), _keys(SHARD), "its receipt says errors"),
    Damage("receipt: items", rewrite(SHARD, items_digest="0" * 64), _keys(SHARD), "its receipt says items_digest"),
    Damage("receipt: models", rewrite(SHARD, models={"kind": "x"}), _keys(SHARD), "its receipt names the models"),
    Damage("receipt gone", lambda out: pq.write_table(pq.read_table(out / OTHER), out / SHARD), _keys(SHARD),
           "is not a shard that Winnow wrote"),
    _shard("row dropped", lambda table: table.slice(1), "items of this shard's work without a row: 1"),
    _shard("row doubled", _doubled, "items with more than one row: 1"),
    _shard("row of another item", set_value("item_id", "f" * 32), "that this shard's work does not have"),
    _shard("outcome changed", set_value("outcome", "missing"), "its receipt says outcomes"),
    _shard("outcome unknown", set_value("outcome", "fine"), "the outcome 'fine', which is none"),
    _shard("model changed", set_value("kind.model", "random:2"), "where the plan pins random:1"),
    _shard("prediction removed", set_value("kind", None), "without a prediction of kind, which was due"),
    _shard("error added", set_value("kind.error", "ValueError"), "done although a task failed"),
    _shard("run changed", set_value("run_id", "0002"), "rows that name another run or shard: 1"),
    _shard("shard changed", set_value("shard", 7), "rows that name another run or shard: 1"),
    # a row's version may be newer than the work's, but its prediction has its route
    Damage("version changed", rewrite(SHARD, set_value("version", "other")), _keys(ROUTES),
           "predictions without their route"),
    _shard("digest removed", _without_digest, "rows without bytes whose version is not the work's: 1"),
    _shard("key changed", set_value("key", "other.png"), "whose key or uri is not the work's: 1"),
    _shard("column left out", lambda table: table.drop_columns(["reason"]), "its columns are item_id, key"),
    _shard("column of another type", with_type("width", pa.int64()), "the column width is int64, not int32"),
    _shard("other vectors", other_dimension, "its columns have other types"),
    Damage("stranger", lambda out: shutil.copy(out / SHARD, out / RESULTS / "copy.parquet") and None,
           _keys(f"{RESULTS}/copy.parquet"), "it is no shard of the run"),
    Damage("stranger that is no Parquet", lambda out: (out / RESULTS / "notes.txt").write_text("x") and None,
           _keys(f"{RESULTS}/notes.txt"), "it is no shard of the run"),
    Damage("shard beyond the plan", lambda out: shutil.copy(out / SHARD, out / RESULTS / "00000099.parquet") and None,
           _keys(f"{RESULTS}/00000099.parquet"), "the plan has 5, counted from 0"),
    Damage("plan edited", edit(PLAN, lambda plan: plan.update(other_files=7)), _keys(PLAN), "no receipt of the run"),
    Damage("plan contradicts itself", edit(PLAN, lambda plan: plan.update(items=38)), _keys(PLAN, SUMMARY),
           "its work has 5 shards with 37 items"),
    Damage("plan removed", lambda out: (out / PLAN).unlink(), _keys(PLAN), "although shards of the run are"),
    Damage("plan cut off", lambda out: truncate(out / PLAN), _keys(PLAN), "is not a plan that this version"),
    _part("work removed", "work", Path.unlink, "it is not there"),
    _part("work changed", "work", flip, "not the one in its name"),
    _part("snapshot cut off", "snapshot", truncate, "bytes, the plan says"),
    _part("snapshot removed", "snapshot", Path.unlink, "it is not there"),
    Damage("summary: items", edit(SUMMARY, lambda one: one.update(items=36)), _keys(SUMMARY), "it says items 36"),
    Damage("summary: outcomes", edit(SUMMARY, lambda one: one["outcomes"].update(done=1)), _keys(SUMMARY),
           "it says outcomes {'done': 1"),
    Damage("summary: state", edit(SUMMARY, lambda one: one.update(state="done")), _keys(SUMMARY), "it says state done"),
    Damage("summary: selected", edit(SUMMARY, lambda one: one["review"].update(selected=0)), _keys(SUMMARY),
           "it says review.selected 0"),
    Damage("summary of another run", edit(SUMMARY, lambda one: one.update(run_id="0002")), _keys(SUMMARY),
           "it is not the summary of run 0001"),
    Damage("summary cut off", lambda out: truncate(out / SUMMARY), _keys(SUMMARY), "it cannot be read"),
    Damage("routes removed", lambda out: (out / ROUTES).unlink(), _keys(ROUTES), "although the run is closed"),
    Damage("routes cut off", lambda out: truncate(out / ROUTES), _keys(ROUTES), "it cannot be read"),
    Damage("route removed", routes(lambda table: table.slice(1)), _keys(ROUTES), "predictions without their route"),
    Damage("route doubled", routes(_doubled), _keys(ROUTES), "routes of no prediction, or the second of one"),
    Damage("route of another item", routes(set_value("item_id", "f" * 32, at=-1)), _keys(ROUTES),
           "predictions without their route"),
    Damage("route unknown", routes(set_value("route", "maybe", at=-1)), _keys(ROUTES), "routes 'maybe', which is none"),
    Damage("route: dedupe_key", routes(set_value("dedupe_key", "0" * 32)), _keys(ROUTES), "that is not theirs"),
    Damage("route: prediction", routes(set_value("prediction", None)), _keys(ROUTES), "without the prediction"),
    Damage("route: neighbours", routes(set_value("neighbours", "[{")), _keys(ROUTES),
           "it cannot be read: JSONDecodeError"),
    Damage("route: neighbours of another form", routes(set_value("neighbours", "[1]")), _keys(ROUTES),
           "it cannot be read: TypeError"),
    Damage("route: run", routes(set_value("run_id", "0002")), _keys(ROUTES), "name another run or job"),
]  # fmt: skip
