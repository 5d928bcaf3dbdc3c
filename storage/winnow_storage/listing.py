"""What is in a corpus? A sorted stream of its items: from a folder, a prefix, an inventory, or a corpus file."""

import contextlib
import fnmatch
import itertools
import operator
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from winnow_storage import blobs, corpus_file, ids, schemas
from winnow_storage.blobs import Announce, unannounced
from winnow_storage.errors import SpecError, StoreError
from winnow_storage.found import found_batch
from winnow_storage.packed.expand import Expansion
from winnow_storage.packed.indexes import Indexes
from winnow_storage.packed.names import names_container
from winnow_storage.uri import Location

ABSENT = corpus_file.ABSENT
EXAMPLES = 5
BATCH_ROWS = 16384
IMAGE_PATTERNS = tuple(f"*.{suffix}" for suffix in schemas.IMAGE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class CorpusSource:
    """Where a corpus is. `include` holds file name patterns, met whatever the case; with a "/", of the whole key.

    A corpus file names its items itself: `include` does not bind it. `inventory` is the manifest of an S3 Inventory of
    the corpus' bucket, or the folder that S3 writes them to, read instead of a listing.

    Objects that `include` takes and that are containers by their names (winnow_storage.packed) are listed as their
    members. `column` is that of Parquet files, `indexes` the output below which the containers' indexes are kept, and a
    document larger than `max_document_bytes` is not looked into. With `tiff_pages` TIFFs are containers as well, of up
    to `max_pages`.
    """

    corpus_id: str
    root: Location
    include: tuple[str, ...]
    inventory: Location | None = None
    column: str | None = None
    indexes: Location | None = None
    max_document_bytes: int = 256 << 20
    tiff_pages: bool = False
    max_pages: int = 10_000


class CorpusStream:
    """The items of a corpus as batches of the schema SNAPSHOT, sorted by the UTF-8 bytes of the key, to be read once.

    The counts are final when the batches are. `others` are objects that `include` leaves out, `cold` those that it
    takes and that lie in a storage class which must be restored to be read: neither are items. A listing does not show
    in which tier of INTELLIGENT_TIERING an object lies, an inventory does.
    """

    def __init__(self, source: CorpusSource, announce: Announce = unannounced) -> None:
        self._announce = announce
        self._source = source
        self._taken = key_matcher(source.include)
        self.items = 0
        self.others = 0
        self.other_examples: tuple[str, ...] = ()
        self.cold = 0
        self.cold_examples: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """At most 16,384 rows at a time.

        Raises:
            SpecError: nothing is there, or the corpus file or the inventory is not one.
            StoreError: the store refuses, cannot answer, or does not list in order.
        """
        root, corpus_id = self._source.root, self._source.corpus_id
        uri_base = None if corpus_file.is_one(root) else root
        if uri_base is None and self._source.inventory is not None:
            raise SpecError(
                f"the corpus file {root} names its items itself", hint="take corpus.inventory out of the spec"
            )
        # whatever ends this, threads, temporary files and processes behind it end with it
        with contextlib.closing(self._found()) as found:
            for batch in _rechunked(_in_order(found, root)):
                self.items += batch.num_rows
                yield _items(corpus_id, batch, uri_base)
        if self.items + self.others + self.cold == 0 and not corpus_file.is_one(root) and _is_absent(root):
            raise SpecError(f"there is nothing at {root}", hint="check corpus.uri in the spec")

    def _found(self) -> Generator[pa.RecordBatch]:
        if corpus_file.is_one(self._source.root):
            yield from corpus_file.look_up(self._source.root, self._announce)
            return
        with contextlib.closing(_listed(self._source, self._announce)) as listed:
            yield from self._expanded(self._sieved(batch) for batch in listed)

    def _sieved(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Without what is no item; that is counted."""
        keys = batch.column("key").to_pylist()
        keep = [self._taken(key) for key in keys]
        if not all(keep):
            self._leave_out([key for key, kept in zip(keys, keep, strict=True) if not kept])
            batch = batch.filter(pa.array(keep, pa.bool_()))
        if batch.column("cold").true_count:
            cold = batch.filter(batch.column("cold")).column("key")
            self.cold += len(cold)
            self.cold_examples = (*self.cold_examples, *cold[:EXAMPLES].to_pylist())[:EXAMPLES]
            batch = batch.filter(pc.invert(batch.column("cold")))
        return batch

    def _leave_out(self, keys: list[str]) -> None:
        self.others += len(keys)
        self.other_examples = (*self.other_examples, *keys[:EXAMPLES])[:EXAMPLES]

    def _expanded(self, found: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """With the members of containers in the place of these. A pattern of an image's name can meet no container."""
        source = self._source
        if not source.tiff_pages and all(pattern.lower() in IMAGE_PATTERNS for pattern in source.include):
            return found
        patterns = source.include
        if all(map(names_container, patterns)):
            patterns = IMAGE_PATTERNS
        kept = None if source.indexes is None else blobs.open_store(source.indexes)
        indexes = Indexes(
            blobs.open_store(source.root, announce_again=self._announce),
            kept,
            column=source.column,
            max_document_bytes=source.max_document_bytes,
            max_pages=source.max_pages,
            announce=self._announce,
        )
        expansion = Expansion(
            source.root, indexes, key_matcher(patterns), self._leave_out, tiff_pages=source.tiff_pages
        )
        return expansion.batches(found)


def stream_corpus(source: CorpusSource, announce: Announce = unannounced) -> CorpusStream:
    """List `source` while it is read: memory is that of some batches, whatever the corpus holds.

    `announce` is told of every request to a bucket, and of every look into a container or at an object that a corpus
    file names, before it is sent. An inventory is no part of the corpus: nothing is told of its requests.
    """
    return CorpusStream(source, announce)


def _listed(source: CorpusSource, announce: Announce) -> Generator[pa.RecordBatch]:
    root = source.root
    if source.inventory is not None:
        from winnow_storage import inventory

        yield from inventory.list_inventory(source.inventory, root)
    elif root.scheme == "s3":
        from winnow_storage import s3_listing

        yield from s3_listing.list_prefix(root, announce)
    else:
        yield from _walked(root)


def _walked(root: Location) -> Iterator[pa.RecordBatch]:
    infos = blobs.open_store(root).walk()
    while some := list(itertools.islice(infos, BATCH_ROWS)):
        yield found_batch([one.key for one in some], [one.version for one in some], [one.bytes for one in some])


def key_matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    """Whether any of these patterns takes a key, whatever the case: by its file name, with a "/" by the whole key.

    Nearly every pattern is `*.suffix`: one comparison for all of those.
    """
    suffixes: list[str] = []
    names: list[str] = []
    keys: list[str] = []
    for glob in (glob.lower() for glob in globs):
        if glob.startswith("*") and not re.search(r"[*?\[/]", glob[1:]):
            suffixes.append(glob[1:])
        else:
            (keys if "/" in glob else names).append(fnmatch.translate(glob))
    ends = tuple(suffixes)
    of_name, of_key = (re.compile("|".join(group) or r"(?!)") for group in (names, keys))

    def taken(key: str) -> bool:
        key = key.lower()
        if key.endswith(ends):
            return True
        return of_name.match(key.rpartition("/")[2]) is not None or of_key.match(key) is not None

    return taken


def _in_order(found: Iterable[pa.RecordBatch], root: Location) -> Iterator[pa.RecordBatch]:
    """The same batches. Plans merge by key, so a store that lists out of order must not pass for one that does."""
    last = None
    for batch in found:
        keys = batch.column("key").to_pylist()  # code points order as their UTF-8 bytes do
        if last is not None:
            keys.insert(0, last)
        if not all(map(operator.lt, keys, itertools.islice(keys, 1, None))):
            at = next(at for at in range(1, len(keys)) if keys[at - 1] >= keys[at])
            raise StoreError(
                f"{root} is not listed in the byte order of its keys: {keys[at]!r} came after {keys[at - 1]!r}",
                hint="the store must list as S3 does; a corpus file names the objects of one that does not",
            )
        last = keys[-1] if keys else last
        yield batch


def _rechunked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of BATCH_ROWS; the last one is shorter."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        while rows >= BATCH_ROWS:
            joined = pa.concat_batches(waiting)
            yield joined.slice(0, BATCH_ROWS)
            rows -= BATCH_ROWS
            waiting = [joined.slice(BATCH_ROWS)]
    if rows:
        yield pa.concat_batches(waiting)


def _items(corpus_id: str, found: pa.RecordBatch, uri_base: Location | None) -> pa.RecordBatch:
    """The rows of a snapshot; keys are URIs themselves where there is no `uri_base`."""
    keys = found.column("key")
    texts = keys.to_pylist()
    item_ids = pa.array([ids.item_id(corpus_id, key) for key in texts], pa.string())  # 0.7 of all 1.8 us per item
    if uri_base is None:
        uris = keys
    elif uri_base.scheme == "file":  # as blobs.uri_of writes them
        uris = pc.binary_join_element_wise(f"{uri_base.uri.rstrip('/')}/", pa.array([quote(key) for key in texts]), "")
    else:
        uris = pc.binary_join_element_wise(f"{uri_base.uri}/", keys, "")
    if "uri" in found.schema.names:  # members have URIs of their own
        uris = pc.coalesce(found.column("uri"), uris)
    return pa.record_batch(
        [item_ids, keys, uris, found.column("version"), found.column("bytes")], schema=schemas.SNAPSHOT
    )


def _is_absent(root: Location) -> bool:
    """Whether an empty `root` does not exist. A prefix exists by its objects only; a bucket that was listed exists."""
    return not Path(root.path).is_dir() if root.scheme == "file" else root.path != ""
