"""Is a corpus listed completely, in order, and the same wherever it lies?"""

import contextlib
import csv
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_blobs import ODD_KEYS
from tests.servers.scripted import refusing_s3
from winnow_storage import blobs, corpus_file, external_sort, ids, listing, schemas, uri
from winnow_storage.errors import SpecError, StoreDenied, StoreError
from winnow_storage.found import found_batch
from winnow_storage.listing import BATCH_ROWS, CorpusSource, stream_corpus

EVERY_IMAGE = tuple(f"*.{suffix}" for suffix in schemas.IMAGE_SUFFIXES)


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> uri.Location:
    if request.param == "local":
        return uri.parse(str(tmp_path / "my photos"))
    return uri.parse(f"{request.getfixturevalue('s3_bucket')}/my photos")


def fill(root: uri.Location, *keys: str) -> None:
    store = blobs.open_store(root)
    for key in keys:
        store.put(key, key.encode())


@dataclass(frozen=True)
class Listing:
    """A stream read to its end."""

    items: pa.Table
    others: int
    other_examples: tuple[str, ...]


def listed(root: uri.Location, *include: str) -> Listing:
    stream = stream_corpus(CorpusSource("shelves", root, include or EVERY_IMAGE))
    items = pa.Table.from_batches(list(stream), schema=schemas.SNAPSHOT)
    assert stream.items == items.num_rows
    return Listing(items, stream.others, stream.other_examples)


def keys_of(listing: Listing) -> list[str]:
    return listing.items.column("key").to_pylist()


def test_folder__every_item_in_byte_order(root: uri.Location) -> None:
    fill(root, *ODD_KEYS)
    listing = listed(root)
    assert listing.items.schema == schemas.SNAPSHOT
    assert keys_of(listing) == sorted(ODD_KEYS, key=lambda key: key.encode())
    assert listing.others == 0
    for row in listing.items.to_pylist():
        assert row["item_id"] == ids.item_id("shelves", row["key"])
        assert row["bytes"] == len(row["key"].encode())
        assert row["uri"] == blobs.uri_of(root, row["key"])
        place, key = blobs.locate(row["uri"])
        info = blobs.open_store(place).info(key) if row["key"] in ODD_KEYS[:3] else None
        assert info is None or info.version == row["version"]


def test_folder__other_files_are_counted_and_named(root: uri.Location) -> None:
    fill(root, "a.JPG", "b.TiFF", "notes.txt", "jpg", "x/.jpg.bak", "x/d.md", "y/e", "z/f", "c.webp")
    listing = listed(root)
    assert keys_of(listing) == ["a.JPG", "b.TiFF", "c.webp"]
    assert listing.others == 6
    assert listing.other_examples == ("jpg", "notes.txt", "x/.jpg.bak", "x/d.md", "y/e")


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (("*.PNG",), ["a.png", "sub/b.png"]),
        (("sub/*",), ["sub/b.png", "sub/c.jpg"]),
        (("Sub/*.jpg", "a.*"), ["a.png", "sub/c.jpg"]),
        (("[ab].png",), ["a.png", "sub/b.png"]),
        (("*.gif",), []),
    ],
)
def test_include__name_or_whole_key(tmp_path: Path, include: tuple[str, ...], expected: list[str]) -> None:
    fill(uri.parse(str(tmp_path)), "a.png", "sub/b.png", "sub/c.jpg")
    assert keys_of(listed(uri.parse(str(tmp_path)), *include)) == expected


def test_folder__absent(root: uri.Location) -> None:
    with pytest.raises(SpecError, match="nothing at"):
        listed(root)


def test_bucket__absent(s3_bucket: str) -> None:
    with pytest.raises(StoreError, match="NoSuchBucket"):
        listed(uri.parse(f"{s3_bucket}-absent"))


def test_folder__empty_but_there(tmp_path: Path, s3_bucket: str) -> None:
    for place in (str(tmp_path), s3_bucket):
        assert listed(uri.parse(place)).items.num_rows == 0


def test_folder__markers_are_no_items(s3_bucket: str) -> None:
    fill(uri.parse(s3_bucket), "top.jpg")
    blobs.open_store(uri.parse(s3_bucket)).put("folder.jpg/", b"")
    listing = listed(uri.parse(s3_bucket))
    assert (keys_of(listing), listing.others) == (["top.jpg"], 0)


PART = st.text("ab-.!0 +%~\t\u00e9\u3042\uff5e\U0001f41f", min_size=1, max_size=6).filter(lambda part: part.strip("."))


