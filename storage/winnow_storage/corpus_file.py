"""Which objects does a corpus file name? Its `uri` column, read, checked row by row, made canonical and looked up."""

import itertools
import posixpath
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from winnow_storage import blobs
from winnow_storage.blobs import Announce, unannounced
from winnow_storage.errors import BlobMissing, BlobRefused, SpecError
from winnow_storage.external_sort import sorted_unique
from winnow_storage.found import found_batch
from winnow_storage.packed.ranges import VersionRanges
from winnow_storage.uri import Location, parse

SUFFIXES = (".parquet", ".csv")
COLUMN = "uri"
ABSENT = "absent"  # the version of an item that a corpus file names and the store does not have, or does not give
_ROWS = 16384  # read, and handed out for look-up, at a time
_LOOK_UP_THREADS = 16
_CSV_BLOCK_BYTES = 4 << 20  # one ranged read


def is_one(place: Location) -> bool:
    """Whether `place` is a corpus file rather than a folder or prefix: its name says so."""
    return place.name.lower().endswith(SUFFIXES)


def look_up(file: Location, announce: Announce = unannounced) -> Iterator[pa.RecordBatch]:
    """What the stores have of the objects that `file` names, as batches of the schema FOUND.

    Keys are canonical URIs, each once, sorted by their UTF-8 bytes. A relative one is relative to the folder of the
    file, a plain path (not percent-encoded). `announce` is told of every request before it is sent, those for the file
    itself included.

    Raises:
        SpecError: no such file, not Parquet or CSV, no text column `uri`, or a row that names no object.
        StoreError: a store refuses us, or cannot answer.
    """
    stores: dict[Location, blobs.BlobStore] = {}

    def look(uri: str) -> tuple[str, int | None]:
        root, key = blobs.locate(uri)
        announce(0)
        try:
            info = stores[root].info(key)
        except BlobRefused:  # of which its fetching will tell
            info = None
        return (ABSENT, None) if info is None else (info.version, info.bytes)

    with ThreadPoolExecutor(_LOOK_UP_THREADS) as pool:
        for batch in sorted_unique(_canonical_uris(file, announce), key=COLUMN):
            uris = batch.column(COLUMN).to_pylist()
            for root in {blobs.locate(uri)[0] for uri in uris} - stores.keys():
                stores[root] = blobs.open_store(root, announce_again=announce)
            versions, sizes_bytes = zip(*pool.map(look, uris), strict=True)
            yield found_batch(uris, versions, sizes_bytes)


def _canonical_uris(file: Location, announce: Announce) -> Iterator[pa.RecordBatch]:
    row = itertools.count(1)
    try:
        for texts in _texts(file, announce):
            uris = [_canonical(text, file, next(row)) for text in texts]
            yield pa.record_batch([pa.array(uris, pa.string())], names=[COLUMN])
    except BlobMissing as error:
        raise SpecError(f"the corpus file {file} is not there", hint="check corpus.uri in the spec") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        kind = posixpath.splitext(file.name)[1][1:]
        raise SpecError(f"{file} cannot be read as {kind}: {error}", hint="write the corpus file again") from error


def _texts(file: Location, announce: Announce) -> Iterator[Iterable[str | None]]:
    """The column, some thousand rows at a time."""
    store = blobs.open_store(file.parent, announce_again=announce)
    announce(0)
    info = store.info(file.name)
    if info is None:
        raise BlobMissing(f"{file} is not there")
    ranges = VersionRanges(store, info, announce)
    batches_of = _csv_batches if file.name.lower().endswith(".csv") else _parquet_batches
    for batch in batches_of(ranges, file):
        yield batch.column(0).to_pylist()


def _parquet_batches(ranges: VersionRanges, file: Location) -> Iterator[pa.RecordBatch]:
    parquet = pq.ParquetFile(ranges.file())
    schema = parquet.schema_arrow
    if COLUMN not in schema.names:
        raise _no_column(file, schema.names)
    held = schema.field(COLUMN).type
    kind = held.value_type if pa.types.is_dictionary(held) else held
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise SpecError(f"{file}: the column {COLUMN!r} holds {held}, not text", hint="write it as strings")
    yield from parquet.iter_batches(_ROWS, columns=[COLUMN])


def _csv_batches(ranges: VersionRanges, file: Location) -> Iterator[pa.RecordBatch]:
    reading = pa_csv.ReadOptions(block_size=_CSV_BLOCK_BYTES)
    with pa_csv.open_csv(ranges.file(), read_options=reading) as header:
        names = header.schema.names
    if COLUMN not in names:
        raise _no_column(file, names)
    converting = pa_csv.ConvertOptions(include_columns=[COLUMN], column_types={COLUMN: pa.string()})
    # opened anew: Arrow's thread may still read ahead in the other, and would take blocks of this one
    yield from pa_csv.open_csv(ranges.file(), read_options=reading, convert_options=converting)


def _no_column(file: Location, names: list[str]) -> SpecError:
    return SpecError(
        f"{file} has no column {COLUMN!r}; its columns are {', '.join(names) or 'none'}",
        hint=f"name the column that holds the images' places {COLUMN!r}; to read images out of Parquet files, name "
        "their folder in corpus.uri and write corpus.include: ['*.parquet']",
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
