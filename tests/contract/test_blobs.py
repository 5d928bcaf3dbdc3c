"""Does every object store keep the promises of `blobs`? One suite over folders and S3."""

import itertools
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from winnow_storage import blobs, uri
from winnow_storage.blobs import Blob, BlobStore
from winnow_storage.errors import BlobMissing, BlobReplaced, StoreDenied
from winnow_storage.range_file import RangeFile

# In the byte order of their UTF-8, which is neither depth-first order nor the order of UTF-16.
ODD_KEYS = (
    " leading space.jpg",
    "#hash?query=1&x+y.jpg",
    "%41 percent.jpg",
    "UPPER.JPG",
    "a b/c d.jpg",
    "a!.jpg",
    "a-b.jpg",
    "a.jpg",
    "a/b.jpg",
    "a/b/c.jpg",
    "a0.jpg",
    "deep/er/and/er/x.png",
    "quote'\"<&>.jpg",
    "tab\there.jpg",
    "~tilde.jpg",
    "\u00e9t\u00e9/\u00fcber.jpg",
    "e\u0301-decomposed.jpg".replace("e", "\u0435", 1),
    "\u65e5\u672c\u8a9e.jpg",
    "\uff5e.jpg",
    "\U0001f41f.jpg",
)


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return blobs.open_store(uri.parse(str(tmp_path / "root with space")))
    return blobs.open_store(uri.parse(f"{request.getfixturevalue('s3_bucket')}/some/prefix"))


def test_get__what_was_put(store: BlobStore) -> None:
    data = os.urandom(300_000)
    assert store.put_if_absent("a/b.bin", data)
    assert store.get("a/b.bin") == data
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_read__bytes_and_the_version_that_listings_show(store: BlobStore) -> None:
    for data in (b"one", b"other", b""):
        store.put("a", data)
        info = store.info("a")
        assert info is not None
        assert store.read("a") == store.read_bulk("a") == Blob(data, info.version)


def test_read__an_object_that_is_replaced_is_of_one_moment(store: BlobStore) -> None:
    bodies = [bytes([number]) * (200_000 + number) for number in range(8)]
    versions = {}
    for body in bodies:
        store.put("a", body)
        versions[store.read("a").version] = body
    assert len(versions) == len(bodies)
    stop = threading.Event()

    def write() -> None:
        for body in itertools.cycle(bodies):
            store.put("a", body)
            if stop.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        blobs_read = [read("a") for _ in range(20) for read in (store.read, store.read_bulk)]
    finally:
        stop.set()
        writer.join()
    assert all(blob.data in bodies for blob in blobs_read)
    if store.root.scheme == "s3":
        assert all(versions[blob.version] == blob.data for blob in blobs_read)


@pytest.mark.parametrize("key", ["absent", "a/absent", "file/below"])
def test_get__missing(store: BlobStore, key: str) -> None:
    store.put("file", b"x")
    with pytest.raises(BlobMissing) as caught:
        store.get(key)
    assert key in caught.value.message
    for read in (store.read, store.read_bulk):
        with pytest.raises(BlobMissing):
            read(key)
    with pytest.raises(BlobMissing):
        store.get_range(key, 0, 1)
    assert store.info(key) is None


@pytest.mark.parametrize(
    ("start", "length", "expected"), [(0, 3, b"012"), (4, 3, b"456"), (8, 10, b"89"), (10, 5, b""), (20, 5, b"")]
)
def test_get_range__part_of_the_object(store: BlobStore, start: int, length: int, expected: bytes) -> None:
    store.put("digits", b"0123456789")
    assert store.get_range("digits", start, length) == expected


def test_get_range__empty_object(store: BlobStore) -> None:
    store.put("empty", b"")
    assert store.get_range("empty", 0, 10) == b""


def test_get_range__of_one_version(store: BlobStore) -> None:
    versions = []
    for data in (b"0123456789", b"9876543210+"):
        store.put("digits", data)
        info = store.info("digits")
        assert info is not None
        versions.append(info.version)
    assert store.get_range("digits", 2, 3, version=versions[1]) == b"765"
    with pytest.raises(BlobReplaced, match=r"digits was replaced"):
        store.get_range("digits", 2, 3, version=versions[0])
    with pytest.raises(BlobMissing):
        store.get_range("absent", 2, 3, version=versions[0])


def test_range_file__reads_like_a_file(store: BlobStore) -> None:
    store.put("digits", b"0123456789")
    with RangeFile(store, "digits") as file:
        assert file.read(2) == b"01"
        assert file.seek(-3, os.SEEK_END) == 7
        assert file.read() == b"789"
        assert file.read(1) == b""
        file.seek(2)
        file.seek(2, os.SEEK_CUR)
        assert file.read(1) == b"4"
    with pytest.raises(BlobMissing):
        RangeFile(store, "absent")


def test_info__bytes_and_a_version_that_changes(store: BlobStore) -> None:
    store.put("a", b"one")
    first = store.info("a")
    assert first is not None
    assert (first.key, first.bytes) == ("a", 3)
    assert first == store.info("a")
    assert first == next(store.walk("a"))
    store.put("a", b"other")
    second = store.info("a")
    assert second is not None
    assert (second.bytes, second.version != first.version) == (5, True)


