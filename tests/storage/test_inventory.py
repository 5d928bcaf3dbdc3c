"""Does an S3 Inventory give the same corpus as a listing, and is what is wrong with one found?"""

import csv
import gzip
import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.orc as pa_orc
import pyarrow.parquet as pq
import pytest

from tests.contract.test_blobs import ODD_KEYS
from winnow_storage import blobs
from winnow_storage.errors import SpecError
from winnow_storage.listing import CorpusSource, CorpusStream, stream_corpus
from winnow_storage.uri import Location, parse

FIELDS = {  # as S3 names them in CSV, and in ORC and Parquet
    "Bucket": ("bucket", pa.string()),
    "Key": ("key", pa.string()),
    "VersionId": ("version_id", pa.string()),
    "IsLatest": ("is_latest", pa.bool_()),
    "IsDeleteMarker": ("is_delete_marker", pa.bool_()),
    "Size": ("size", pa.int64()),
    "ETag": ("e_tag", pa.string()),
    "StorageClass": ("storage_class", pa.string()),
    "IntelligentTieringAccessTier": ("intelligent_tiering_access_tier", pa.string()),
}
CURRENT = ("Bucket", "Key", "Size", "ETag", "StorageClass")  # an inventory of current versions only
KINDS = {pa.string(): "string", pa.bool_(): "boolean", pa.int64(): "bigint"}
PARQUET_KINDS = {pa.string(): "binary", pa.bool_(): "boolean", pa.int64(): "int64"}
FORMATS = ("CSV", "Parquet", "ORC")


@dataclass(frozen=True)
class Row:
    key: str
    size: int | None = 3
    etag: str | None = "d41d8cd98f00b204e9800998ecf8427e"
    storage_class: str | None = "STANDARD"
    is_latest: bool = True
    is_delete_marker: bool = False
    tier: str | None = None

    def value(self, field: str) -> Any:
        return {
            "Bucket": "ignored",
            "Key": self.key,
            "VersionId": "v1",
            "IsLatest": self.is_latest,
            "IsDeleteMarker": self.is_delete_marker,
            "Size": self.size,
            "ETag": self.etag,
            "StorageClass": self.storage_class,
            "IntelligentTieringAccessTier": self.tier,
        }[field]


def encode(rows: list[Row], fields: tuple[str, ...], file_format: str) -> bytes:
    if file_format == "CSV":
        text = io.StringIO()
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row in rows:
            values = [row.value(field) for field in fields]
            named = [str(value).lower() if isinstance(value, bool) else value for value in values]
            named[fields.index("Key")] = quote_plus(row.key)
            writer.writerow(named)
        return gzip.compress(text.getvalue().encode())
    schema = pa.schema([FIELDS[field] for field in fields])
    table = pa.table([[row.value(field) for row in rows] for field in fields], schema=schema)
    sink = pa.BufferOutputStream()
    if file_format == "ORC":
        pa_orc.write_table(table, sink)
    else:
        pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def file_schema(fields: tuple[str, ...], file_format: str) -> str:
    if file_format == "CSV":
        return ", ".join(fields)
    if file_format == "ORC":
        return f"struct<{','.join(f'{FIELDS[field][0]}:{KINDS[FIELDS[field][1]]}' for field in fields)}>"
    columns = (f"  optional {PARQUET_KINDS[FIELDS[field][1]]} {FIELDS[field][0]};" for field in fields)
    return "message s3.inventory { " + " ".join(columns) + " }"


def publish(
    bucket: str,
    contents: list[list[Row]],
    *,
    fields: tuple[str, ...] = tuple(FIELDS),
    file_format: str = "CSV",
    date: str = "2026-11-06T01-00Z",
    **changed: Any,
) -> Location:
    """Write an inventory of `bucket` into it, as S3 does; the manifest's place."""
    root = parse(bucket)
    store = blobs.open_store(root)
    listed = []
    for number, rows in enumerate(contents):
        data = encode(rows, fields, file_format)
        key = f"inventories/{root.bucket}/nightly/data/{date}-{number}.{file_format.lower()}"
        store.put(key, data)
        listed.append({"key": key, "size": len(data), "MD5checksum": hashlib.md5(data).hexdigest()})
    manifest = {
        "sourceBucket": root.bucket,
        "destinationBucket": f"arn:aws:s3:::{root.bucket}",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": file_format,
        "fileSchema": file_schema(fields, file_format),
        "files": listed,
    }
    data = json.dumps(manifest | changed).encode()
    folder = f"inventories/{root.bucket}/nightly/{date}"
    store.put(f"{folder}/manifest.json", data)
    store.put(f"{folder}/manifest.checksum", hashlib.md5(data).hexdigest().encode())
    return root / folder / "manifest.json"


