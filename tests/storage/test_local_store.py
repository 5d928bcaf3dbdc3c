"""Where does a folder differ from a bucket? Links, full disks, names that no key can have, unfinished files."""

import os
import resource
from pathlib import Path

import pytest

from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.local_store import LocalStore
from winnow_storage.uri import parse


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "root").mkdir()
    return LocalStore(parse(str(tmp_path / "root")))


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/hostname", "a//b", "./a", "", "a/", "nul\0"])
def test_key__cannot_leave_the_root(store: LocalStore, key: str) -> None:
    Path(store.root.path, "../x").write_bytes(b"secret")
    for call in (
        lambda: store.get(key),
        lambda: store.info(key),
        lambda: store.put(key, b""),
        lambda: store.put_if_absent(key, b""),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert type(caught.value) is StoreError


@pytest.mark.parametrize("prefix", ["../", "/", "a/../"])
def test_prefix__cannot_leave_the_root(store: LocalStore, prefix: str) -> None:
    with pytest.raises(StoreError):
        list(store.walk(prefix))
    with pytest.raises(StoreError):
        store.folders(prefix)


def test_links__inside_are_files_outside_are_absent(store: LocalStore, tmp_path: Path) -> None:
    root = Path(store.root.path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (root / "real").mkdir()
    (root / "real" / "a").write_bytes(b"a")
    (root / "good").symlink_to(root / "real" / "a")
    (root / "bad").symlink_to(tmp_path / "outside" / "secret")
    (root / "bad-folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    assert [info.key for info in store.walk()] == ["good", "real/a"]
    assert store.folders() == ["real"]
    assert store.get("good") == b"a"
    for key in ("bad", "bad-folder/secret", "self"):
        assert store.info(key) is None
        with pytest.raises(BlobMissing):
            store.get(key)
    with pytest.raises(StoreError, match="outside"):
        store.put("bad-folder/new", b"")
    assert not (tmp_path / "outside" / "new").exists()


def test_get__pipe_is_no_object(store: LocalStore) -> None:
    os.mkfifo(Path(store.root.path, "pipe"))
    assert store.info("pipe") is None
    assert list(store.walk()) == []
    with pytest.raises(BlobMissing):
        store.get("pipe")


@pytest.mark.parametrize("method", ["put", "put_if_absent"])
def test_put__no_room(store: LocalStore, method: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # the kernel refuses as it does when a disk is full
    try:
        with pytest.raises(StoreError, match="no room") as caught:
            getattr(store, method)("big", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.hint
    assert list(Path(store.root.path).iterdir()) == []


def test_put_if_absent__unfinished_file_is_never_seen(store: LocalStore) -> None:
    Path(store.root.path, ".tmp-left-by-a-kill").write_bytes(b"half")
    store.put_if_absent("a", b"whole")
    assert [info.key for info in store.walk()] == ["a"]
    assert sorted(path.name for path in Path(store.root.path).iterdir()) == [".tmp-left-by-a-kill", "a"]
    with pytest.raises(StoreError, match="unfinished"):
        store.put(".tmp-mine", b"")


def test_put__below_a_file(store: LocalStore) -> None:
    store.put("file", b"")
    with pytest.raises(StoreError, match="file"):
        store.put_if_absent("file/below", b"")


def test_walk__root_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(StoreError, match="not a folder"):
        list(LocalStore(parse(str(tmp_path / "photo.jpg"))).walk())


def test_walk__name_that_is_not_utf8(store: LocalStore) -> None:
    Path(os.fsdecode(os.fsencode(store.root.path) + b"/latin-\xe9.jpg")).write_bytes(b"")
    with pytest.raises(StoreError, match="not UTF-8"):
        list(store.walk())


def test_root__may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = LocalStore(parse(str(tmp_path / "link")))
    store.put("a", b"x")
    assert store.get("a") == b"x"
    assert [info.key for info in store.walk()] == ["a"]
