"""Where do a run's routes stand, and how are they read and put without holding them all? Batch by batch.

`routes/<run_id>.parquet` is put if absent, and is all of them; only if they are more than one request should carry,
the rest stands in parts named by content, which were put before and which its footer names.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing
from winnow_storage.ids import dedupe_key, digest_value
from winnow_storage.parquet_rows import WHOLE_BYTES, find_rows, read_key_values
from winnow_storage.range_file import RangeFile
from winnow_storage.schemas import ROUTES, Purpose, Route

TO_PEOPLE = (Route.REVIEW, Route.AUDIT, Route.CALIBRATE)
FIRST_ROUND = 1
BATCH_ROWS = 16384
GROUP_ROWS = 1 << 16
FILE_BYTES = 1 << 30
Counts = dict[str, dict[str, int]]  # by task and route
_PARTS = b"winnow.routes_parts"  # in the footer of the first object: a JSON list of the keys of the others


def routes_key(run_id: str) -> str:
    """Where the decisions of a run stand, or begin."""
    return f"routes/{run_id}.parquet"


def is_routed(store: BlobStore, run_id: str) -> bool:
    """Whether the routes of a run stand."""
    return store.info(routes_key(run_id)) is not None


def question_key(row: Mapping[str, Any], *, purpose: str, round_number: int) -> str:
    """The dedupe_key of what a person is asked about a row of `routes/`.

    Beside other neighbours it is another question, so that an embedding that finds others is asked about anew.
    """
    version = row["version"]
    if row.get("neighbours") is not None:
        beside = [[one["item_id"], one["version"]] for one in json.loads(row["neighbours"])]
        version = digest_value([version, beside])
    return dedupe_key(
        job=row["job"],
        task=row["task"],
        item=row["item_id"],
        version=version,
        purpose=purpose,
        round_number=round_number,
    )


def questions_of(store: BlobStore, run_ids: Iterable[str]) -> set[str]:
    """The dedupe_keys of what people were asked because of these runs, and of what adjudicators then were.

    Raises:
        StoreError: as the store says. ArrowException, OSError: an object is no Parquet, or is damaged.
    """
    columns = ("route", "job", "task", "item_id", "version", "dedupe_key", "neighbours")
    rows = [row for run_id in run_ids for row in iter_sent(store, run_id, columns)]
    further = {question_key(row, purpose=str(Purpose.ADJUDICATE), round_number=FIRST_ROUND) for row in rows}
    return further | {row["dedupe_key"] for row in rows}


def iter_routes(store: BlobStore, run_id: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """What was decided about the predictions of a run, in its order; nothing if the run is not routed.

    Raises:
        StoreError: as the store says. ArrowException, OSError: an object is no Parquet, or is damaged.
    """
    keys = [routes_key(run_id)] if is_routed(store, run_id) else []
    for key in keys:  # the first one names the others
        info = store.info(key)
        if info is None:
            raise _part_missing(store, run_id, key)
        whole = info.bytes <= WHOLE_BYTES
        file = pa.BufferReader(store.get(key)) if whole else RangeFile(store, key, size_bytes=info.bytes)
        with pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as parquet:
            keys += json.loads((parquet.metadata.metadata or {}).get(_PARTS, b"[]"))
            yield from parquet.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


def iter_sent(store: BlobStore, run_id: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The routes of a run that go to people, which stand before all others, as far as an older file has `columns`.

    Raises:
        StoreError: as the store says. ArrowException, OSError: an object is no Parquet, or is damaged.
    """
    to_people = pa.array([str(route) for route in TO_PEOPLE])
    for batch in iter_routes(store, run_id, columns):
        chosen = batch.filter(pc.is_in(batch.column("route"), to_people))
        yield from chosen.to_pylist()
        if chosen.num_rows < batch.num_rows:
            return


def routes_of_item(store: BlobStore, run_id: str, key: str) -> list[dict[str, Any]]:
    """What was decided about the predictions of one item, without these; nothing if the run is not routed.

    The routes that go to nobody stand in the order of the shards, sorted by key, so that a few row groups are read.

    Raises:
        StoreError: as the store says, or an object is damaged.
    """
    head = store.info(routes_key(run_id))
    if head is None:
        return []
    columns = [name for name in ROUTES.names if name not in ("prediction", "neighbours")]
    found = find_rows(store, head, "key", key, columns).to_pylist()
    for part in json.loads(read_key_values(store, head).get(_PARTS, b"[]")):
        info = store.info(part)
        if info is None:
            raise _part_missing(store, run_id, part)
        found += find_rows(store, info, "key", key, columns).to_pylist()
    return list(found)


def own_routes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Those of the run's own predictions, as far as the column `predicted_run` is there to tell."""
    place = batch.schema.get_field_index("predicted_run")
    return batch if place < 0 else batch.filter(pc.is_null(batch.column(place)))


def count_routes(store: BlobStore, run_id: str) -> Counts:
    """For each task, how many predictions took each route; those of earlier runs that competed again included."""
    return count_both(store, run_id)[0]


def count_both(store: BlobStore, run_id: str) -> tuple[Counts, Counts]:
    """The same, and how many of them are of earlier runs."""
    every: Counter[tuple[str, str]] = Counter()
    own: Counter[tuple[str, str]] = Counter()
    for batch in iter_routes(store, run_id, ["task", "route", "predicted_run"]):
        for counter, some in ((every, batch), (own, own_routes(batch))):
            columns = (some.column(name).to_pylist() for name in ("task", "route"))
            counter.update(zip(*columns, strict=True))
    return nested(every), nested(every - own)


def nested(counts: Counter[tuple[str, str]]) -> Counts:
    """By task and route, sorted."""
    found: Counts = {}
    for (task, route), count in sorted(counts.items()):
        found.setdefault(task, {})[route] = count
    return found


def _part_missing(store: BlobStore, run_id: str, key: str) -> BlobMissing:
    return BlobMissing(
        f"{store.root}/{key} is not there, a part of {routes_key(run_id)}",
        hint=f"winnow verify {run_id} says what else is wrong; restore it from a backup",
    )


class RoutesWriter:
    """Writes routes, in order, into files of `folder`; one row group is held in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[tuple[Path, pq.ParquetWriter]] = []
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, rows: pa.Table) -> None:
        """The next rows; the schema is ROUTES."""
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        if self._waiting_rows >= GROUP_ROWS:
            self._end_group()

    def put(self, store: BlobStore, run_id: str) -> None:
        """Put them all, if no other routes of the run stand."""
        self._end_group()
        parts: list[str] = []
        for number, (path, parquet) in enumerate(self._files[1:], start=1):
            parquet.close()
            data = path.read_bytes()
            parts.append(f"routes/{run_id}/{number:05d}-{hashlib.sha256(data).hexdigest()[:16]}.parquet")
            store.put_if_absent(parts[-1], data)
            path.unlink()
        path, head = self._files[0]
        if parts:
            head.add_key_value_metadata({_PARTS: json.dumps(parts).encode()})
        head.close()
        store.put_if_absent(routes_key(run_id), path.read_bytes())

    def _end_group(self) -> None:
        if not self._files or self._files[-1][0].stat().st_size >= FILE_BYTES:
            self._begin_file()
        if self._waiting_rows:
            group = pa.concat_tables(self._waiting).combine_chunks()
            self._files[-1][1].write_table(group, row_group_size=group.num_rows)
        self._waiting, self._waiting_rows = [], 0

    def _begin_file(self) -> None:
        path = self._folder / f"{len(self._files):05d}.parquet"
        self._files.append((path, pq.ParquetWriter(path, ROUTES, compression="zstd", write_page_checksum=True)))
