"""How is one version of a container read in parts? By ranged requests that fail once the object is replaced."""

import io

from winnow_storage.blobs import Announce, BlobInfo, BlobStore, unannounced
from winnow_storage.range_file import RangeFile


class VersionRanges:
    """The RangeStore of one version of one object."""

    def __init__(self, store: BlobStore, info: BlobInfo, announce: Announce = unannounced) -> None:
        self.root = store.root
        self._store = store
        self._info = info
        self._announce = announce

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """As in BlobStore.

        Raises:
            BlobReplaced: the object is there in another version.
        """
        self._announce(length)
        return self._store.get_range(key, start, length, version=self._info.version)

    def info(self, key: str) -> BlobInfo:
        """As it was listed."""
        del key
        return self._info

    def file(self) -> io.RawIOBase:
        """All of the object, every read a request."""
        return RangeFile(self, self._info.key, size_bytes=self._info.bytes)
