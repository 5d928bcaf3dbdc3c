"""Which objects does one file of an S3 Inventory name? CSV, Parquet or ORC, brought to the columns of a listing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq

from winnow_storage.errors import SpecError
from winnow_storage.found import COLD_CLASSES, FOUND
from winnow_storage.uri import Location

_NEEDED = {"key": "Key", "size": "Size", "etag": "ETag"}
_OPTIONAL = ("storageclass", "islatest", "isdeletemarker", "intelligenttieringaccesstier")
# Only an inventory says which tier of INTELLIGENT_TIERING an object sleeps in; a listing does not.
_COLD_TIERS = ("ARCHIVE", "DEEP_ARCHIVE", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS")


@dataclass(frozen=True, slots=True)
class Columns:
    """A file format, its columns in order, and the names there of those that are used (`etag` -> `e_tag`)."""

    file_format: str
    names: tuple[str, ...]
    used: Mapping[str, str]

    @classmethod
    def of(cls, file_format: str, file_schema: str, manifest: Location) -> "Columns":
        """Read a manifest's `fileSchema`: `Bucket, Key`, `struct<bucket:string,...>` or `message x { required ... }`.

        Raises:
            SpecError: the inventory was configured without a column that is needed.
        """
        if file_format == "CSV":
            names = tuple(name.strip() for name in file_schema.split(","))
        elif file_format == "ORC":
            names = tuple(re.findall(r"(\w+)\s*:", file_schema))
        else:
            names = tuple(re.findall(r"(?:required|optional)\s+\w+\s+(\w+)", file_schema))
        known = {name.replace("_", "").lower(): name for name in names}
        for short, field in _NEEDED.items():
            if short not in known:
                raise SpecError(
                    f"the inventory {manifest} has no {field}; its columns are {', '.join(names) or 'none'}",
                    hint=f"add {field} to the inventory's configuration, and StorageClass, or list the bucket",
                )
        return cls(file_format, names, {short: known[short] for short in (*_NEEDED, *_OPTIONAL) if short in known})


def read_rows(file: Path, columns: Columns, *, prefix: str) -> Iterator[pa.RecordBatch]:
    """The objects below `prefix`, their keys relative to it, as batches of the schema FOUND in the file's order.

    Left out are versions that are not the latest, delete markers and folder markers.

    Raises:
        pa.ArrowException, OSError: the file is not of its format.
    """
    batches = {"CSV": _csv, "ORC": _orc, "Parquet": _parquet}[columns.file_format](file, columns)
    for batch in batches:
        rows = {short: batch.column(name) for short, name in columns.used.items()}
        if columns.file_format == "CSV":
            rows["key"] = pa.array([unquote_plus(key) for key in rows["key"].to_pylist()], pa.string())
        yield _found(rows, prefix)


def _csv(file: Path, columns: Columns) -> Iterator[pa.RecordBatch]:
    used = list(columns.used.values())
    with pa.CompressedInputStream(pa.OSFile(str(file)), "gzip") as opened:
        yield from pa_csv.open_csv(
            opened,
            read_options=pa_csv.ReadOptions(column_names=columns.names),
            convert_options=pa_csv.ConvertOptions(include_columns=used, column_types=dict.fromkeys(used, pa.string())),
        )


def _parquet(file: Path, columns: Columns) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as opened:
        yield from opened.iter_batches(columns=list(columns.used.values()))


def _orc(file: Path, columns: Columns) -> Iterator[pa.RecordBatch]:
    opened = pa_orc.ORCFile(file)
    for stripe in range(opened.nstripes):
        yield opened.read_stripe(stripe, columns=list(columns.used.values()))


def _found(rows: dict[str, pa.Array], prefix: str) -> pa.RecordBatch:
    keys = pc.cast(rows["key"], pa.string())
    wanted = pc.and_(pc.starts_with(keys, prefix), pc.invert(pc.ends_with(keys, "/")))
    if "islatest" in rows:
        wanted = pc.and_(wanted, _is(rows["islatest"], "true", default=True))
    if "isdeletemarker" in rows:
        wanted = pc.and_(wanted, pc.invert(_is(rows["isdeletemarker"], "true", default=False)))
    kept = {short: column.filter(wanted) for short, column in {**rows, "key": keys}.items()}
    cold = pa.repeat(pa.scalar(value=False), len(kept["key"]))
    for short, asleep in (("storageclass", COLD_CLASSES), ("intelligenttieringaccesstier", _COLD_TIERS)):
        if short in kept:
            cold = pc.or_(cold, pc.is_in(pc.cast(kept[short], pa.string()), pa.array(sorted(asleep), pa.string())))
    etags = pc.utf8_trim(pc.cast(kept["etag"], pa.string()), '"')
    found = [pc.utf8_slice_codeunits(kept["key"], len(prefix)), etags, pc.cast(kept["size"], pa.int64()), cold]
    return pa.record_batch(found, schema=FOUND).filter(pc.not_equal(found[0], ""))


def _is(column: pa.Array, text: str, *, default: bool) -> pa.BooleanArray:
    """A column of booleans, or of their names; `default` where it says nothing."""
    texts = pc.utf8_lower(pc.cast(column, pa.string()))
    said = pc.equal(texts, text)
    return pc.if_else(pc.fill_null(pc.equal(texts, ""), fill_value=True), default, pc.fill_null(said, default))
