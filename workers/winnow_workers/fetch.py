"""How does one item become pixels? Fetched once, decoded once, or ended with a signal that says why not."""

from collections.abc import Callable
from dataclasses import dataclass

from winnow_storage.blobs import BlobStore, locate, open_store
from winnow_storage.errors import BlobMissing, StoreUnavailable
from winnow_storage.ids import digest_bytes
from winnow_storage.uri import Location
from winnow_workers.decode import Decoded, DecodeLimits, decode
from winnow_workers.signals import ItemSignal, Missing, Rejected, Unavailable


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the run's work."""

    item_id: str
    key: str
    uri: str
    version: str
    bytes: int | None
    tasks: frozenset[str]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of an item: pixels, or the signal that ended it. Digest and length wherever bytes arrived."""

    item: Item
    decoded: Decoded | None
    signal: ItemSignal | None
    content_sha256: str | None = None
    bytes: int | None = None


class Fetcher:
    """Reads items by their canonical URIs, keeping one store per bucket or file system."""

    def __init__(self, limits: DecodeLimits, open_root: Callable[[Location], BlobStore] = open_store) -> None:
        self.limits = limits
        self._open_root = open_root
        self._stores: dict[Location, BlobStore] = {}

    def fetch(self, item: Item, *, needed_side_px: int | None) -> Fetched:
        """Fetch and decode; what the item's bytes or the store say about the item ends it, nothing else does.

        Raises:
            StoreDenied, StoreError: the store refuses us; that is no fault of the item.
        """
        data: bytes | None = None
        try:
            if item.bytes is not None and item.bytes > self.limits.max_bytes:
                raise Rejected(f"{item.bytes} bytes, over the limit of {self.limits.max_bytes}")
            data = self._read(item)
            decoded = decode(data, needed_side_px=needed_side_px, limits=self.limits)
        except ItemSignal as signal:
            if data is None:
                return Fetched(item, None, signal, bytes=item.bytes)
            return Fetched(item, None, signal, digest_bytes(data), len(data))
        return Fetched(item, decoded, None, digest_bytes(data), len(data))

    def _read(self, item: Item) -> bytes:
        root, key = locate(item.uri)
        store = self._stores.get(root)
        if store is None:
            store = self._stores.setdefault(root, self._open_root(root))
        try:
            return store.get(key)
        except BlobMissing as error:
            raise Missing("the store says that it is not there") from error
        except StoreUnavailable as error:
            raise Unavailable(error.message) from error