def streamed(root: str, inventory: Location | None, *include: str) -> CorpusStream:
    return stream_corpus(CorpusSource("shelves", parse(root), include or ("*.jpg", "*.JPG", "*.png"), inventory))


def keys_of(stream: CorpusStream) -> list[str]:
    return [key for batch in stream for key in batch.column("key").to_pylist()]


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("prefix", ["", "/some/prefix"])
def test_inventory__gives_the_batches_of_a_listing(s3_bucket: str, file_format: str, prefix: str) -> None:
    root = f"{s3_bucket}{prefix}"
    for key in (*ODD_KEYS, "x//double.jpg", "notes.txt"):
        blobs.open_store(parse(root)).put(key, key.encode())
    blobs.open_store(parse(s3_bucket)).put("some/prefix-not.jpg", b"")
    blobs.open_store(parse(s3_bucket)).put("some/prefix/folder.jpg/", b"")
    objects = list(blobs.open_store(parse(s3_bucket)).walk())
    rows = [Row(one.key, one.bytes, one.version) for one in objects] + [Row("some/prefix/folder.jpg/", 0)]
    rows.sort(key=lambda row: hashlib.sha256(row.key.encode()).digest())  # S3 promises no order
    manifest = publish(s3_bucket, [rows[::2], rows[1::2]], fields=CURRENT, file_format=file_format)
    by_listing, by_inventory = streamed(root, None), streamed(root, manifest)
    expected = list(by_listing)
    assert sum(batch.num_rows for batch in expected) >= len(ODD_KEYS)
    others = by_listing.others - (0 if prefix else 4)  # the inventory's own files came after what it lists
    assert list(by_inventory) == expected
    assert by_inventory.others == others
    assert by_inventory.items == by_listing.items


