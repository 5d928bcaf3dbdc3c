"""Which objects does a corpus file name? Its `uri` column, read, checked row by row and made canonical."""

import posixpath

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from winnow_storage import blobs
from winnow_storage.errors import BlobMissing, SpecError
from winnow_storage.range_file import RangeFile
from winnow_storage.uri import Location, parse

SUFFIXES = (".parquet", ".csv")
COLUMN = "uri"


def read_uris(file: Location) -> list[str]:
    """The canonical URIs that the corpus file at `file` names, each once, sorted by their UTF-8 bytes.

    A relative one is relative to the folder of the file, a plain path (not percent-encoded).

    Raises:
        SpecError: no such file, not Parquet or CSV, no text column `uri`, or a row that names no object.
    """
    try:
        column = _column(file)
    except BlobMissing as error:
        raise SpecError(f"the corpus file {file} is not there", hint="check corpus.uri in the spec") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        kind = posixpath.splitext(file.name)[1][1:]
        raise SpecError(f"{file} cannot be read as {kind}: {error}", hint="write the corpus file again") from error
    found = {_canonical(text, file, row) for row, text in enumerate(column.to_pylist(), start=1)}
    return sorted(found, key=lambda uri: uri.encode())


def _column(file: Location) -> pa.ChunkedArray:
    store = blobs.open_store(file.parent)
    if file.name.lower().endswith(".csv"):
        return _csv_column(store.get(file.name), file)
    with RangeFile(store, file.name) as opened:
        parquet = pq.ParquetFile(opened)
        names = parquet.schema_arrow.names
        if COLUMN not in names:
            raise _no_column(file, names)
        column = parquet.read(columns=[COLUMN]).column(COLUMN)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise SpecError(f"{file}: the column {COLUMN!r} holds {column.type}, not text", hint="write it as strings")
    return column


def _csv_column(data: bytes, file: Location) -> pa.ChunkedArray:
    names = pa_csv.open_csv(pa.BufferReader(data)).schema.names
    if COLUMN not in names:
        raise _no_column(file, names)
    options = pa_csv.ConvertOptions(include_columns=[COLUMN], column_types={COLUMN: pa.string()})
    return pa_csv.read_csv(pa.BufferReader(data), convert_options=options).column(COLUMN)


def _no_column(file: Location, names: list[str]) -> SpecError:
    return SpecError(
        f"{file} has no column {COLUMN!r}; its columns are {', '.join(names) or 'none'}",
        hint=f"name the column that holds the images' places {COLUMN!r}",
    )


def _canonical(text: str | None, file: Location, row: int) -> str:
    where = f"{file}, row {row}"
    if text is None or not text.strip() or "\0" in text:
        raise SpecError(f"{where}: {text!r} names no object", hint="fill the row's uri or take the row out")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _relative(text, file, where)
    if scheme == "file" and file.scheme != "file":
        raise SpecError(
            f"{where}: {text!r} is a local file, but the corpus file is in a bucket", hint="name objects of the bucket"
        )
    try:
        canonical = text if scheme == "s3" else parse(text).uri
        blobs.locate(canonical)
    except SpecError as error:
        raise SpecError(f"{where}: {error.message}", hint=error.hint) from error
    return canonical


def _relative(text: str, file: Location, where: str) -> str:
    folder = file.parent
    path = posixpath.normpath(posixpath.join(f"/{folder.path.lstrip('/')}", text))
    if file.scheme == "file":
        return Location("file", "", path).uri
    if text.startswith("/") or path == "/":
        raise SpecError(f"{where}: {text!r} names no object", hint="write s3://bucket/key, or a path without leading /")
    return blobs.uri_of(Location("s3", file.bucket, ""), path[1:])
