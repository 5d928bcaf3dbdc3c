"""How are the rows of one Parquet object read? Whole, by row groups, only those of one value, or only its footer."""

import bisect
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreError, StoreUnavailable
from winnow_storage.range_file import RangeFile

Result = TypeVar("Result")
_READS = 4
_THREADS = 16  # for small objects, each one request
WHOLE_BYTES = 4 * 2**20  # up to this size one request for all is cheaper than one for each column


def read_rows(store: BlobStore, info: BlobInfo, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a shard object; `columns` may reach into a struct (`kind.label`).

    Raises:
        StoreUnavailable: it came damaged, and each time differently.
        StoreError: the object is not a shard, or what is stored of it is damaged.
    """
    wanted = None if columns is None else list(columns)
    with _Reader(store, info, whole=info.bytes <= WHOLE_BYTES) as reader:
        rows = reader.ask(lambda parquet: parquet.read(columns=wanted, use_threads=False))
    return rows.replace_schema_metadata(None)


@dataclass(frozen=True, slots=True)
class Share:
    """Which of many units one of several readers takes: every `of`-th, beginning at `part`."""

    part: int = 0
    of: int = 1

    def takes(self, unit: int) -> bool:
        """Whether the unit of that number is this reader's."""
        return unit % self.of == self.part


ALL = Share()


def read_groups(
    store: BlobStore, info: BlobInfo, columns: Sequence[str] | None = None, *, share: Share = ALL
) -> Iterator[pa.Table]:
    """The rows of a large object, one row group at a time. If all columns are wanted, its bytes are fetched at once.

    Raises:
        StoreUnavailable: it came damaged, and each time differently.
        StoreError: the object is not Parquet, or what is stored of it is damaged.
    """
    wanted = None if columns is None else list(columns)

    def rows_of(group: int) -> pa.Table:
        return reader.ask(lambda parquet: parquet.read_row_group(group, columns=wanted, use_threads=False))

    with _Reader(store, info, whole=columns is None or info.bytes <= WHOLE_BYTES) as reader:
        for group in filter(share.takes, range(reader.ask(lambda parquet: parquet.num_row_groups))):
            yield rows_of(group).replace_schema_metadata(None)


def find_rows(
    store: BlobStore, info: BlobInfo, column: str, value: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows whose `column`, a text, is `value`. Of an object that is sorted by it one row group is read, since
    statistics tell where it may be; of others that column first, and the rest only where it is.

    Raises:
        StoreUnavailable: it came damaged, and each time differently.
        StoreError: the object is not Parquet, or what is stored of it is damaged.
    """
    wanted = None if columns is None else list(columns)

    def look(parquet: pq.ParquetFile) -> pa.Table:
        found = []
        for group in _groups_with(parquet.metadata, column, value):
            names = parquet.read_row_group(group, columns=[column], use_threads=False)[column]
            is_it = pc.equal(names, pa.scalar(value, pa.string()))
            if pc.any(is_it).as_py():
                rows = parquet.read_row_group(group, columns=wanted, use_threads=False)
                found.append(rows.filter(is_it))
        return pa.concat_tables(found) if found else parquet.schema_arrow.empty_table()

    with _Reader(store, info, whole=info.bytes <= WHOLE_BYTES) as reader:
        return reader.ask(look).replace_schema_metadata(None)


def find_below(store: BlobStore, prefix: str, column: str, value: str) -> Iterator[dict[str, Any]]:
    """The same rows of every Parquet object whose key begins with `prefix`, in their order.

    Raises:
        StoreUnavailable, StoreError: as `find_rows`.
    """
    infos = (info for info in store.walk(prefix) if info.key.endswith(".parquet"))
    with ThreadPoolExecutor(_THREADS) as pool:
        for rows in mapped_ahead(pool, lambda info: find_rows(store, info, column, value), infos, ahead=_THREADS):
            yield from rows.to_pylist()


def first_value(store: BlobStore, info: BlobInfo, column: str) -> str:
    """What the first row of a sorted object says in `column`, a text; empty if there is no row.

    Raises:
        StoreUnavailable, StoreError: as `find_rows`.
    """

    def look(parquet: pq.ParquetFile) -> str:
        if parquet.metadata.num_rows == 0:
            return ""
        told = _range_of(parquet.metadata, 0, _leaf(parquet.metadata, column))
        if told is not None:
            return told[0]
        return str(parquet.read_row_group(0, columns=[column], use_threads=False)[column][0].as_py())

    with _Reader(store, info, whole=info.bytes <= WHOLE_BYTES) as reader:
        return reader.ask(look)


def read_key_values(store: BlobStore, info: BlobInfo) -> Mapping[bytes, bytes]:
    """What the footer of an object says of it beside its schema.

    Raises:
        StoreUnavailable, StoreError: as `find_rows`.
    """
    with _Reader(store, info, whole=False) as reader:
        return reader.ask(lambda parquet: parquet.metadata.metadata or {})


def _groups_with(footer: pq.FileMetaData, column: str, value: str) -> Iterator[int]:
    """The row groups that may have the value."""
    leaf = _leaf(footer, column)
    for group in range(footer.num_row_groups):
        told = _range_of(footer, group, leaf)
        if told is None or told[0] <= value <= told[1]:
            yield group


def _leaf(footer: pq.FileMetaData, column: str) -> int:
    paths = (footer.schema.column(leaf).path for leaf in range(footer.num_columns))
    found = next((leaf for leaf, path in enumerate(paths) if path == column), None)
    if found is None:
        raise pa.ArrowInvalid(f"it has no column {column}")
    return found


def _range_of(footer: pq.FileMetaData, group: int, leaf: int) -> tuple[str, str] | None:
    """The least and the greatest text of a column, in Python's order as in Parquet's of UTF-8 bytes; None: untold."""
    told = footer.row_group(group).column(leaf).statistics
    return None if told is None or not told.has_min_max else (told.min, told.max)


def read_groups_with(
    store: BlobStore, info: BlobInfo, keys: Sequence[str], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """The row groups that may hold one of the sorted `keys`, as the statistics of their column `key` say, in order.

    Raises:
        StoreUnavailable, StoreError: as `read_groups`.
    """

    def may_hold(parquet: pq.ParquetFile, group: int) -> bool:
        told = _range_of(parquet.metadata, group, _leaf(parquet.metadata, "key"))
        if told is None:
            return True
        place = bisect.bisect_left(keys, told[0])
        return place < len(keys) and keys[place] <= told[1]

    def rows_of(group: int) -> pa.Table | None:
        return reader.ask(
            lambda parquet: (
                parquet.read_row_group(group, columns=list(columns), use_threads=False)
                if may_hold(parquet, group)
                else None
            )
        )

    with _Reader(store, info, whole=info.bytes <= WHOLE_BYTES) as reader:
        for group in range(reader.ask(lambda parquet: parquet.num_row_groups)):
            rows = rows_of(group)
            if rows is not None:
                yield rows.replace_schema_metadata(None)


def read_schema(store: BlobStore, info: BlobInfo) -> pa.Schema:
    """The schema of an object's rows, from its footer.

    Raises:
        StoreUnavailable: its footer came damaged, and each time differently.
        StoreError: the object is not Parquet.
    """
    with _Reader(store, info, whole=False) as reader:
        return reader.ask(lambda parquet: parquet.schema_arrow).remove_metadata()


def text_columns(schema: pa.Schema) -> list[str]:
    """The Parquet paths of all leaves that hold text: what is worth a dictionary, and what DuckDB reads from one."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    leaves = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    paths = (leaves.column(index) for index in range(len(leaves)))
    return [leaf.path for leaf in paths if leaf.physical_type == "BYTE_ARRAY"]


class _Reader:
    """One Parquet object, whose pages must be what their checksums say; what came damaged is fetched again."""

    def __init__(self, store: BlobStore, info: BlobInfo, *, whole: bool) -> None:
        self._store = store
        self._info = info
        self._whole = whole
        self._open: contextlib.ExitStack | None = None
        self._parquet: pq.ParquetFile | None = None

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def ask(self, read: Callable[[pq.ParquetFile], Result]) -> Result:
        """What `read` returns of the object; asked again, of bytes that are fetched again, if they were damaged."""
        seen = set()
        for _ in range(_READS):
            try:
                return read(self._opened())
            except (pa.ArrowException, OSError) as error:  # OSError is Arrow's, of a page it cannot unpack
                self._close()
                what = str(error)
                if what in seen:  # what is read twice is what is stored
                    raise self._damaged(what) from error
                seen.add(what)
        raise StoreUnavailable(
            f"{self._store.root}/{self._info.key} came damaged {_READS} times, each time in another way",
            hint="check the network to the store, then try again",
        )

    def _opened(self) -> pq.ParquetFile:
        # Without Arrow's threads: one that still lets go of a Python object while the interpreter ends aborts the
        # process.
        if self._parquet is None:
            self._open = contextlib.ExitStack()
            source = (
                pa.BufferReader(self._store.get(self._info.key))
                if self._whole
                else self._open.enter_context(RangeFile(self._store, self._info.key, size_bytes=self._info.bytes))
            )
            self._parquet = self._open.enter_context(
                pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
            )
        return self._parquet

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = self._parquet = None

    def _damaged(self, what: str) -> StoreError:
        folder = self._info.key.rpartition("/")[0].rpartition("/")[2]
        kind = "a shard" if folder == "results" else "a Parquet object"
        return StoreError(
            f"{self._store.root}/{self._info.key} is not {kind} that Winnow wrote, or is damaged ({what})",
            hint=f"move that object out of the {folder} folder, then run the same command",
        )
