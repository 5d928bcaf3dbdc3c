"""Where does a folder differ from a bucket? Links, full disks, names that no key can have, unfinished files."""

import errno
import os
import resource
from pathlib import Path

import pytest

from tests.storage.fake_time import FakeTime
from winnow_storage.blobs import Blob
from winnow_storage.errors import BlobMissing, StoreError, StoreUnavailable
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


def test_read__version_is_that_of_the_listing(store: LocalStore) -> None:
    store.put("a", b"one")
    listed = next(store.walk())
    assert store.read("a") == Blob(b"one", listed.version)
    os.utime(Path(store.root.path, "a"), ns=(1, 1))
    assert store.read("a").version == "3-1" != listed.version


class Growing(FakeTime):
    """Time in which somebody else ends what he writes: three waits long."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def sleep(self, wait_s: float) -> None:
        super().sleep(wait_s)
        if len(self.waits_s) == 3:
            self.path.write_bytes(b"whole")


def half_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at `path` while it says "half" sees another time of change at each look."""
    plain, ticks = os.fstat, iter(range(100))

    def fstat(descriptor: int) -> os.stat_result:
        if path.read_bytes() == b"half":
            os.utime(path, ns=(0, next(ticks)))
        return plain(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)


def test_read__waits_for_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"half")
    half_written(tmp_path / "a", monkeypatch)
    time = Growing(tmp_path / "a")
    assert LocalStore(parse(str(tmp_path)), retrying=time.retrying()).get("a") == b"whole"
    assert len(time.waits_s) == 3


def test_read__writer_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"half")
    half_written(tmp_path / "a", monkeypatch)
    with pytest.raises(StoreUnavailable, match="changed while it was read"):
        LocalStore(parse(str(tmp_path)), retrying=FakeTime().retrying()).get("a")


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_mount__stutters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "a").write_bytes(b"data")
    plain, failures = Path.open, iter([code, code])

    def stuttering(path: Path, mode: str) -> object:
        if (failure := next(failures, None)) is not None:
            raise OSError(failure, os.strerror(failure))
        return plain(path, mode)

    monkeypatch.setattr(Path, "open", stuttering)
    time = FakeTime()
    assert LocalStore(parse(str(tmp_path)), retrying=time.retrying()).get("a") == b"data"
    assert len(time.waits_s) == 2


@pytest.mark.parametrize("method", ["put", "put_if_absent"])
def test_mount__stutters_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    plain = os.fsync
    stutters = iter([True, False, True])  # over the file; then over its folder, when the object is there already

    def stuttering(descriptor: int) -> None:
        if next(stutters, False):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", stuttering)
    time = FakeTime()
    assert getattr(LocalStore(parse(str(tmp_path)), retrying=time.retrying()), method)("a", b"data") in (None, True)
    assert len(time.waits_s) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"data"}


@pytest.mark.parametrize("code", [errno.EEXIST, errno.ETIMEDOUT, errno.EIO])
def test_put_if_absent__answer_to_the_link_gets_lost(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    plain = os.link

    def link(source: Path, target: Path) -> None:
        plain(source, target)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    assert store.put_if_absent("a", b"mine")
    assert not store.put_if_absent("a", b"another")
    assert store.get("a") == b"mine"
    assert [path.name for path in Path(store.root.path).iterdir()] == ["a"]


def test_put_if_absent__another_one_links_first(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.link

    def link(source: Path, target: Path) -> None:
        target.write_bytes(b"another")
        plain(source, target)

    monkeypatch.setattr(os, "link", link)
    assert not store.put_if_absent("a", b"mine")
    assert store.get("a") == b"another"


def test_put_if_absent__a_file_system_without_links(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # as vfat says

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StoreError, match="no hard links") as caught:
        store.put_if_absent("a", b"mine")
    assert "s3://" in str(caught.value.hint)
    assert caught.value.exit_code == 4
    assert list(Path(store.root.path).iterdir()) == []


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
