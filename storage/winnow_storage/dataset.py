"""How are a run's results read? Shard by shard, only the wanted columns; each committed shard once."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_storage import shards
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreError
from winnow_storage.range_file import RangeFile
from winnow_storage.schemas import RESULT_COMMON
from winnow_storage.uri import Location


def results_glob(output: Location, run_id: str) -> str:
    """The glob of a run's Parquet objects, as DuckDB, pandas and polars take it."""
    return f"{output}/{shards.results_prefix(run_id)}*.parquet"


def iter_results(store: BlobStore, run_id: str, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.Table]]:
    """(shard, its rows) of every committed shard in order; `columns` may reach into a struct (`kind.label`).

    Raises:
        StoreError: an object among the results is not a shard.
    """
    for shard, info in shards.committed_shards(store, run_id).items():
        yield shard, _rows(store, info, columns)


WHOLE_BYTES = 4 * 2**20  # up to this size one request for all is cheaper than one for each column


def read_results(store: BlobStore, run_id: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the committed shards; an empty table of the common columns while there are none.

    Raises:
        StoreError: an object among the results is not a shard.
    """
    tables = [rows for _, rows in iter_results(store, run_id, columns)]
    if tables:
        return pa.concat_tables(tables)
    common = RESULT_COMMON.empty_table()
    return common if columns is None else common.select([name for name in columns if name in common.column_names])


def _read(file: object, columns: Sequence[str] | None) -> pa.Table:
    # Without Arrow's threads: one that still lets go of a Python object while the interpreter ends aborts the process.
    with pq.ParquetFile(file, pre_buffer=False) as parquet:
        return parquet.read(columns=None if columns is None else list(columns), use_threads=False)


def _rows(store: BlobStore, info: BlobInfo, columns: Sequence[str] | None) -> pa.Table:
    try:
        if info.bytes <= WHOLE_BYTES:
            rows = _read(pa.BufferReader(store.get(info.key)), columns)
        else:
            with RangeFile(store, info.key, size_bytes=info.bytes) as file:
                rows = _read(file, columns)
    except pa.ArrowException as error:
        raise StoreError(
            f"{store.root}/{info.key} is not a shard that Winnow wrote ({error})",
            hint="move that object out of the results folder, then run the same command",
        ) from error
    return rows.replace_schema_metadata(None)
