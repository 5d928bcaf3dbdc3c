"""Which column of a Parquet file holds the images, and in which row group is a row? From its footer."""

import io
import itertools
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow_storage.errors import BlobDamaged, SpecError
from winnow_storage.packed.index import MEMBERS, Index
from winnow_storage.packed.names import parquet_fragments

ROWS_MOST = 10_000_000  # of a file, which are some GB of images; a footer may claim any number
ROW_DIGITS = 10  # of a row's number in a key: byte order is row order

# OSError is Arrow's, of what it cannot unpack; the others come of names that are no text and numbers out of range
UNREADABLE_FOOTER = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, ArithmeticError)


def open_parquet(raw: io.RawIOBase, where: str) -> pq.ParquetFile:
    """The file with its footer read.

    Raises:
        BlobDamaged: it is no Parquet file.
    """
    try:
        # without Arrow's own threads, as in parquet_rows
        parquet = pq.ParquetFile(raw, pre_buffer=False, page_checksum_verification=True)
        _ = [(field.name, field.type) for field in parquet.schema_arrow]  # where a name is no UTF-8, that raises
    except MemoryError:
        raise
    except UNREADABLE_FOOTER as error:
        raise BlobDamaged(f"{where} is no Parquet file, or damaged: {error}") from error
    return parquet


def image_column(schema: pa.Schema, wanted: str | None, where: str) -> str:
    """The column `wanted`, or the only one that can hold images: of bytes, or of structs with bytes in a field `bytes`.

    Raises:
        SpecError: there is none, or none that is meant for certain.
    """
    able = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is not None and wanted in able:
        return wanted
    if wanted is None and len(able) == 1:
        return str(able[0])
    columns = ", ".join(f"{field.name} ({_short(field.type)})" for field in schema) or "none"
    if wanted is not None:
        what = f"no column {wanted!r} that holds bytes"
    else:
        what = "no column that holds bytes" if not able else f"{len(able)} columns that hold bytes"
    hint = f"write corpus.column: {' or '.join(able)}" if able else "leave this file out with corpus.include"
    raise SpecError(f"{where} has {what}; its columns are {columns}", hint=hint)


def leaf_path(schema: pa.Schema, column: str) -> str:
    """The Parquet path of the bytes in an image column."""
    return f"{column}.bytes" if pa.types.is_struct(schema.field(column).type) else column


def parquet_index(parquet: pq.ParquetFile, column: str) -> Index:
    """Its rows; how many bytes each has is not known before they are read."""
    count = parquet.metadata.num_rows
    if not 0 <= count <= ROWS_MOST:
        return Index.unopened(f"it claims {count} rows; more than {ROWS_MOST} in one file are not read")
    rows = pa.array(np.arange(count)).cast(pa.string())
    numbers = pc.utf8_lpad(rows, ROW_DIGITS, padding="0")
    names = pc.binary_join_element_wise(quote(column, safe=""), numbers, "/")
    columns = [names, parquet_fragments(rows, column), pa.nulls(len(rows), pa.int64())]
    return Index(pa.record_batch(columns, schema=MEMBERS))


def group_starts(parquet: pq.ParquetFile) -> list[int]:
    """The first row of every row group, and behind them the number of rows."""
    metadata = parquet.metadata
    sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    return list(itertools.accumulate(sizes, initial=0))


def column_bytes(parquet: pq.ParquetFile, group: int, path: str) -> int:
    """What a column of a row group takes when it is unpacked, by the footer."""
    row_group = parquet.metadata.row_group(group)
    chunks = (row_group.column(number) for number in range(row_group.num_columns))
    return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == path)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _short(kind: pa.DataType) -> str:
    text = str(kind)
    return text if len(text) <= 40 else f"{text[:37]}..."