@given(st.lists(st.lists(PART, min_size=1, max_size=3).map("/".join), max_size=40))
@settings(max_examples=25, deadline=None)
def test_folder__sorted_as_python_sorts(keys: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        there = set()
        for key in keys:
            with contextlib.suppress(OSError):  # a file where a folder is, or the other way round
                (Path(folder) / key).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / key).write_bytes(b"x")
                there.add(key)
        assert keys_of(listed(uri.parse(folder), "*")) == sorted(there, key=lambda key: key.encode())


def test_stream__batches_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = [f"{number:06d}.{'jpg' if number % 3 else 'txt'}" for number in range(60_000)]
    chunks = [keys[at : at + 1700] for at in range(0, len(keys), 1700)]
    monkeypatch.setattr(
        listing, "_walked", lambda root: (found_batch(some, ["1"] * len(some), [1] * len(some)) for some in chunks)
    )
    stream = stream_corpus(CorpusSource("shelves", uri.parse(str(tmp_path)), EVERY_IMAGE))
    batches = list(stream)
    assert [batch.num_rows for batch in batches] == [BATCH_ROWS, BATCH_ROWS, 40_000 - 2 * BATCH_ROWS]
    assert all(batch.schema == schemas.SNAPSHOT for batch in batches)
    assert [key for batch in batches for key in batch.column("key").to_pylist()] == [
        key for key in keys if key.endswith("jpg")
    ]
    assert (stream.items, stream.others, stream.cold) == (40_000, 20_000, 0)
    assert stream.other_examples == ("000000.txt", "000003.txt", "000006.txt", "000009.txt", "000012.txt")


@given(
    chunks=st.lists(st.lists(st.text("ab\u00e9\uff5e\U0001f41f", max_size=3), min_size=1, max_size=9), max_size=12),
    run_bytes=st.sampled_from([1, 60, 1 << 20]),
)
@settings(deadline=None)
def test_external_sort__as_python_sorts(chunks: list[list[str]], run_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RUN_BYTES": run_bytes, "FAN_IN": 2, "_ROWS": 2}.items():
            patch.setattr(external_sort, name, value)
        batches = (pa.record_batch([pa.array(chunk, pa.string())], names=["uri"]) for chunk in chunks)
        found = [batch.column(0).to_pylist() for batch in external_sort.sorted_unique(batches, key="uri")]
    assert all(found)
    assert [text for texts in found for text in texts] == sorted(
        {text for chunk in chunks for text in chunk}, key=lambda text: text.encode()
    )


def write_corpus_file(root: uri.Location, name: str, uris: list[str | None]) -> uri.Location:
    if name.lower().endswith("csv"):
        lines = ["id,uri", *(f'{number},"{text}"' for number, text in enumerate(uris)), ""]
        data = "\n".join(lines).encode()
    else:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"id": list(range(len(uris))), "uri": pa.array(uris, pa.string())}), sink)
        data = sink.getvalue().to_pybytes()
    blobs.open_store(root).put(name, data)
    return root / name


@pytest.mark.parametrize("name", ["corpus.parquet", "corpus.CSV"])
def test_corpus_file__its_uris_are_the_items(root: uri.Location, name: str) -> None:
    fill(root, "a b.jpg", "\u00fc/\U0001f41f.jpg", "not named.jpg", "no-suffix")
    full = blobs.uri_of(root, "a b.jpg")
    names: list[str | None] = ["./\u00fc/\U0001f41f.jpg", "x/../a b.jpg", full, "gone.jpg", "no-suffix"]
    listing = listed(write_corpus_file(root, name, names))
    expected = [blobs.uri_of(root, key) for key in ("a b.jpg", "gone.jpg", "no-suffix", "\u00fc/\U0001f41f.jpg")]
    assert keys_of(listing) == sorted(expected, key=lambda key: key.encode())
    rows = {row["key"]: row for row in listing.items.to_pylist()}
    assert all(row["uri"] == key and row["item_id"] == ids.item_id("shelves", key) for key, row in rows.items())
    info = blobs.open_store(root).info("a b.jpg")
    assert info is not None
    assert (rows[full]["version"], rows[full]["bytes"]) == (info.version, info.bytes)
    gone = rows[blobs.uri_of(root, "gone.jpg")]
    assert (gone["version"], gone["bytes"]) == ("absent", None)


def test_corpus_file__an_object_that_the_store_does_not_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up of an object under a key of the customer's own: it is an item, and its fetching tells the reason."""
    root = uri.parse(str(tmp_path))
    fill(root, "a.jpg")
    file = write_corpus_file(root, "corpus.csv", ["a.jpg", "s3://bucket/locked.jpg"])
    with refusing_s3(monkeypatch, 400, "InvalidRequest"):
        items = listed(file).items
    assert items["uri"].to_pylist() == [blobs.uri_of(root, "a.jpg"), "s3://bucket/locked.jpg"]
    assert items["version"].to_pylist()[1] == "absent"
    assert items["bytes"].to_pylist() == [len("a.jpg"), None]


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "ExpiredToken")])
def test_corpus_file__a_refused_credential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    file = write_corpus_file(uri.parse(str(tmp_path)), "corpus.csv", ["s3://bucket/a.jpg"])
    with refusing_s3(monkeypatch, status, code), pytest.raises(StoreDenied, match=r"s3://bucket/a\.jpg"):
        listed(file)


