"""Which bytes are in a row of a Parquet file? Read with all of its row group, which its neighbours are in."""

import threading
from bisect import bisect_right

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow_storage.errors import BlobDamaged, BlobTooLarge, StoreUnavailable
from winnow_storage.packed.names import ParquetMember
from winnow_storage.packed.parquet_column import UNREADABLE_FOOTER, column_bytes, group_starts, image_column, leaf_path
from winnow_storage.packed.recent import Recent

GROUP_BYTES = 1 << 30  # of the column in one row group, unpacked
GROUPS_BYTES = 2 * GROUP_BYTES  # two of the largest, as two shards are worked on at once; at most four of any
_BATCH_ROWS = 64
_READS = 3

RowGroups = Recent[tuple[str, str, str, int], pa.ChunkedArray]  # by URI, version, path of the column, row group


class ImageRows:
    """An open Parquet file, for any number of threads; row groups are shared in `groups` with other files."""

    def __init__(self, parquet: pq.ParquetFile, uri: str, version: str, groups: RowGroups) -> None:
        self._parquet = parquet
        self._schema = parquet.schema_arrow
        self._starts = group_starts(parquet)
        self._named = uri, version
        self._groups = groups
        self._lock = threading.Lock()  # the file has one place to read from

    def bytes_of(self, member: ParquetMember) -> bytes:
        """The bytes of one row.

        Raises:
            BlobDamaged: there is no such row, it is null, or its row group cannot be read.
            BlobTooLarge: its row group takes too much memory.
            StoreError: the store refuses or cannot answer.
        """
        row, column = member.row, member.column
        if row >= self._starts[-1]:
            raise BlobDamaged(f"the file has {self._starts[-1]} rows, and no row {row}")
        path = leaf_path(self._schema, image_column(self._schema, column, self._named[0]))
        group = bisect_right(self._starts, row) - 1
        try:
            size_bytes = column_bytes(self._parquet, group, path)
        except UNREADABLE_FOOTER as error:
            raise BlobDamaged(f"its footer cannot be read: {error}") from error
        if size_bytes > GROUP_BYTES:
            raise _too_large(path, size_bytes)
        weight = max(size_bytes, GROUPS_BYTES // 4)
        values = self._groups.get((*self._named, path, group), weight, lambda: self._values(group, path, column))
        at = row - self._starts[group]
        if at >= len(values):
            raise BlobDamaged(f"row group {group} has {len(values)} rows, fewer than the footer claims")
        data: bytes | None = values[at].as_py()
        if data is None:
            raise BlobDamaged(f"row {row} of the column {column!r} is null")
        return data

    def _values(self, group: int, path: str, column: str) -> pa.ChunkedArray:
        values = self._read(group, path)[column]
        return pc.struct_field(values, "bytes") if pa.types.is_struct(values.type) else values

    def _read(self, group: int, path: str) -> pa.Table:
        """What is damaged twice in the same way is what is stored; otherwise it came so."""
        seen: set[str] = set()
        for _ in range(_READS):
            try:
                return self._unpacked(group, path)
            except MemoryError:
                raise
            except UNREADABLE_FOOTER as error:  # or of a page
                what = str(error)
                if what in seen:
                    raise BlobDamaged(f"row group {group} is damaged: {what}") from error
                seen.add(what)
        raise StoreUnavailable(f"row group {group} came damaged {_READS} times, each time in another way")

    def _unpacked(self, group: int, path: str) -> pa.Table:
        """Some rows at a time: a footer counts a dictionary's values once, however often they are repeated."""
        batches, size_bytes = [], 0
        with self._lock:
            for batch in self._parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[path], use_threads=False):
                size_bytes += batch.nbytes
                if size_bytes > GROUP_BYTES:
                    raise _too_large(path, size_bytes)
                batches.append(batch)
        return pa.Table.from_batches(batches, schema=None if batches else self._schema)


def _too_large(path: str, size_bytes: int) -> BlobTooLarge:
    return BlobTooLarge(
        f"the column {path!r} takes {size_bytes} bytes or more in its row group, over the limit of {GROUP_BYTES}: "
        "write the file with smaller row groups"
    )
