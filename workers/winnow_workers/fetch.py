"""How does one item become pixels? Fetched once, decoded once, or ended with a signal that says why not."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from winnow_storage.blobs import BlobStore, locate, open_store
from winnow_storage.errors import (
    BlobArchived,
    BlobDamaged,
    BlobMissing,
    BlobRefused,
    BlobReplaced,
    BlobTooLarge,
    StoreError,
    StoreUnavailable,
)
from winnow_storage.ids import digest_bytes
from winnow_storage.listing import ABSENT
from winnow_storage.local_folder import Folder, folder_of
from winnow_storage.packed.names import Kind, Place, parse_place
from winnow_storage.packed.reading import Content, MemberReader
from winnow_storage.uri import Location
from winnow_workers.copies import Leader
from winnow_workers.decode import Decoded, DecodeLimits, DecodeSettings, decode
from winnow_workers.device_jpegs import DeviceJpegs
from winnow_workers.limits import WHITE, check_bytes
from winnow_workers.pdf_page import decode_page
from winnow_workers.signals import REPLACED, ItemSignal, Missing, OutOfMemory, Rejected, Unavailable, Unreadable
from winnow_workers.stored import Stored
from winnow_workers.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the run's work."""

    item_id: str
    key: str
    uri: str
    version: str
    bytes: int | None
    tasks: frozenset[str]
    leader: Leader | None = None  # if its bytes are the leader's, its predictions are as well
    stored: Stored | Unavailable | None = None  # if it is there, nothing is fetched


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of an item: pixels, the leader whose bytes it has, what is stored of it, or the signal that ended it.

    Digest, length and version are there wherever bytes arrived, now or when the stored row was made.
    `version` is that of the bytes that were read, not of the listing: the object may have been replaced since.
    """

    item: Item
    decoded: Decoded | None
    signal: ItemSignal | None
    content_sha256: str | None = None
    bytes: int | None = None
    version: str | None = None
    copied: Leader | None = None
    stored: Stored | None = None


class Fetcher:
    """Reads items by their canonical URIs, keeping one store per bucket or file system."""

    def __init__(
        self,
        limits: DecodeLimits,
        open_root: Callable[[Location], BlobStore] | None = None,
        *,
        throttle: Throttle | None = None,
        settings: DecodeSettings = WHITE,
    ) -> None:
        """`throttle` is asked before every request; by default stores are those that the URIs name."""
        self.limits = limits
        self.settings = settings
        self.on_device: DeviceJpegs | None = None  # once it is open, JPEGs are decoded there where they can be
        self._throttle = throttle
        self._open_root = open_root or partial(open_store, announce_again=self._announce)
        self._stores: dict[Location, BlobStore] = {}
        self._members = MemberReader(self._store, self._announce)

    def fetch(self, item: Item, *, needed_side_px: int | None) -> Fetched:
        """Fetch and decode; what the item's bytes or the store say about the item ends it, nothing else does.

        What has the bytes of its leader is not decoded.

        Raises:
            StoreDenied, StoreError: the store, or the item's whole folder, refuses us; that is no fault of the item.
        """
        return self.bring(item, needed_side_px=needed_side_px)()

    def bring(self, item: Item, *, needed_side_px: int | None) -> Callable[[], Fetched]:
        """Fetch the bytes now; what is returned decodes them, in whichever thread.

        Raises:
            StoreDenied, StoreError: as `fetch`.
        """
        if item.stored is not None:
            recalled = _recalled(item, item.stored)
            return lambda: recalled
        try:
            check_bytes(item.bytes or 0, self.limits)
            content = self.read(item)
        except ItemSignal as signal:
            ended = Fetched(item, None, signal, bytes=item.bytes)
            return lambda: ended
        return lambda: self.developed(item, content, needed_side_px)

    def developed(self, item: Item, content: Content, needed_side_px: int | None) -> Fetched:
        """What comes of an item whose bytes are there."""
        known = (content.content_sha256, content.bytes, content.version)
        if item.leader is not None and item.leader.content_sha256 == content.content_sha256:
            return Fetched(item, None, None, *known, item.leader)
        try:
            return Fetched(item, self.decode(content, needed_side_px=needed_side_px), None, *known)
        except ItemSignal as signal:
            return Fetched(item, None, signal, *known)

    def decode(self, content: Content, *, needed_side_px: int | None) -> Decoded:
        """The pixels of what was read.

        Raises:
            ItemSignal: as `decode.decode` and `pdf_page.decode_page` say.
        """
        if content.page is not None and content.kind is not Kind.TIFF:
            return decode_page(content.data, content.page, limits=self.limits)
        page = 1 if content.page is None else content.page
        return decode(
            content.data,
            needed_side_px=needed_side_px,
            limits=self.limits,
            settings=self.settings,
            page=page,
            on_device=self.on_device,
        )

    def read(self, item: Item) -> Content:
        """The bytes of an item, where they are those that were listed.

        Raises:
            ItemSignal: the store or the bytes end the item.
            StoreDenied, StoreError: the store, or the item's whole folder, refuses us.
        """
        place = parse_place(item.uri)
        root, key = locate(item.uri if place is None else place.container)
        try:
            return self._whole(item, root, key) if place is None else self._member(item, place)
        except BlobMissing as error:
            raise _gone(item, root, key) from error
        except BlobArchived as error:
            raise Unavailable(
                f"it must be restored from its archive before it can be read ({error.message})"
            ) from error
        except (BlobRefused, StoreUnavailable) as error:
            raise Unavailable(error.message) from error
        except StoreError as error:
            if (
                root.scheme != "file"
                or not isinstance(error.__cause__, OSError)
                or _folder(root, key)[1] is Folder.CLOSED
            ):
                raise
            raise Unavailable(error.message) from error  # of this file only: its folder answers

    def _whole(self, item: Item, root: Location, key: str) -> Content:
        self._announce(item.bytes or 0)
        blob = self._store(root).read_bulk(key)
        if blob.version == item.version and item.bytes not in (None, len(blob.data)):
            # the one check for ETags that are no digest: uploads in parts, keys of one's own
            raise Unavailable(f"{len(blob.data)} bytes came of a version that was listed with {item.bytes}")
        return Content(blob.data, blob.version, digest_bytes(blob.data), len(blob.data))

    def _member(self, item: Item, place: Place) -> Content:
        """Of the version that was listed and no other: the offsets are that one's."""
        try:
            return self._members.read(place, item.version)
        except BlobReplaced as error:
            raise Unavailable(REPLACED) from error
        except BlobDamaged as error:
            raise Unreadable(error.message) from error
        except BlobTooLarge as error:
            raise Rejected(error.message) from error
        except MemoryError as error:
            raise OutOfMemory("reading it takes more memory than there is") from error

    def _store(self, root: Location) -> BlobStore:
        store = self._stores.get(root)
        return self._stores.setdefault(root, self._open_root(root)) if store is None else store

    def _announce(self, size_bytes: int) -> None:
        if self._throttle is not None:
            self._throttle.take(size_bytes)


def _recalled(item: Item, stored: Stored | Unavailable) -> Fetched:
    if isinstance(stored, Unavailable):
        return Fetched(item, None, stored, bytes=item.bytes)
    file = stored.file
    return Fetched(item, None, None, file["content_sha256"], file["bytes"], item.version, stored=stored)


def _gone(item: Item, root: Location, key: str) -> ItemSignal:
    """Missing is final, so it takes a folder that still holds something, or an item that the corpus only names."""
    if root.scheme == "file" and item.version != ABSENT:
        folder, state = _folder(root, key)
        if state is Folder.LOST:
            return Unavailable(f"its folder {folder} is gone or empty: is it mounted?")
    return Missing("the store says that it is not there")


def _folder(root: Location, key: str) -> tuple[Path, Folder]:
    return folder_of((root / key).path)
