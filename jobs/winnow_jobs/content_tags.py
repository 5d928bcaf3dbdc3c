"""Which of many items seem to be of the same bytes? A tag for each: of an S3 object its ETag, of a file its sha256.

Tags are 64-bit hashes of that and of the size: what a plan needs in memory is a number for every item. Of files as
little is read as can tell them apart: nothing where the size does, both ends where these do.
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow_jobs.plan import Mask
from winnow_storage.blobs import locate, open_store
from winnow_storage.errors import StoreError
from winnow_storage.listing import ABSENT
from winnow_workers.throttle import Throttle

ETAG, DIGEST, ENDS = "version", "content_sha256", "ends"  # the first two as the columns of a row are called
READ_THREADS = 16
BLOCK_BYTES = 8 << 20
END_BYTES = 4096
NO_TAG = 0

Hashes = NDArray[np.uint64]
Batches = Callable[[], Iterable[pa.RecordBatch]]  # items (their uri, version and bytes), from the first one again


def tag(kind: str, size_bytes: int, value: str | None) -> int:
    """The tag of a size and an ETag or digest; NO_TAG if there is none."""
    if value is None:
        return NO_TAG
    return int.from_bytes(hashlib.blake2b(f"{kind}\0{size_bytes}\0{value}".encode(), digest_size=8).digest()) or 1


def tags_of(items: Batches, throttle: Throttle, *, everyones: bool) -> Hashes:
    """The tag of every item; unless `everyones` is wanted, NO_TAG for those that no other item is like.

    Items of no known size, empty ones and what is neither on S3 nor in a folder have NO_TAG.
    """
    sizes = np.concatenate([np.empty(0, np.int64), *(sizes_of(batch.column("bytes")) for batch in items())])
    if everyones:
        return _tags(items(), sizes > 0, throttle, of_file=DIGEST)
    tags = _tags(items(), (sizes > 0) & _has_company(sizes), throttle, of_file=ENDS)
    return _tags(items(), (tags != NO_TAG) & _has_company(tags), throttle, of_file=DIGEST)


def sizes_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Sizes in bytes, -1 where they are not known."""
    sizes: NDArray[np.int64] = pc.fill_null(column, -1).to_numpy(zero_copy_only=False)
    return sizes


def _has_company(values: NDArray[np.generic]) -> Mask:
    """Which of `values` are there more than once."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    several: Mask = counts[at] > 1
    return several


def _tags(items: Iterable[pa.RecordBatch], wanted: Mask, throttle: Throttle, *, of_file: str) -> Hashes:
    tags = np.full(len(wanted), NO_TAG, np.uint64)

    def look(item: tuple[str, str, int]) -> int:
        uri, version, size_bytes = item
        if version == ABSENT:
            return NO_TAG
        if uri.startswith("s3://"):
            return tag(ETAG, size_bytes, version)
        return tag(of_file, size_bytes, _digest(item, throttle, of_file)) if uri.startswith("file://") else NO_TAG

    start = 0
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for batch in items:
            stop = start + batch.num_rows
            some = batch.select(["uri", "version", "bytes"]).filter(pa.array(wanted[start:stop]))
            reads = pc.any(pc.starts_with(some.column("uri"), "file://")).as_py()
            rows = zip(*(column.to_pylist() for column in some.columns), strict=True)
            found = np.fromiter((pool.map if reads else map)(look, rows), np.uint64, some.num_rows)
            tags[start:stop][wanted[start:stop]] = found
            start = stop
    return tags


def _digest(file: tuple[str, str, int], throttle: Throttle, kind: str) -> str | None:
    """The sha256 of a file, or of its ends, in hex; None if it cannot be read, of which its fetching will tell."""
    uri, _, size_bytes = file
    root, key = locate(uri)
    store, digest = open_store(root), hashlib.sha256()
    starts = range(0, size_bytes, BLOCK_BYTES) if kind == DIGEST else (0, max(0, size_bytes - END_BYTES))
    try:
        for start in starts:
            length = min(BLOCK_BYTES if kind == DIGEST else END_BYTES, size_bytes - start)
            throttle.take(length)
            digest.update(store.get_range(key, start, length))
    except StoreError:
        return None
    return digest.hexdigest()
