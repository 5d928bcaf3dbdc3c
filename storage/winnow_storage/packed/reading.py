"""How is an item inside of a container read? By the version that was listed, and with its neighbours.

Archives on S3 are read in blocks, which members that lie beside each other share; Parquet by row groups; PDF documents
whole. Little of each is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass

from winnow_storage.blobs import Announce, BlobInfo, BlobStore, locate, unannounced
from winnow_storage.errors import BlobDamaged, BlobMissing, BlobReplaced, StoreUnavailable
from winnow_storage.ids import digest_bytes
from winnow_storage.packed.image_rows import GROUPS_BYTES, ImageRows, RowGroups
from winnow_storage.packed.indexes import BUFFER_BYTES
from winnow_storage.packed.names import DOCUMENTS, Kind, PageMember, ParquetMember, Place, TarMember
from winnow_storage.packed.parquet_column import open_parquet, parquet_index
from winnow_storage.packed.ranges import VersionRanges
from winnow_storage.packed.recent import Recent
from winnow_storage.packed.tar_index import tar_index
from winnow_storage.uri import Location

BLOCK_BYTES = 8 << 20  # 12 times as many images a second as by a request for each
BLOCKS_BYTES = 16 * BLOCK_BYTES  # two shards are worked on at once, with 64 MiB on their way for each
# Two of the largest, or some more of the usual ones
DOCUMENTS_BYTES = 512 << 20
DOCUMENT_BYTES = 32 << 20
OPEN_FILES = 4
INFOS = 1024


@dataclass(frozen=True, slots=True)
class Content:
    """What an item is made of: the bytes of an image, or a document (`kind`) of which it is the `page`.

    A page counts from 1, 0 stands for the document as such.

    `content_sha256` is the digest of the image's bytes; of a page, that of (digest of the document, page). `bytes` is
    None for a page.
    """

    data: bytes
    version: str
    content_sha256: str
    bytes: int | None
    page: int | None = None
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class _Container:
    store: BlobStore
    info: BlobInfo  # its size only where `_sized` gave it
    uri: str


class MemberReader:
    """Reads members from any number of threads. `announce` is told the bytes of every request before it is sent."""

    def __init__(self, store_of: Callable[[Location], BlobStore], announce: Announce = unannounced) -> None:
        self._store_of = store_of
        self._announce = announce
        self._infos = Recent[tuple[str, str], BlobInfo](INFOS)
        self._blocks = Recent[tuple[str, str, int], bytes](BLOCKS_BYTES)
        self._files = Recent[tuple[str, str], ImageRows](OPEN_FILES)
        self._groups: RowGroups = Recent(GROUPS_BYTES)
        self._documents = Recent[tuple[str, str], tuple[bytes, str]](DOCUMENTS_BYTES)

    def read(self, place: Place, version: str) -> Content:
        """The content at `place`, of the container's `version`.

        Raises:
            BlobMissing: there is no such container.
            BlobReplaced: it is there in another version.
            BlobDamaged: it, or this member of it, cannot be read.
            BlobTooLarge: reading it takes too much memory.
            StoreError: the store refuses or cannot answer.
        """
        root, key = locate(place.container)
        container = _Container(self._store_of(root), BlobInfo(key, 0, version), place.container)
        match place.member:
            case TarMember():
                return _content(self._file_in(container, place.member), version)
            case ParquetMember():
                return _content(self._row_in(container, place.member), version)
            case PageMember():
                return self._page_in(container, place.member.page, place.kind)
            case None if place.kind in DOCUMENTS:
                return self._page_in(container, 0, place.kind)
            case None:
                raise self._why_unopened(container, place.kind)

    def _file_in(self, container: _Container, member: TarMember) -> bytes:
        if container.store.root.scheme == "file" or member.bytes > BLOCK_BYTES // 2:
            data = self._ranges(container).get_range(container.info.key, member.offset, member.bytes)
        else:
            first, last = member.offset // BLOCK_BYTES, (member.offset + max(member.bytes, 1) - 1) // BLOCK_BYTES
            blocks = b"".join(self._block(container, number) for number in range(first, last + 1))
            start = member.offset - first * BLOCK_BYTES
            data = blocks[start : start + member.bytes]
        if len(data) < member.bytes:
            raise BlobDamaged(f"its archive ends after {len(data)} of its {member.bytes} bytes")
        return data

    def _block(self, container: _Container, number: int) -> bytes:
        def fetch() -> bytes:
            return self._ranges(container).get_range(container.info.key, number * BLOCK_BYTES, BLOCK_BYTES)

        return self._blocks.get((container.uri, container.info.version, number), BLOCK_BYTES, fetch)

    def _row_in(self, container: _Container, member: ParquetMember) -> bytes:
        opened = self._files.get((container.uri, container.info.version), 1, lambda: self._opened(container))
        return opened.bytes_of(member)

    def _opened(self, container: _Container) -> ImageRows:
        file = self._ranges(self._sized(container)).file()
        return ImageRows(open_parquet(file, container.uri), container.uri, container.info.version, self._groups)

    def _page_in(self, container: _Container, page: int, kind: Kind) -> Content:
        info = self._sized(container).info

        def fetch() -> tuple[bytes, str]:
            self._announce(info.bytes)
            blob = container.store.read(info.key)
            if blob.version != info.version:
                raise BlobReplaced(f"{container.uri} was replaced since it was listed")
            return blob.data, digest_bytes(blob.data)

        document, digest = self._documents.get((container.uri, info.version), max(info.bytes, DOCUMENT_BYTES), fetch)
        return Content(document, info.version, digest_bytes(f"{digest}#page={page}".encode()), None, page, kind)

    def _why_unopened(self, container: _Container, kind: Kind) -> BlobDamaged | StoreUnavailable:
        """What is wrong with a container whose index says that something is."""
        with self._ranges(self._sized(container)).file() as file:
            if kind is Kind.PARQUET:
                parquet = open_parquet(file, container.uri)
                damage = parquet_index(parquet, "").damage
            else:
                damage = tar_index(file, buffer_bytes=BUFFER_BYTES[container.store.root.scheme]).damage
        if damage is None:
            return StoreUnavailable("it was damaged when it was listed, and is not now")
        return BlobDamaged(damage)

    def _sized(self, container: _Container) -> _Container:
        """With the size that the store says, asked for once."""

        def look() -> BlobInfo:
            self._announce(0)
            found = container.store.info(container.info.key)
            if found is None:
                raise BlobMissing(f"{container.uri} is not there")
            if found.version != container.info.version:
                raise BlobReplaced(f"{container.uri} was replaced since it was listed")
            return found

        info = self._infos.get((container.uri, container.info.version), 1, look)
        return _Container(container.store, info, container.uri)

    def _ranges(self, container: _Container) -> VersionRanges:
        return VersionRanges(container.store, container.info, self._announce)


def _content(data: bytes, version: str) -> Content:
    return Content(data, version, digest_bytes(data), len(data))