@pytest.mark.parametrize("name", ["corpus.parquet", "corpus.csv"])
def test_corpus_file__larger_than_a_batch(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for place, constant, value in (
        (corpus_file, "_ROWS", 7),
        (corpus_file, "_CSV_BLOCK_BYTES", 200),
        (external_sort, "RUN_BYTES", 500),
        (external_sort, "FAN_IN", 3),
    ):
        monkeypatch.setattr(place, constant, value)
    names: list[str | None] = [f"{number * 7919 % 300:05d}.jpg" for number in range(400)]
    root = uri.parse(str(tmp_path))
    found = listed(write_corpus_file(root, name, names))
    assert keys_of(found) == [blobs.uri_of(root, one) for one in sorted({one for one in names if one})]
    with pytest.raises(SpecError, match="row 401"):
        listed(write_corpus_file(root, name, [*names, "gs://x/y"]))


def test_corpus_file__reading_ahead_in_a_csv_loses_no_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Arrow reads ahead in threads of its own, which may still be at work when the header is known."""
    opened: list[io.RawIOBase] = []
    open_csv = corpus_file.pa_csv.open_csv

    def still_at_work(file: io.RawIOBase, **options: object) -> object:
        for before in opened:
            if not before.closed:
                before.read(100)
        opened.append(file)
        return open_csv(file, **options)

    monkeypatch.setattr(corpus_file.pa_csv, "open_csv", still_at_work)
    names: list[str | None] = [f"{number:05d}.jpg" for number in range(400)]
    root = uri.parse(str(tmp_path))
    found = listed(write_corpus_file(root, "corpus.csv", names))
    assert keys_of(found) == [blobs.uri_of(root, name) for name in names if name]


@pytest.mark.parametrize("name", ["corpus.parquet", "corpus.csv"])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("gs://bucket/a.jpg", "'gs' is not supported"),
        ("", "names no object"),
        ("s3://bucket", "does not name an object"),
        ("s3:///key", "does not name an object"),
    ],
)
def test_corpus_file__bad_row_is_named(tmp_path: Path, name: str, bad: str, said: str) -> None:
    with pytest.raises(SpecError, match="row 2") as caught:
        listed(write_corpus_file(uri.parse(str(tmp_path)), name, ["a.jpg", bad]))
    assert said in caught.value.message
    assert caught.value.hint


def test_corpus_file__null_row(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="row 3: None"):
        listed(write_corpus_file(uri.parse(str(tmp_path)), "c.parquet", ["a.jpg", "b.jpg", None]))


@pytest.mark.parametrize("text", ["file:///etc/hostname", "/etc/hostname", "../../.."])
def test_corpus_file__in_a_bucket_names_no_local_file(s3_bucket: str, text: str) -> None:
    with pytest.raises(SpecError, match="row 1"):
        listed(write_corpus_file(uri.parse(s3_bucket), "c.parquet", [text]))


def test_corpus_file__without_the_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"], "size": [1]}), tmp_path / "c.parquet")
    with (tmp_path / "c.csv").open("w") as file:
        csv.writer(file).writerows([["path", "size"], ["a", 1]])
    for name in ("c.parquet", "c.csv"):
        with pytest.raises(SpecError, match="no column 'uri'; its columns are path, size"):
            listed(uri.parse(str(tmp_path / name)))


def test_corpus_file__column_is_not_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [1, 2]}), tmp_path / "c.parquet")
    with pytest.raises(SpecError, match="int64, not text"):
        listed(uri.parse(str(tmp_path / "c.parquet")))


@pytest.mark.parametrize(
    ("name", "data"),
    [("c.parquet", b"not parquet"), ("c.parquet", b""), ("c.csv", b""), ("c.csv", b"uri\n\xff\xfe.jpg\n")],
)
def test_corpus_file__unreadable(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SpecError, match="cannot be read as"):
        listed(uri.parse(str(tmp_path / name)))


@pytest.mark.parametrize("name", ["corpus.parquet", "corpus.csv"])
def test_corpus_file__without_rows(tmp_path: Path, name: str) -> None:
    assert keys_of(listed(write_corpus_file(uri.parse(str(tmp_path)), name, []))) == []


def test_corpus_file__absent(root: uri.Location) -> None:
    for name in ("c.parquet", "c.csv"):
        with pytest.raises(SpecError, match="is not there"):
            listed(root / name)
