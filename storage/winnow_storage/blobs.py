"""What does an object store promise? One interface over folders and S3, the implementation chosen by scheme.

Four promises, the same for every implementation (tests/contract/test_blobs.py):
a `read` returns all bytes of one object and their version, or raises; `put_if_absent` lets exactly one writer win and
never leaves a partial object visible; `walk` is sorted by the UTF-8 bytes of the key; every failure is one of the
errors named here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from winnow_storage.errors import SpecError
from winnow_storage.uri import Location

Announce = Callable[[int], None]  # is told the bytes of a request before it is sent, as far as they are known


def unannounced(size_bytes: int) -> None:
    """For whoever does not care."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """An object as a listing shows it. `version` is its ETag, or size and mtime where there is none."""

    key: str
    bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Blob:
    """An object as it was read: all its bytes, and the `version` (as in BlobInfo) that these bytes are of."""

    data: bytes
    version: str


class BlobStore(Protocol):
    """Objects below one root, named by keys relative to it (`/`-separated, never starting with one).

    Every method may raise StoreDenied (credentials) and StoreError, and StoreUnavailable only after it has tried again
    for as long as it makes sense; those that read or look at one object BlobRefused. `conditional_puts` is False once
    the store has said that it knows no such thing, or its probe has found it out: puts then look first, which is right
    for a single writer.
    """

    root: Location
    conditional_puts: bool

    def get(self, key: str) -> bytes:
        """The bytes of `read`."""
        ...

    def read(self, key: str) -> Blob:
        """Raises BlobMissing if the object is not there."""
        ...

    def read_bulk(self, key: str) -> Blob:
        """As `read`, for one object among very many: in the way that costs the least."""
        ...

    def get_range(self, key: str, start: int, length: int, *, version: str | None = None) -> bytes:
        """`length` bytes from `start`, fewer at the end of the object; with a `version`, of that one.

        Raises:
            BlobMissing: it is not there.
            BlobReplaced: it is there in another version.
        """
        ...

    def info(self, key: str) -> BlobInfo | None:
        """None if the object is not there."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Whether this call created the object; False if another one did (its bytes stay as they are)."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Create or replace atomically. Only for what can be derived again (reports, pointers)."""
        ...

    def walk(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Every object whose key starts with `prefix`, sorted by the UTF-8 bytes of the key."""
        ...

    def folders(self, prefix: str = "") -> list[str]:
        """The distinct next path parts below the folder `prefix` ("" or ending in "/"), sorted, without slashes."""
        ...


def open_store(root: Location, *, announce_again: Announce = unannounced) -> BlobStore:
    """The store that holds `root`. Opening is cheap and touches nothing; the first call may fail.

    `announce_again` is told of every request to a bucket that a call which reads sends beyond its first one.

    Raises:
        SpecError: a scheme that no implementation takes.
    """
    if root.scheme == "s3":
        from winnow_storage.s3_store import S3Store

        return S3Store(root, announce_again=announce_again)
    from winnow_storage.local_store import LocalStore

    return LocalStore(root)


def uri_of(root: Location, key: str) -> str:
    """The canonical URI of the object `key` below `root`: what rows carry, and what `locate` takes apart."""
    if root.scheme == "file":
        return (root / key).uri
    return f"{root.uri}/{key}"  # joined as text: an S3 key may hold "//" or "."


def locate(uri: str) -> tuple[Location, str]:
    """From a canonical URI to (store root, key): the bucket for S3, the root folder for files.

    Raises:
        SpecError: not an absolute `file://` or `s3://` URI of an object.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "s3":
        bucket, _, key = rest.partition("/")
        if bucket and key:
            return Location("s3", bucket, ""), key
    elif separator and scheme == "file":
        key = unquote(rest).lstrip("/")
        if rest.startswith("/") and key:
            return Location("file", "", "/"), key
    raise SpecError(f"{uri!r} does not name an object", hint="write s3://bucket/key or file:///path")
