"""Who is asked because of what people said? Rows below `asked/`, as those of `routes/`, put before anybody is asked.

Their `route` is the purpose: gold, second_look or adjudicate. They are put once for each dedupe_key, so the ledger can
be told of them again from here.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow_annotation.consensus.beliefs import BELIEVED
from winnow_annotation.tasks import PushItem
from winnow_jobs.routes import iter_routes, question_key
from winnow_jobs.runs import Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import StoreError
from winnow_storage.ids import digest_value
from winnow_storage.parquet_rows import find_below
from winnow_storage.schemas import ROUTES, Purpose

PREFIX = "asked/"

Place = tuple[str, str, str]  # task, item_id, version


def asked_rows(store: BlobStore) -> list[dict[str, Any]]:
    """Every row, each dedupe_key once.

    Raises:
        StoreError: as the store says, or an object below `asked/` is damaged.
    """
    rows: dict[str, dict[str, Any]] = {}
    for info in store.walk(PREFIX):
        if not info.key.endswith(".parquet"):
            continue
        try:
            table = pq.read_table(pa.BufferReader(store.get(info.key)), use_threads=False)
            found = _with_all_columns(table).to_pylist()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise StoreError(
                f"{store.root}/{info.key} cannot be read: {error}",
                hint="restore it from a backup; else remove it: what Label Studio has of it stays there",
            ) from error
        rows |= {row["dedupe_key"]: row for row in found}
    return list(rows.values())


def asked_about(store: BlobStore, item_id: str) -> list[dict[str, Any]]:
    """The rows about one item, without predictions; of all others only the ids are read.

    Raises:
        StoreError: as `asked_rows` says.
    """
    rows = {row["dedupe_key"]: row | {"prediction": None} for row in find_below(store, PREFIX, "item_id", item_id)}
    return list(rows.values())


def asked_items(store: BlobStore) -> list[PushItem]:
    """The same, as they are pushed."""
    return [PushItem.from_row(row) for row in asked_rows(store)]


def ask(row: Mapping[str, Any], purpose: Purpose, reason: str, *, prediction: str | None = None) -> dict[str, Any]:
    """A question about the item of a row of `routes/`."""
    key = question_key(row, purpose=str(purpose), round_number=1)
    changed = {"route": str(purpose), "reason": reason, "round": 1, "dedupe_key": key, "prediction": prediction}
    return {**row, **changed, "model": None}


def put_asked(store: BlobStore, rows: Iterable[Mapping[str, Any]], known: Iterable[Mapping[str, Any]]) -> int:
    """Put those that were not asked before; how many they are."""
    before = {row["dedupe_key"] for row in known}
    new = {row["dedupe_key"]: row for row in rows if row["dedupe_key"] not in before}
    if new:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(new.values()), schema=ROUTES), buffer, compression="zstd")
        store.put_if_absent(f"{PREFIX}{digest_value(sorted(new))[:32]}.parquet", buffer.getvalue())
    return len(new)


def _with_all_columns(table: pa.Table) -> pa.Table:
    """Those that came later are null in what was put before."""
    for field in ROUTES:
        if field.nullable and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(ROUTES.names).cast(ROUTES)


def sent_rows(runs: Runs) -> dict[Place, dict[str, Any]]:
    """The rows of `routes/` that went to people, the newest run's of each item's version.

    Predictions are there where they are beliefs about one answer; masks and lines of every run are not held.
    """
    found: dict[Place, dict[str, Any]] = {}
    for run_id in runs.ids():
        for batch in iter_routes(runs.store, run_id):
            sent = batch.filter(pc.is_valid(batch.column("dedupe_key")))
            for row in sent.to_pylist():
                believed = row["prediction"] if row["operator"] in BELIEVED else None
                found[row["task"], row["item_id"], row["version"]] = row | {"prediction": believed}
            if sent.num_rows == 0:
                break  # those that go to people come first
    return found


def rows_of_keys(runs: Runs, run_id: str, task: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a run's routes about these items of a task, by key; without their predictions."""
    wanted = pa.array(list(keys), pa.string())
    found: list[dict[str, Any]] = []
    for batch in iter_routes(runs.store, run_id):
        own = pc.and_(pc.equal(batch.column("task"), task), pc.is_in(batch.column("key"), wanted))
        found += [row | {"prediction": None} for row in batch.filter(own).to_pylist()]
    return sorted(found, key=lambda row: str(row["key"]))
