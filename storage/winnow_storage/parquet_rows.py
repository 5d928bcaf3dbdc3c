"""How are the rows of one Parquet object read? Whole, row group by row group, or only their schema."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreError
from winnow_storage.range_file import RangeFile

WHOLE_BYTES = 4 * 2**20  # up to this size one request for all is cheaper than one for each column


def read_rows(store: BlobStore, info: BlobInfo, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a shard object; `columns` may reach into a struct (`kind.label`).

    Raises:
        StoreError: the object is not a shard.
    """
    wanted = None if columns is None else list(columns)
    with _opened(store, info, whole=info.bytes <= WHOLE_BYTES) as parquet:
        rows = parquet.read(columns=wanted, use_threads=False)
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
        StoreError: the object is not Parquet.
    """
    wanted = None if columns is None else list(columns)
    with _opened(store, info, whole=columns is None or info.bytes <= WHOLE_BYTES) as parquet:
        for group in filter(share.takes, range(parquet.num_row_groups)):
            yield parquet.read_row_group(group, columns=wanted, use_threads=False).replace_schema_metadata(None)


def read_schema(store: BlobStore, info: BlobInfo) -> pa.Schema:
    """The schema of an object's rows, from its footer.

    Raises:
        StoreError: the object is not Parquet.
    """
    with _opened(store, info, whole=False) as parquet:
        return parquet.schema_arrow.remove_metadata()


def text_columns(schema: pa.Schema) -> list[str]:
    """The Parquet paths of all leaves that hold text: what is worth a dictionary, and what DuckDB reads from one."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    leaves = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    paths = (leaves.column(index) for index in range(len(leaves)))
    return [leaf.path for leaf in paths if leaf.physical_type == "BYTE_ARRAY"]


@contextlib.contextmanager
def _opened(store: BlobStore, info: BlobInfo, *, whole: bool) -> Iterator[pq.ParquetFile]:
    # Without Arrow's threads: one that still lets go of a Python object while the interpreter ends aborts the process.
    try:
        with contextlib.ExitStack() as stack:
            source = (
                pa.BufferReader(store.get(info.key))
                if whole
                else stack.enter_context(RangeFile(store, info.key, size_bytes=info.bytes))
            )
            yield stack.enter_context(pq.ParquetFile(source, pre_buffer=False))
    except (pa.ArrowException, OSError) as error:  # OSError is Arrow's, of a page it cannot unpack
        folder = info.key.rpartition("/")[0].rpartition("/")[2]
        what = "a shard" if folder == "results" else "a Parquet object"
        raise StoreError(
            f"{store.root}/{info.key} is not {what} that Winnow wrote ({error})",
            hint=f"move that object out of the {folder} folder, then run the same command",
        ) from error
