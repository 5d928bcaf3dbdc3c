"""How does a folder keep the promises of an object store? Synced temporary files, linked to their names."""

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from winnow_storage.backoff import Backoff
from winnow_storage.blobs import Blob, BlobInfo
from winnow_storage.errors import BlobMissing, BlobReplaced, StoreDenied, StoreError, StoreUnavailable
from winnow_storage.retrying import Result, Retrying
from winnow_storage.unfinished import TEMPORARY, hold
from winnow_storage.uri import Location

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_TRANSIENT = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EHOSTDOWN, errno.EHOSTUNREACH)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# A network mount forgets a handle (ESTALE) or loses its server for seconds; a disk that is broken stays so.
PATIENCE = Backoff(attempts=6, first_wait_s=0.1, longest_wait_s=2.0, budget_s=10.0)


class LocalStore:
    """A BlobStore over a folder. A link is seen only if it leads to a file inside the root; linked folders are not."""

    def __init__(self, root: Location, *, retrying: Retrying | None = None) -> None:
        self.root = root
        self.conditional_puts = True
        self._root = Path(root.path)
        self._retrying = retrying or Retrying()

    def get(self, key: str) -> bytes:
        """Raises BlobMissing if the object is not there."""
        return self.read(key).data

    def read(self, key: str) -> Blob:
        """All bytes of one file, of one moment: a file that somebody writes to meanwhile is read again.

        Raises:
            BlobMissing: it is not there.
        """
        return self._again(lambda: self._read(key))

    def read_bulk(self, key: str) -> Blob:
        """As `read`."""
        return self.read(key)

    def get_range(self, key: str, start: int, length: int, *, version: str | None = None) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object. Raises BlobMissing, BlobReplaced."""
        return self._again(lambda: self._read_range(key, start, length, version))

    def info(self, key: str) -> BlobInfo | None:
        """None if the object is not there."""
        with contextlib.suppress(BlobMissing):
            return self._again(lambda: self._look_at(key))
        return None

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Whether this call created the object; the link of a synced file is the moment at which it exists."""
        target = self._target(key)
        linked = False

        def once() -> bool:
            nonlocal linked
            with _translated(target, "write"):
                if not linked:  # a link that was made stands, even if its folder could not be synced
                    if os.path.lexists(target):
                        return False
                    with self._temporary(target, data) as temporary:
                        linked = _link(temporary, target)
                    if not linked:
                        return False
                _sync_folder(target.parent)
            return True

        return self._again(once)

    def put(self, key: str, data: bytes) -> None:
        """Create or replace atomically."""
        target = self._target(key)

        def once() -> None:
            with _translated(target, "write"), self._temporary(target, data) as temporary:
                temporary.replace(target)
                _sync_folder(target.parent)

        self._again(once)

    def walk(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Every object whose key starts with `prefix`, sorted by the UTF-8 bytes of the key; none if no root is there.

        Raises:
            StoreError: the root is a file, or a file's name is not UTF-8.
        """
        _check_parts(prefix, "prefix")
        with _translated(self._root, "list"):
            if self._root.exists() and not self._root.is_dir():
                raise StoreError(f"{self._root} is a file, not a folder", hint="name the folder that holds it")
        start = prefix[: prefix.rfind("/") + 1]
        if (self._root / start).is_dir():
            yield from self._walk_folder(start, prefix)

    def folders(self, prefix: str = "") -> list[str]:
        """The folders below the folder `prefix` that hold an object, sorted, without slashes."""
        _check_parts(prefix, "prefix")
        names = self._again(lambda: self._folders(prefix))
        found = (name for name in names if next(self.walk(f"{prefix}{name}/"), None) is not None)
        return sorted(found, key=lambda name: name.encode())

    def _again(self, once: Callable[[], Result]) -> Result:
        return self._retrying.call(once, lambda _: PATIENCE)

    def _read(self, key: str) -> Blob:
        with _translated(self._place(key), "read"), self._file(key).open("rb") as file:
            before = os.fstat(file.fileno())
            data = file.read()
            after = os.fstat(file.fileno())
        if _version(before) != _version(after) or len(data) != after.st_size:
            raise StoreUnavailable(
                f"{self._place(key)} changed while it was read", hint="let its writer finish, then run the same command"
            )
        return Blob(data, _version(after))

    def _read_range(self, key: str, start: int, length: int, version: str | None) -> bytes:
        with _translated(self._place(key), "read"), self._file(key).open("rb") as file:
            file.seek(start)
            data = file.read(max(0, length))
            if version is not None and _version(os.fstat(file.fileno())) != version:  # a write before or during it
                raise BlobReplaced(f"{self._place(key)} was replaced or changed since it was listed")
            return data

    def _look_at(self, key: str) -> BlobInfo:
        with _translated(self._place(key), "look at"):
            return _describe(key, self._file(key).stat())

    def _scan(self, at: str) -> list[tuple[bytes, os.DirEntry[str]]]:
        with _translated(self._root / at, "list"):
            return sorted((_sort_name(entry), entry) for entry in os.scandir(self._root / at))

    def _folders(self, prefix: str) -> list[str]:
        folder = self._root / prefix
        with _translated(folder, "list"):
            if not folder.is_dir():
                return []
            return [
                _text(os.fsencode(entry.name), folder)
                for entry in os.scandir(folder)
                if entry.is_dir(follow_symlinks=False)
            ]

    def _walk_folder(self, at: str, prefix: str) -> Iterator[BlobInfo]:
        folder = self._root / at
        for name, entry in self._again(lambda: self._scan(at)):
            key = f"{at}{_text(name, folder)}"
            if entry.name.startswith(TEMPORARY) or not (key.startswith(prefix) or prefix.startswith(key)):
                continue
            if key.endswith("/"):
                yield from self._walk_folder(key, prefix)
            elif (info := self._listed(key, entry)) is not None:
                yield info

    def _listed(self, key: str, entry: os.DirEntry[str]) -> BlobInfo | None:
        if entry.is_symlink():
            return self.info(key)
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None  # gone since the folder was read
        return _describe(key, found) if stat.S_ISREG(found.st_mode) else None

    def _place(self, key: str) -> Path:
        if not key or key.startswith("/") or key.endswith("/"):
            raise StoreError(f"{key!r} is no name of an object in {self.root}", hint="use a relative path to a file")
        _check_parts(key, "key")
        return self._root / key

    def _target(self, key: str) -> Path:
        """Where `key` is written: never through a linked folder that leads out of the root."""
        target = self._place(key)
        if any(part.startswith(TEMPORARY) for part in key.split("/")):
            raise StoreError(f"{key!r}: names that start with {TEMPORARY!r} are kept for unfinished files")
        if not self._inside(target.parent):
            raise StoreError(f"{target} lies outside of {self.root} (a link leads there)", hint="remove the link")
        return target

    def _file(self, key: str) -> Path:
        """The regular file behind `key`; a place that leads out of the root counts as absent."""
        path = self._place(key)
        if not self._inside(path) or not stat.S_ISREG(path.stat().st_mode):
            raise BlobMissing(f"{path} is not a file inside {self.root}", hint="check the path")
        return path

    def _inside(self, path: Path) -> bool:
        # realpath, because Path.resolve raises RuntimeError on a loop of links
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root))

    @contextlib.contextmanager
    def _temporary(self, target: Path, data: bytes) -> Iterator[Path]:
        """A synced file with `data` in the folder of `target`, removed at the end if it still has its own name."""
        _make_folder(target.parent)
        temporary = target.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                hold(file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _describe(key: str, found: os.stat_result) -> BlobInfo:
    return BlobInfo(key, found.st_size, _version(found))


def _version(found: os.stat_result) -> str:
    return f"{found.st_size}-{found.st_mtime_ns}"


def _link(temporary: Path, target: Path) -> bool:
    """Whether `target` now is the file `temporary`; False if another one is there.

    A network file system may make the link, lose the answer, ask again and then say that the name is taken. So what
    counts is whether the two names are one file (open(2), O_EXCL).
    """
    try:
        os.link(temporary, target)
    except OSError as error:
        if _are_one_file(temporary, target):
            return True
        if isinstance(error, FileExistsError):
            return False
        if error.errno not in _NO_LINKS:
            raise
        raise StoreError(
            f"{target}: its file system has no hard links ({error.strerror}), "
            "so a commit cannot be made to happen once",
            hint="put the output on a Linux file system (ext4, xfs, NFS) or on s3://",
        ) from error
    return True


def _are_one_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except OSError:
        return False


def _sort_name(entry: os.DirEntry[str]) -> bytes:
    # A folder sorts with its slash: "a-b" comes before "a/b" although "a" comes before "a-b".
    # So that depth-first order is the byte order of the full keys.
    return os.fsencode(entry.name) + (b"/" if entry.is_dir(follow_symlinks=False) else b"")


def _text(name: bytes, folder: Path) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise StoreError(f"{folder}: the name {name!r} is not UTF-8", hint="rename that file") from error


def _check_parts(path: str, what: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or "\0" in path or any(part in (".", "..") for part in parts) or "" in parts[:-1]:
        raise StoreError(
            f"the {what} {path!r} is not a plain path below the root", hint="take out '..', '//' and leading slashes"
        )


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(path: Path, verb: str) -> Iterator[None]:
    """Every failure of the file system as one of the store's errors."""
    try:
        yield
    except OSError as error:
        message = f"cannot {verb} {path}: {error.strerror or error}"
        if error.errno in _ABSENT and verb != "write":
            raise BlobMissing(message, hint="check the path") from error
        if error.errno in _FULL:
            raise StoreError(
                f"{message}: there is no room", hint="free some space, then run the same command"
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise StoreDenied(
                message, hint=f"give this user the right to {verb} there: ls -ld {path.parent}"
            ) from error
        if error.errno in _TRANSIENT:
            raise StoreUnavailable(message, hint="check the disk or mount, then run the same command") from error
        raise StoreError(message, hint="check the path") from error
