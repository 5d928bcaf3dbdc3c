"""How does a table of millions of rows stand in a store? In Parquet parts, each one put, named by its content."""

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ConfigDict

from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreUnavailable
from winnow_storage.parquet_rows import find_rows, first_value
from winnow_storage.range_file import RangeFile
from winnow_storage.retrying import Retrying
from winnow_storage.schemas import WORK
from winnow_storage.shards import PATIENCE

PART_ROWS = 1 << 20
PART_GROUPS = 4096  # a footer names every row group: more of them cost more to open than they hold
SNAPSHOT_GROUP_ROWS = 1 << 16
_REPEATING = [  # nothing else repeats itself
    *("tasks.list.element", "leader.run_id"),
    *(f"vectors.list.element.{name}" for name in ("task", "run_id", "shard")),
]


@dataclass(frozen=True, slots=True)
class Part:
    """One object of a table in parts."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: str
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class WorkPart:
    """One object of a run's work: whole shards, one row group each."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    key: str
    bytes: int
    rows: int
    first_shard: int
    shards: int


@dataclass(frozen=True, slots=True)
class PartFile:
    """A part that is written but not yet put. `name` follows from its place in the table and its content."""

    path: Path
    name: str
    bytes: int
    rows: int
    groups: int


class PartWriter:
    """Writes record batches of any size as Parquet files in `folder`: equal rows give equal files.

    Every row group has `group_rows` rows, the last one of all perhaps fewer; a part ends after PART_ROWS rows or
    PART_GROUPS groups, whichever comes first. One row group is held in memory.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, group_rows: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._schema = schema
        self._group_rows = group_rows
        self._part_groups = max(1, min(PART_GROUPS, PART_ROWS // group_rows))
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._open: pq.ParquetWriter | None = None
        self._open_rows = 0
        self._open_groups = 0
        self._files: list[PartFile] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """The next rows."""
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        if self._waiting_rows >= self._group_rows:
            table = pa.Table.from_batches(self._waiting, schema=self._schema).combine_chunks()
            whole = table.num_rows // self._group_rows * self._group_rows
            for start in range(0, whole, self._group_rows):
                self._write_group(table.slice(start, self._group_rows))
            self._waiting = table.slice(whole).to_batches()
            self._waiting_rows = table.num_rows - whole

    def finish(self) -> list[PartFile]:
        """The files of all rows that were added, in order; none if there were none."""
        if self._waiting_rows:
            self._write_group(pa.Table.from_batches(self._waiting, schema=self._schema).combine_chunks())
            self._waiting, self._waiting_rows = [], 0
        self._close_part()
        return self._files

    def _write_group(self, group: pa.Table) -> None:
        if self._open is None:
            self._open = pq.ParquetWriter(
                self._path(),
                self._schema,
                compression="zstd",
                use_dictionary=_REPEATING,
                write_statistics=["key"],
                write_page_checksum=True,  # a shard's rows are read by ranges, which no ETag vouches for
            )
        self._open.write_table(group, row_group_size=group.num_rows)
        self._open_rows += group.num_rows
        self._open_groups += 1
        if self._open_groups == self._part_groups:
            self._close_part()

    def _close_part(self) -> None:
        if self._open is None:
            return
        self._open.close()
        path = self._path()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{len(self._files):05d}-{digest[:16]}.parquet"
        self._files.append(PartFile(path, name, path.stat().st_size, self._open_rows, self._open_groups))
        self._open, self._open_rows, self._open_groups = None, 0, 0

    def _path(self) -> Path:
        return self._folder / f"{len(self._files):05d}.parquet"


def find_in_parts(store: BlobStore, parts: Sequence[Part | WorkPart], key: str) -> dict[str, Any] | None:
    """The row of this key in parts whose rows are sorted by it, from one part to the next; a few footers are read.

    Raises:
        StoreError: as the store says, or a part is damaged.
    """
    infos = [BlobInfo(part.key, part.bytes, "") for part in parts]
    if len(infos) > 1:
        place = bisect.bisect_right(infos, key, key=lambda info: first_value(store, info, "key")) - 1
        infos = infos[place : place + 1] if place >= 0 else []
    return next((row for info in infos for row in find_rows(store, info, "key", key).to_pylist()), None)


class WorkReader:
    """The shards of a run's work, read one at a time; the footer of the part that was read last is remembered.

    A store that does not answer is asked for as long as at a commit: given up, either ends the run.
    """

    def __init__(self, store: BlobStore, parts: Sequence[WorkPart], *, retrying: Retrying | None = None) -> None:
        self._retrying = retrying or Retrying()
        self._store = store
        self._parts = parts
        self._footer: tuple[str, pq.FileMetaData] | None = None

    def rows(self, shard: int) -> pa.Table:
        """The rows of a shard, with the columns of `schemas.WORK`.

        Raises:
            BlobMissing: its part is not there.
            StoreUnavailable: it came damaged twice, or the store could not answer, for as long as PATIENCE says.
        """
        part = self._parts[bisect.bisect_right(self._parts, shard, key=lambda one: one.first_shard) - 1]
        known = self._footer  # once: another thread may replace it
        try:
            return self._patiently(part, shard, known[1] if known is not None and known[0] == part.key else None)
        except (pa.ArrowException, OSError):  # on its way, perhaps; the footer too, of which no checksum is kept
            self._footer = None
        try:
            return self._patiently(part, shard, None)
        except (pa.ArrowException, OSError) as error:
            raise StoreUnavailable(
                f"the work of shard {shard} in {self._store.root}/{part.key} came damaged twice: {error}",
                hint="try again; if it stays so, winnow verify says what is wrong with the run's objects",
            ) from error

    def _patiently(self, part: WorkPart, shard: int, footer: pq.FileMetaData | None) -> pa.Table:
        return self._retrying.call(lambda: self._read(part, shard, footer), lambda _: PATIENCE)

    def _read(self, part: WorkPart, shard: int, footer: pq.FileMetaData | None) -> pa.Table:
        with (
            RangeFile(self._store, part.key, size_bytes=part.bytes) as file,
            pq.ParquetFile(file, metadata=footer, page_checksum_verification=True) as work,
        ):
            rows = work.read_row_group(shard - part.first_shard, columns=WORK.names, use_threads=False)
            self._footer = (part.key, work.metadata)
        return as_work(rows)


def as_work(rows: pa.Table) -> pa.Table:
    """Rows of a run's work with all columns, whichever version of Winnow wrote them."""
    for field in WORK:
        if field.name not in rows.column_names and field.nullable:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows
