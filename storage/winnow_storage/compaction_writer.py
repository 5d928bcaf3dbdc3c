"""How do streamed rows become large Parquet objects? Row groups of a moderate size, parts of about 256 MiB."""

from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_storage.blobs import BlobStore
from winnow_storage.parquet_rows import text_columns
from winnow_storage.parts import Part

GROUP_ROWS = 1 << 16
GROUP_BYTES = 32 << 20  # as Arrow holds them
PART_ROWS = 1_000_000
PART_BYTES = 256 << 20  # as Parquet stores them; a part is one PUT


class PartsWriter:
    """Writes tables, in order, to `<prefix>-00000.parquet` and on. One row group and one part are held in memory.

    There is always a first part, if only for its schema. Text is dictionary-encoded, everything else PLAIN, all of it
    zstd, as in shard objects.
    """

    def __init__(self, store: BlobStore, prefix: str, schema: pa.Schema) -> None:
        self._store = store
        self._prefix = prefix
        self._schema = schema
        self._text = text_columns(schema)
        self._waiting: list[pa.Table] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._sink = pa.BufferOutputStream()
        self._part = self._begin()
        self._part_rows = 0
        self.parts: list[Part] = []

    def __enter__(self) -> "PartsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._part.close()

    def add(self, rows: pa.Table) -> None:
        """The next rows."""
        if rows.num_rows == 0:
            return
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        self._waiting_bytes += rows.nbytes
        if self._waiting_rows >= GROUP_ROWS or self._waiting_bytes >= GROUP_BYTES:
            self._end_group()

    def finish(self) -> tuple[Part, ...]:
        """All parts, once they are put."""
        self._end_group()
        if self._part_rows or not self.parts:
            self._end_part()
        return tuple(self.parts)

    def _begin(self) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            self._sink, self._schema, compression="zstd", use_dictionary=self._text, write_page_checksum=True
        )

    def _end_group(self) -> None:
        if not self._waiting:
            return
        group, self._waiting = pa.concat_tables(self._waiting), []
        self._waiting_rows = self._waiting_bytes = 0
        self._part.write_table(group, row_group_size=group.num_rows)
        self._part_rows += group.num_rows
        if self._part_rows >= PART_ROWS or self._sink.tell() >= PART_BYTES:
            self._end_part()

    def _end_part(self) -> None:
        self._part.close()
        data: bytes = self._sink.getvalue().to_pybytes()
        key = f"{self._prefix}-{len(self.parts):05d}.parquet"
        self._store.put(key, data)
        self.parts.append(Part(key, len(data), self._part_rows))
        self._sink = pa.BufferOutputStream()
        self._part, self._part_rows = self._begin(), 0