def test_put_if_absent__second_changes_nothing(store: BlobStore) -> None:
    assert store.put_if_absent("runs/1", b"first")
    assert not store.put_if_absent("runs/1", b"second")
    assert store.get("runs/1") == b"first"


def test_put_if_absent__sixteen_threads_one_winner(store: BlobStore) -> None:
    for round_number in range(5):
        key = f"race/{round_number}"
        won = race(16, lambda name, key=key: store.put_if_absent(key, name * 1000))  # type: ignore[misc]
        assert len(won) == 1
        assert store.get(key) == won[0] * 1000
    assert len(list(store.walk())) == 5


def race(count: int, put: Callable[[bytes], bool]) -> list[bytes]:
    """The names of the threads whose `put` said that it won."""
    barrier, won = threading.Barrier(count), []

    def run(name: bytes) -> None:
        barrier.wait()
        if put(name):
            won.append(name)

    threads = [threading.Thread(target=run, args=(b"%02d" % number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_put__replaces(store: BlobStore) -> None:
    store.put("report", b"old and longer")
    store.put("report", b"new")
    assert store.get("report") == b"new"
    assert [info.key for info in store.walk()] == ["report"]


def test_walk__sorted_by_bytes_of_the_whole_key(store: BlobStore) -> None:
    for key in reversed(ODD_KEYS):
        store.put(key, key.encode())
    keys = [info.key for info in store.walk()]
    assert keys == sorted(ODD_KEYS, key=lambda key: key.encode())
    assert all(store.get(key) == key.encode() for key in keys)
    assert all(store.info(key) is not None for key in keys)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["a-b", "a/b/c", "a/bd", "ab"]),
        ("a", ["a-b", "a/b/c", "a/bd", "ab"]),
        ("a/", ["a/b/c", "a/bd"]),
        ("a/b", ["a/b/c", "a/bd"]),
        ("a/b/", ["a/b/c"]),
        ("a/b/c", ["a/b/c"]),
        ("a/b/c/", []),
        ("b", []),
    ],
)
def test_walk__prefix(store: BlobStore, prefix: str, expected: list[str]) -> None:
    for key in ("a-b", "a/b/c", "a/bd", "ab"):
        store.put(key, b"")
    assert [info.key for info in store.walk(prefix)] == expected


def test_walk__nothing_there(store: BlobStore) -> None:
    assert list(store.walk()) == []
    assert store.folders() == []


def test_walk__more_than_one_page(s3_bucket: str) -> None:
    store = blobs.open_store(uri.parse(s3_bucket))
    keys = [f"{number:05d}" for number in range(1010)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    assert [info.key for info in store.walk()] == keys


def test_folders__only_those_with_objects(store: BlobStore) -> None:
    for key in ("runs/0001/a", "runs/0001-b/x", "runs/0002/results/1", "runs/file", "models/x/1"):
        store.put(key, b"")
    assert store.folders("runs/") == ["0001", "0001-b", "0002"]
    assert store.folders() == ["models", "runs"]
    assert store.folders("absent/") == []


def test_locate__takes_apart_what_uri_of_made(store: BlobStore) -> None:
    for key in ODD_KEYS:
        root, found = blobs.locate(blobs.uri_of(store.root, key))
        assert blobs.uri_of(root, found) == blobs.uri_of(store.root, key)
    store.put(ODD_KEYS[-2], b"found")
    root, found = blobs.locate(blobs.uri_of(store.root, ODD_KEYS[-2]))
    assert blobs.open_store(root).get(found) == b"found"


SAFE_PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.sets(st.tuples(SAFE_PARTS, SAFE_PARTS), max_size=8))
def test_walk__any_names_in_a_folder(parts: set[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = blobs.open_store(uri.parse(str(tmp_path_factory.mktemp("any"))))
    keys = {
        f"{first}/x{second}"
        for first, second in parts
        if first not in {".", ".."}
        and not first.startswith(".tmp-")
        and max(len(first.encode()), len(second.encode())) < 250
    }
    for key in keys:
        store.put_if_absent(key, b"")
    assert [info.key for info in store.walk()] == sorted(keys, key=lambda key: key.encode())


def test_denied__wrong_secret(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    refuses(blobs.open_store(uri.parse(s3_bucket)), os.environ["AWS_ENDPOINT_URL"])


def test_denied__no_rights_on_the_folder() -> None:
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "root"
        store = blobs.open_store(uri.parse(str(folder)))
        store.put("x", b"")
        Path(outer).chmod(0o755)
        folder.chmod(0o0)
        user = os.geteuid()
        try:
            if user == 0:  # rights do not bind root: be nobody for a moment
                os.seteuid(65534)
            refuses(store, str(folder))
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def refuses(store: BlobStore, where: str) -> None:
    """Every method raises StoreDenied, with the place and what to do."""
    for call in (
        lambda: store.get("x"),
        lambda: store.read("x"),
        lambda: store.read_bulk("x"),
        lambda: store.get_range("x", 0, 1),
        lambda: store.info("x"),
        lambda: store.put_if_absent("y", b""),
        lambda: store.put("y", b""),
        lambda: list(store.walk()),
        store.folders,
    ):
        with pytest.raises(StoreDenied) as caught:
            call()
        assert where in caught.value.message
        assert caught.value.hint
