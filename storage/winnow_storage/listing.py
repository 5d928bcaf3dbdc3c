"""What is in a corpus? A deterministic table of its items: from a folder, a prefix, or a corpus file."""

import fnmatch
import itertools
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from winnow_storage import blobs, corpus_file, ids, schemas
from winnow_storage.errors import SpecError
from winnow_storage.uri import Location

ABSENT = "absent"  # the version of an item that a corpus file names and the store does not have
OTHER_EXAMPLES = 5
_BATCH = 16384  # rows; also how many look-ups are handed out at a time
_LOOKUP_THREADS = 16

T = TypeVar("T")
_Row = tuple[str, str, str, int | None]  # key, uri, version, bytes


@dataclass(frozen=True, slots=True)
class CorpusSource:
    """Where a corpus is. `include` holds file name patterns, met whatever the case; with a "/", of the whole key.

    A corpus file names its items itself: `include` does not bind it.
    """

    corpus_id: str
    root: Location
    include: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """A corpus as it was listed. `items` has the schema SNAPSHOT and is sorted by the UTF-8 bytes of the key."""

    items: pa.Table
    others: int  # objects that `include` leaves out
    other_examples: tuple[str, ...]  # the keys of the first of them


def list_corpus(source: CorpusSource) -> Listing:
    """List `source`.

    Raises:
        SpecError: nothing is there, or the corpus file is not one.
        StoreError: the store refuses or cannot answer.
    """
    if source.root.name.lower().endswith(corpus_file.SUFFIXES):
        uris = corpus_file.read_uris(source.root)
        return Listing(_table(source.corpus_id, _looked_up(uris)), 0, ())
    sieve = _Sieve(source)
    items = _table(source.corpus_id, sieve.rows())
    if items.num_rows + sieve.others == 0 and _is_absent(source.root):
        raise SpecError(f"there is nothing at {source.root}", hint="check corpus.uri in the spec")
    return Listing(items, sieve.others, tuple(sieve.examples))


class _Sieve:
    """Goes through a folder or prefix once, and remembers what it left out."""

    def __init__(self, source: CorpusSource) -> None:
        self._source = source
        self._of_name = _pattern(pattern for pattern in source.include if "/" not in pattern)
        self._of_key = _pattern(pattern for pattern in source.include if "/" in pattern)
        self.others = 0
        self.examples: list[str] = []

    def rows(self) -> Iterator[_Row]:
        root = self._source.root
        for info in blobs.open_store(root).walk():
            key = info.key.lower()
            if self._of_name.match(key.rpartition("/")[2]) or self._of_key.match(key):
                yield info.key, blobs.uri_of(root, info.key), info.version, info.bytes
                continue
            self.others += 1
            if len(self.examples) < OTHER_EXAMPLES:
                self.examples.append(info.key)


def _pattern(globs: Iterable[str]) -> re.Pattern[str]:
    """One expression for all of `globs`; for none of them, one that matches nothing."""
    return re.compile("|".join(fnmatch.translate(glob.lower()) for glob in globs) or r"(?!)")


def _looked_up(uris: Iterable[str]) -> Iterator[_Row]:
    stores: dict[Location, blobs.BlobStore] = {}

    def row(uri: str) -> _Row:
        root, key = blobs.locate(uri)
        info = stores[root].info(key)
        return (uri, uri, ABSENT, None) if info is None else (uri, uri, info.version, info.bytes)

    with ThreadPoolExecutor(_LOOKUP_THREADS) as pool:
        for batch in _batches(uris):
            for root in {blobs.locate(uri)[0] for uri in batch}:
                stores.setdefault(root, blobs.open_store(root))
            yield from pool.map(row, batch)


def _table(corpus_id: str, rows: Iterable[_Row]) -> pa.Table:
    batches = (
        pa.record_batch(
            list(zip(*((ids.item_id(corpus_id, row[0]), *row) for row in batch), strict=True)), schema=schemas.SNAPSHOT
        )
        for batch in _batches(rows)
    )
    return pa.Table.from_batches(batches, schema=schemas.SNAPSHOT)


def _batches(values: Iterable[T]) -> Iterator[list[T]]:
    source = iter(values)
    while batch := list(itertools.islice(source, _BATCH)):
        yield batch


def _is_absent(root: Location) -> bool:
    """Whether an empty `root` does not exist. A prefix exists by its objects only; a bucket that was listed exists."""
    return not Path(root.path).is_dir() if root.scheme == "file" else root.path != ""
