"""What did S3 Inventory say of a bucket? Its manifest and files, checked, as the same sorted batches as a listing.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from winnow_storage import blobs
from winnow_storage.errors import BlobMissing, SpecError
from winnow_storage.external_sort import sorted_unique
from winnow_storage.inventory_file import Columns, read_rows
from winnow_storage.uri import Location

_RANGE_BYTES = 16 << 20  # a file may have 2 GB: it goes through memory in pieces
_DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\dZ")  # the folder of one inventory


class _File(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    size: int
    md5: str = Field(alias="MD5checksum")


class _Manifest(BaseModel):
    """What is used of manifest.json; S3 may add to it."""

    model_config = ConfigDict(frozen=True)

    source_bucket: str = Field(alias="sourceBucket")
    destination_bucket: str = Field(alias="destinationBucket")  # an ARN: arn:aws:s3:::NAME
    file_format: str = Field(alias="fileFormat", pattern="^(CSV|ORC|Parquet)$")
    file_schema: str = Field(alias="fileSchema")
    files: tuple[_File, ...]


def list_inventory(inventory: Location, root: Location) -> Iterator[pa.RecordBatch]:
    """What `inventory` says lies below `root`, as batches of the schema FOUND, in the byte order of the keys.

    `inventory` is a manifest.json, or the folder of an inventory's configuration: then its newest one.

    Raises:
        SpecError: no inventory is there, it is of another bucket, lacks a column, or a file is not what it was.
        StoreError: the store refuses or cannot answer.
    """
    place = inventory if inventory.name.endswith(".json") else _newest(inventory)
    manifest = _read_manifest(place)
    if (root.scheme, root.bucket) != ("s3", manifest.source_bucket):
        raise SpecError(
            f"{place} is an inventory of the bucket {manifest.source_bucket!r}, and the corpus is {root}",
            hint="name the manifest of the corpus' own bucket in corpus.inventory, or take it out to list the bucket",
        )
    columns = Columns.of(manifest.file_format, manifest.file_schema, place)
    yield from sorted_unique(_rows(manifest, columns, prefix=f"{root.path}/" if root.path else ""), key="key")


def _newest(folder: Location) -> Location:
    store = blobs.open_store(folder)
    for name in reversed(store.folders()):
        if _DATED.fullmatch(name) and store.info(f"{name}/manifest.json") is not None:
            return folder / name / "manifest.json"
    raise SpecError(
        f"there is no inventory in {folder}: no folder like 2026-11-06T01-00Z with a manifest.json",
        hint="name a manifest.json, or the folder DESTINATION/BUCKET/CONFIGURATION that S3 writes inventories to",
    )


def _read_manifest(place: Location) -> _Manifest:
    store = blobs.open_store(place.parent)
    try:
        data = store.get(place.name)
    except BlobMissing as error:
        raise SpecError(f"the inventory {place} is not there", hint="check corpus.inventory in the spec") from error
    checksum = f"{place.name.removesuffix('.json')}.checksum"
    if store.info(checksum) is not None:
        _check(store.get(checksum).decode("ascii", "replace").strip(), hashlib.md5(data, usedforsecurity=False), place)
    try:
        return _Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpecError(
            f"{place} is no manifest of an S3 Inventory: {where + ': ' if where else ''}{first['msg']}",
            hint="name the manifest.json that S3 wrote",
        ) from error


def _rows(manifest: _Manifest, columns: Columns, *, prefix: str) -> Iterator[pa.RecordBatch]:
    bucket = Location("s3", manifest.destination_bucket.rpartition(":")[2], "")
    store = blobs.open_store(bucket)
    with tempfile.TemporaryDirectory(prefix="winnow-inventory-") as folder:
        for file in manifest.files:
            copied, place = Path(folder) / "file", bucket / file.key
            digest = hashlib.md5(usedforsecurity=False)
            try:
                with copied.open("wb") as out:
                    for start in range(0, file.size, _RANGE_BYTES):
                        data = store.get_range(file.key, start, min(_RANGE_BYTES, file.size - start))
                        digest.update(data)
                        out.write(data)
            except BlobMissing as error:
                raise SpecError(
                    f"the inventory's file {place} is not there", hint="take a newer inventory: S3 deletes old ones"
                ) from error
            _check(file.md5, digest, place)
            try:
                yield from read_rows(copied, columns, prefix=prefix)
            except (pa.ArrowException, OSError) as error:  # an OSError is how a torn gzip or ORC file shows
                raise SpecError(
                    f"{place} cannot be read as {columns.file_format}: {error}", hint="take a newer inventory"
                ) from error


def _check(expected: str, found: "hashlib._Hash", place: Location) -> None:
    if found.hexdigest() != expected.lower():
        raise SpecError(
            f"{place} is not what S3 wrote: its MD5 is {found.hexdigest()}, {expected} was promised",
            hint="take another inventory, or take corpus.inventory out to list the bucket",
        )