@pytest.mark.parametrize("file_format", FORMATS)
def test_inventory__of_all_versions(s3_bucket: str, file_format: str) -> None:
    rows = [
        Row("new.jpg", etag="new"),
        Row("new.jpg", etag="old", is_latest=False),
        Row("gone.jpg", size=None, etag=None, storage_class=None, is_delete_marker=True),
        Row("gone.jpg", is_latest=False),
    ]
    stream = streamed(s3_bucket, publish(s3_bucket, [rows], file_format=file_format))
    (batch,) = stream
    assert batch.column("key").to_pylist() == ["new.jpg"]
    assert batch.column("version").to_pylist() == ["new"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_inventory__cold_objects_are_named(s3_bucket: str, file_format: str) -> None:
    rows = [
        Row("a.jpg", storage_class="GLACIER"),
        Row("b.jpg", storage_class="DEEP_ARCHIVE"),
        Row("c.jpg", storage_class="GLACIER_IR"),
        Row("d.jpg", storage_class="INTELLIGENT_TIERING", tier="ARCHIVE"),
        Row("e.jpg", storage_class="INTELLIGENT_TIERING", tier="FREQUENT"),
        Row("f.txt", storage_class="GLACIER"),
        *(Row(f"g{number}.jpg", storage_class="GLACIER") for number in range(4)),
    ]
    stream = streamed(s3_bucket, publish(s3_bucket, [rows], file_format=file_format))
    assert keys_of(stream) == ["c.jpg", "e.jpg"]
    assert (stream.items, stream.others, stream.other_examples) == (2, 1, ("f.txt",))
    assert (stream.cold, stream.cold_examples) == (7, ("a.jpg", "b.jpg", "d.jpg", "g0.jpg", "g1.jpg"))


def test_inventory__only_cold_objects(s3_bucket: str) -> None:
    stream = streamed(f"{s3_bucket}/x", publish(s3_bucket, [[Row("x/a.jpg", storage_class="GLACIER")]]))
    assert keys_of(stream) == []
    assert stream.cold == 1


def test_inventory__nothing_below_the_prefix(s3_bucket: str) -> None:
    with pytest.raises(SpecError, match="nothing at"):
        keys_of(streamed(f"{s3_bucket}/y", publish(s3_bucket, [[Row("x/a.jpg")]])))


def test_inventory__object_named_twice_is_one_item(s3_bucket: str) -> None:
    manifest = publish(s3_bucket, [[Row("b.jpg"), Row("a.jpg")], [Row("a.jpg"), Row("b.jpg", etag="other")]])
    assert keys_of(streamed(s3_bucket, manifest)) == ["a.jpg", "b.jpg"]


def test_folder__newest_inventory_is_read(s3_bucket: str) -> None:
    for day, key in (("05", "old.jpg"), ("07", "new.jpg"), ("06", "middle.jpg")):
        manifest = publish(s3_bucket, [[Row(key)]], date=f"2026-11-{day}T01-00Z")
    unfinished = manifest.parent.parent / "2026-11-08T01-00Z"
    blobs.open_store(unfinished).put("something-else", b"")
    assert keys_of(streamed(s3_bucket, manifest.parent.parent)) == ["new.jpg"]


def test_folder__without_an_inventory(s3_bucket: str) -> None:
    with pytest.raises(SpecError, match="no inventory in"):
        keys_of(streamed(s3_bucket, parse(f"{s3_bucket}/data")))


def test_manifest__of_another_bucket(s3_bucket: str, tmp_path: Any) -> None:
    manifest = publish(s3_bucket, [[Row("a.jpg")]], sourceBucket="somebody-elses")
    for root in (s3_bucket, str(tmp_path)):
        with pytest.raises(SpecError, match="inventory of the bucket 'somebody-elses'") as caught:
            keys_of(streamed(root, manifest))
        assert caught.value.hint


def test_manifest__absent(s3_bucket: str) -> None:
    with pytest.raises(SpecError, match="is not there"):
        keys_of(streamed(s3_bucket, parse(f"{s3_bucket}/x/manifest.json")))


@pytest.mark.parametrize(
    ("data", "said"), [(b"not json", "Invalid JSON"), (b"{}", "sourceBucket: Field required"), (b"[]", "object")]
)
def test_manifest__is_none(s3_bucket: str, data: bytes, said: str) -> None:
    blobs.open_store(parse(s3_bucket)).put("manifest.json", data)
    with pytest.raises(SpecError, match="no manifest of an S3 Inventory") as caught:
        keys_of(streamed(s3_bucket, parse(f"{s3_bucket}/manifest.json")))
    assert said in caught.value.message


def test_manifest__wrong_checksum(s3_bucket: str) -> None:
    manifest = publish(s3_bucket, [[Row("a.jpg")]])
    blobs.open_store(manifest.parent).put("manifest.checksum", b"0" * 32)
    with pytest.raises(SpecError, match=r"manifest\.json is not what S3 wrote"):
        keys_of(streamed(s3_bucket, manifest))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("absent", ["Key", "Size", "ETag"])
def test_manifest__without_a_column(s3_bucket: str, file_format: str, absent: str) -> None:
    schema = file_schema(tuple(field for field in CURRENT if field != absent), file_format)
    manifest = publish(s3_bucket, [[Row("a.jpg")]], fields=CURRENT, file_format=file_format, fileSchema=schema)
    with pytest.raises(SpecError, match=f"has no {absent}; its columns are"):
        keys_of(streamed(s3_bucket, manifest))


def test_file__wrong_checksum(s3_bucket: str) -> None:
    manifest = publish(s3_bucket, [[Row("a.jpg")], [Row("b.jpg")]])
    key = f"inventories/{manifest.bucket}/nightly/data/2026-11-06T01-00Z-1.csv"
    store = blobs.open_store(parse(s3_bucket))
    data = store.get(key)
    store.put(key, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SpecError, match=r"Z-1\.csv is not what S3 wrote: its MD5 is"):
        keys_of(streamed(s3_bucket, manifest))


def test_file__absent(s3_bucket: str) -> None:
    gone = [{"key": "gone.csv.gz", "size": 10, "MD5checksum": "0" * 32}]
    with pytest.raises(SpecError, match=r"gone\.csv\.gz is not there"):
        keys_of(streamed(s3_bucket, publish(s3_bucket, [], files=gone)))


@pytest.mark.parametrize("file_format", FORMATS)
def test_file__not_of_its_format(s3_bucket: str, file_format: str) -> None:
    blobs.open_store(parse(s3_bucket)).put("odd", b"neither of them")
    odd = [{"key": "odd", "size": 15, "MD5checksum": hashlib.md5(b"neither of them").hexdigest()}]
    with pytest.raises(SpecError, match=f"odd cannot be read as {file_format}"):
        keys_of(streamed(s3_bucket, publish(s3_bucket, [], file_format=file_format, files=odd)))


def test_corpus_file__has_no_inventory(s3_bucket: str) -> None:
    blobs.open_store(parse(s3_bucket)).put("corpus.csv", b"uri\na.jpg\n")
    with pytest.raises(SpecError, match="names its items itself"):
        keys_of(streamed(f"{s3_bucket}/corpus.csv", publish(s3_bucket, [[Row("a.jpg")]])))
