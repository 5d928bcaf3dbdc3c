"""How does Parquet read a part of an object? A seekable file over ranged reads."""

import io
import os
from typing import TYPE_CHECKING, Protocol

from winnow_storage.blobs import BlobInfo
from winnow_storage.errors import BlobMissing
from winnow_storage.uri import Location

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class RangeStore(Protocol):
    """What a RangeFile asks of a store."""

    root: Location

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """As in BlobStore."""
        ...

    def info(self, key: str) -> BlobInfo | None:
        """As in BlobStore."""
        ...


class RangeFile(io.RawIOBase):
    """A read-only file over one object: every read is one ranged request, so a footer costs no more than itself.

    `size_bytes` is the object's size where the caller knows it (from a listing); it is asked for otherwise.

    Raises:
        BlobMissing: the object is not there.
    """

    def __init__(self, store: RangeStore, key: str, *, size_bytes: int | None = None) -> None:
        super().__init__()
        if size_bytes is None:
            info = store.info(key)
            if info is None:
                raise BlobMissing(f"{key} is not in {store.root}")
            size_bytes = info.bytes
        self._store = store
        self._key = key
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The offset of the next read, in bytes."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset` bytes from the start, the place, or the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill `buffer` from here on, less at the end of the object."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size_bytes - self._at)
        if length <= 0:
            return 0
        data = self._store.get_range(self._key, self._at, length)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
