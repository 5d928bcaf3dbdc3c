"""Where do the members of containers stand in a sorted listing? Between the objects, by the bytes of their keys."""

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, uri_of
from winnow_storage.errors import SpecError
from winnow_storage.found import FOUND
from winnow_storage.packed.index import Index
from winnow_storage.packed.indexes import Indexes
from winnow_storage.packed.names import DOCUMENTS, Kind, kind_of, uri_base
from winnow_storage.uri import Location

THREADS = 8  # containers that are opened at the same time; one takes up to 8 MiB, and its index
# `uri` is null where it follows from the key.
FOUND_PACKED = FOUND.append(pa.field("uri", pa.string()))


class Expansion:
    """A listing of `root` in which members stand for their containers.

    `takes` says of a member's key whether it is an item; `leave_out` is told the keys of those that are none. A
    container that cannot be opened, or not to its end, is an item itself, so that its damage is in the results.
    """

    def __init__(
        self,
        root: Location,
        indexes: Indexes,
        takes: Callable[[str], bool],
        leave_out: Callable[[list[str]], None],
        *,
        tiff_pages: bool = False,
    ) -> None:
        self._tiff_pages = tiff_pages
        self._root = root
        self._indexes = indexes
        self._takes = takes
        self._leave_out = leave_out
        self._waiting: list[tuple[str, pa.RecordBatch]] = []  # a heap: what their keys begin with, and the members

    def batches(self, found: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of `found` (FOUND, sorted by key) and of the members, as FOUND_PACKED, sorted by key.

        Raises:
            SpecError: an object lies below the name of a container, as its members do.
            StoreError: a store refuses or cannot answer.
        """
        with self._indexes, ThreadPoolExecutor(THREADS, "index") as pool:
            for batch in found:
                keys = batch.column("key").to_pylist()
                places = [at for at, key in enumerate(keys) if self._kind_of(key) is not None]
                infos = [BlobInfo(keys[at], batch["bytes"][at].as_py(), batch["version"][at].as_py()) for at in places]
                start = 0
                known = [self._indexes.known(info) for info in infos]
                unknown = [info for info, index in zip(infos, known, strict=True) if index is None]
                opened = mapped_ahead(pool, self._indexes.of, unknown, ahead=THREADS)
                for at, info, kept in zip(places, infos, known, strict=True):
                    index = next(opened) if kept is None else kept
                    yield from self._merged(batch.slice(start, at - start))
                    yield from self._before(info.key)
                    if index.damage is not None:
                        yield self._itself(info)
                    heapq.heappush(self._waiting, (f"{info.key}/", self._members(info, index)))
                    start = at + 1
                yield from self._merged(batch.slice(start))
            while self._waiting:
                yield heapq.heappop(self._waiting)[1]

    def _kind_of(self, key: str) -> Kind | None:
        return kind_of(key, tiff_pages=self._tiff_pages)

    def _merged(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        keys = rows.column("key").to_pylist()
        rows = pa.record_batch([*rows.columns, pa.nulls(len(rows), pa.string())], schema=FOUND_PACKED)
        at = 0
        while keys and self._waiting and self._waiting[0][0] < keys[-1]:
            cut = bisect_left(keys, self._waiting[0][0], at)
            yield rows.slice(at, cut - at)
            yield from self._before(keys[cut])
            at = cut
        yield rows.slice(at)

    def _before(self, key: str) -> Iterator[pa.RecordBatch]:
        """The members that come before an object."""
        while self._waiting and self._waiting[0][0] <= key:
            below, members = heapq.heappop(self._waiting)
            if key.startswith(below):
                raise SpecError(
                    f"{self._root}: {key!r} lies below the name of a container, as the members of {below[:-1]!r} do",
                    hint="move it, or leave one of the two out of the corpus with corpus.include",
                )
            yield members

    def _itself(self, info: BlobInfo) -> pa.RecordBatch:
        kind = self._kind_of(info.key) or Kind.TAR
        # only documents are read whole, so that their size is one to be limited
        size_bytes = info.bytes if kind in DOCUMENTS else None
        uri = uri_base(kind, uri_of(self._root, info.key))
        return _rows([info.key], info.version, [size_bytes], [uri])

    def _members(self, info: BlobInfo, index: Index) -> pa.RecordBatch:
        kind = self._kind_of(info.key) or Kind.TAR
        members = index.members
        keys = pc.binary_join_element_wise(info.key, members["name"], "/")
        if kind is Kind.TAR:
            names = zip(keys.to_pylist(), members["fragment"].is_valid().to_pylist(), strict=True)
            taken = [there and kind_of(key) is None and self._takes(key) for key, there in names]
            if not all(taken):
                self._leave_out(keys.filter(pc.invert(pa.array(taken, pa.bool_()))).to_pylist())
                members, keys = members.filter(pa.array(taken, pa.bool_())), keys.filter(pa.array(taken, pa.bool_()))
        uris = pc.binary_join_element_wise(uri_base(kind, uri_of(self._root, info.key)), members["fragment"], "")
        return _rows(keys, info.version, members["bytes"], uris)


def _rows(keys: object, version: str, sizes_bytes: object, uris: object) -> pa.RecordBatch:
    key_column = pa.array(keys, pa.string())
    versions = pa.repeat(pa.scalar(version, pa.string()), len(key_column))
    cold = pa.repeat(pa.scalar(value=False), len(key_column))
    columns = [key_column, versions, pa.array(sizes_bytes, pa.int64()), cold, pa.array(uris, pa.string())]
    return pa.record_batch(columns, schema=FOUND_PACKED)
