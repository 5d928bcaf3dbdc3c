"""Which members does a container have? By the index that was kept of this version of it, or by a new one.

An index is put below the output, named by the container's URI and version: a container that did not change costs no
request to the corpus, and one to the output if it is large.
"""

import contextlib
from types import TracebackType
from typing import Self

from winnow_storage.blobs import Announce, BlobInfo, BlobStore, unannounced, uri_of
from winnow_storage.errors import (
    BlobDamaged,
    BlobMissing,
    BlobRefused,
    BlobReplaced,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from winnow_storage.ids import digest_value
from winnow_storage.packed.index import Index
from winnow_storage.packed.names import DOCUMENTS, Kind, kind_of
from winnow_storage.packed.parquet_column import image_column, open_parquet, parquet_index
from winnow_storage.packed.pdf_index import pdf_index
from winnow_storage.packed.pdf_pages import CountingEnded, PageCounter
from winnow_storage.packed.ranges import VersionRanges
from winnow_storage.packed.small_indexes import MEMBERS_MOST, SmallIndexes
from winnow_storage.packed.tar_index import tar_index
from winnow_storage.packed.tiff_index import tiff_index

FORMAT = 1  # of an index; another one makes every index anew
# A request to a bucket takes as long as some MiB do, a read of a disk no time
BUFFER_BYTES = {"s3": 8 << 20, "file": 32 << 10}
# It is another container by now, or nothing is known of it: what is said of it is not kept
_UNKNOWN = (BlobMissing, BlobReplaced, BlobRefused, CountingEnded)


class Indexes:
    """The indexes of a corpus' containers, from any number of threads; kept in `kept`, or nowhere.

    `column` is that of Parquet files, where they have several that could be it. A document larger than
    `max_document_bytes`, or a TIFF of more than `max_pages`, is not read. `announce` is told the bytes of every request
    to the corpus.
    """

    def __init__(
        self,
        corpus: BlobStore,
        kept: BlobStore | None,
        *,
        column: str | None,
        max_document_bytes: int,
        max_pages: int = 10_000,
        announce: Announce = unannounced,
    ) -> None:
        self._corpus = corpus
        self._kept = kept
        self._column = column
        self._max_document_bytes = max_document_bytes
        self._max_pages = max_pages
        self._announce = announce
        self._pages = PageCounter()
        self._small: SmallIndexes | None = None

    def __enter__(self) -> Self:
        self._small = None if self._kept is None else SmallIndexes(self._kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pages.close()
        if self._small is not None and not isinstance(error, StoreError):
            with contextlib.suppress(StoreDenied, StoreUnavailable):
                self._small.write()

    def known(self, info: BlobInfo) -> Index | None:
        """The index of a container if no request is needed for it."""
        return None if self._small is None else self._small.get(self._name(info))

    def of(self, info: BlobInfo) -> Index:
        """The index of a container as it was listed; one that says so where it cannot be opened.

        Raises:
            SpecError: a Parquet file in which no column is meant for certain.
            StoreError: a store refuses or cannot answer.
        """
        if _kind(info) in DOCUMENTS and info.bytes > self._max_document_bytes:
            return Index.unopened(
                f"{info.bytes} bytes, over the limit of {self._max_document_bytes} (limits.max_bytes)"
            )
        name = self._name(info)
        kept = self.known(info) or self._read(name)
        if kept is not None:
            return kept
        try:
            made = self._made(info)
        except _UNKNOWN as error:
            return Index.unopened(str(error))
        with contextlib.suppress(StoreDenied, StoreUnavailable):  # whoever may only read may plan all the same
            self._keep(name, made)
        return made

    def _name(self, info: BlobInfo) -> str:
        kind = _kind(info)
        # what else decides an index
        told = {Kind.PARQUET: self._column, Kind.TIFF: f"tiff {self._max_pages}"}.get(kind)
        return digest_value([FORMAT, uri_of(self._corpus.root, info.key), info.version, told])

    def _read(self, name: str) -> Index | None:
        if self._kept is None:
            return None
        try:
            return Index.decode(self._kept.get(_place(name)))
        except (BlobMissing, ValueError):
            return None

    def _keep(self, name: str, index: Index) -> None:
        if self._small is not None and len(index.members) <= MEMBERS_MOST:
            self._small.add(name, index)
            return
        if self._kept is None or self._kept.put_if_absent(_place(name), index.encode()):
            return
        if self._read(name) is None:
            self._kept.put(_place(name), index.encode())  # what stands there is damaged

    def _made(self, info: BlobInfo) -> Index:
        """What is wrong twice in the same way is what is stored; otherwise it came damaged."""
        made = self._built(info)
        if made.damage is not None and self._built(info).damage != made.damage:
            raise StoreUnavailable(
                f"{uri_of(self._corpus.root, info.key)} came damaged, and each time differently ({made.damage})",
                hint="check the network to the store, then try again",
            )
        return made

    def _built(self, info: BlobInfo) -> Index:
        kind = _kind(info)
        if kind is Kind.PDF:
            self._announce(info.bytes)
            return pdf_index(self._corpus, info, self._pages)
        with VersionRanges(self._corpus, info, self._announce).file() as file:
            if kind is Kind.TAR:
                return tar_index(file, buffer_bytes=BUFFER_BYTES[self._corpus.root.scheme])
            if kind is Kind.TIFF:
                return tiff_index(file, max_pages=self._max_pages)
            where = uri_of(self._corpus.root, info.key)
            try:
                parquet = open_parquet(file, where)
            except BlobDamaged as error:
                return Index.unopened(error.message)
            return parquet_index(parquet, image_column(parquet.schema_arrow, self._column, where))


def _kind(info: BlobInfo) -> Kind:
    """Whoever asks here for a TIFF takes its pages for items."""
    return kind_of(info.key, tiff_pages=True) or Kind.TAR


def _place(name: str) -> str:
    return f"packed/{name}.parquet"
