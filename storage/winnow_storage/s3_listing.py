"""How is a bucket listed faster than page after page? In parts at the same time, given out in the order of the keys."""

import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from winnow_storage.blobs import Announce, unannounced
from winnow_storage.found import FOUND
from winnow_storage.s3_cuts import Level, find_cuts
from winnow_storage.s3_pages import Page, S3Pages
from winnow_storage.uri import Location

THREADS = 16  # a page takes a store 50 to 200 ms and this process 5: what one connection leaves idle
FIRST_CUT_PAGES = 24  # a corpus of fewer pages is listed by one thread: a search for cuts takes some requests itself
NEXT_CUT_PAGES = 32  # a part that is longer is cut again while threads are idle
MEMORY_PAGES = 32  # of a part; while its turn has not come, more of them wait in temporary files
AHEAD_ROWS = (
    10_000_000  # listed and not yet taken, about 1.5 GB of temporary files; then only the foremost part goes on
)


class Pages(Level, Protocol):
    """What pages are taken from; S3Pages in earnest."""

    def after(self, key: str) -> Page:
        """The objects behind `key`."""
        ...


def list_prefix(root: Location, announce: Announce = unannounced) -> Iterator[pa.RecordBatch]:
    """What lies below `root`, as batches of the schema FOUND, in the byte order of the keys.

    `announce` is told of every request before it is sent.

    Raises:
        StoreError: the store refuses or cannot answer.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-listing-") as folder:
        listing = ParallelListing(S3Pages(root, announce=announce), Path(folder))
        try:
            yield from listing.batches()
        finally:
            listing.stop()


@dataclass(slots=True, eq=False)
class _Part:
    """The keys behind `after` up to `end`, as far as they are listed."""

    after: str
    end: str | None
    claimed: bool = False
    done: bool = False
    listed_pages: int = 0
    cut_at_pages: int = NEXT_CUT_PAGES
    files: deque[Path] = field(default_factory=deque)  # come before `batches`
    batches: deque[pa.RecordBatch] = field(default_factory=deque)


class ParallelListing:
    """Threads that list the parts from the foremost one on, and one reader who takes them in order.

    No deadlock: parts are claimed in order, a thread that ends a part claims the next one, and the foremost part waits
    for nobody but the reader. So the part that the reader waits for always has a thread that goes on.
    """

    def __init__(self, pages: Pages, folder: Path) -> None:
        self._pages = pages
        self._folder = folder
        self._changed = threading.Condition()
        self._parts = deque([_Part("", None, cut_at_pages=FIRST_CUT_PAGES)])  # the foremost one first
        self._pool = ThreadPoolExecutor(THREADS, "list")
        self._threads = 0
        self._ahead_rows = 0
        self._stopped = False
        self._failure: BaseException | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Every part's batches in order. Raises what a thread raised."""
        with self._changed:
            self._start_threads()
        while self._parts:
            for batch in self._taken(self._parts[0]):
                with self._changed:
                    self._ahead_rows -= batch.num_rows
                    self._changed.notify_all()
                yield batch
            with self._changed:
                self._parts.popleft()
                self._changed.notify_all()

    def stop(self) -> None:
        """End the threads; a request under way is waited for."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._pool.shutdown()

    def _taken(self, part: _Part) -> Iterator[pa.RecordBatch]:
        while True:
            with self._changed:
                while not (part.files or part.batches or part.done or self._failure):
                    self._changed.wait()
                if self._failure is not None:
                    raise self._failure
                if not part.files and not part.batches:
                    return
                file = part.files.popleft() if part.files else None
                ready = list(part.batches) if file is None else []
                if file is None:
                    part.batches.clear()
            yield from ready if file is None else _read_back(file)

    def _start_threads(self) -> None:
        unclaimed = sum(not part.claimed for part in self._parts)
        for _ in range(min(unclaimed, THREADS - self._threads)):
            self._threads += 1
            self._pool.submit(self._work).add_done_callback(self._ended)

    def _ended(self, thread: "Future[None]") -> None:
        with self._changed:
            self._failure = self._failure or thread.exception()
            self._changed.notify_all()

    def _work(self) -> None:
        while (part := self._claimed()) is not None:
            self._list(part)

    def _claimed(self) -> _Part | None:
        with self._changed:
            part = None if self._stopped else next((part for part in self._parts if not part.claimed), None)
            if part is None:
                self._threads -= 1
            else:
                part.claimed = True
            return part

    def _list(self, part: _Part) -> None:
        after = part.after
        while not self._stopped:
            page = self._pages.after(after)
            part.listed_pages += 1
            ended = not page.more or (part.end is not None and page.last >= part.end)
            self._give(part, _up_to(page, part.end), ended=ended)
            if ended:
                if part.listed_pages == 1:
                    self._join_next()
                return
            after = page.last
            if part.listed_pages >= part.cut_at_pages and self._threads < THREADS:
                self._cut(part, after)

    def _give(self, part: _Part, batch: pa.RecordBatch, *, ended: bool) -> None:
        """Hand a batch to the reader, who may be far behind: then into a file, or wait."""
        with self._changed:
            while not self._stopped and self._is_full(part):
                self._changed.wait()
            part.batches.append(batch)
            self._ahead_rows += batch.num_rows
            part.done = ended
            self._changed.notify_all()
            if part is self._parts[0] or len(part.batches) < MEMORY_PAGES:
                return
            part.files.append(_written(self._folder / uuid.uuid4().hex, part.batches))
            part.batches.clear()

    def _is_full(self, part: _Part) -> bool:
        if part is self._parts[0]:  # the reader takes from it all the time
            return len(part.batches) >= MEMORY_PAGES
        return self._ahead_rows > AHEAD_ROWS

    def _join_next(self) -> None:
        """A part of one page says that parts are too small, every one of them costs a request: make one of two."""
        with self._changed:
            waiting = [part for part in self._parts if not part.claimed]
            for one, other in pairwise(waiting):
                if one.end == other.after:
                    one.end = other.end
                    self._parts.remove(other)
                    return

    def _cut(self, part: _Part, after: str) -> None:
        cuts = find_cuts(self._pages, after=after, end=part.end)
        part.cut_at_pages = 2 * part.listed_pages if not cuts else part.listed_pages + NEXT_CUT_PAGES
        if not cuts:
            return
        with self._changed:
            if self._stopped:
                return
            at = self._parts.index(part) + 1
            for start, end in reversed(list(zip(cuts, [*cuts[1:], part.end], strict=True))):
                self._parts.insert(at, _Part(start, end))
            part.end = cuts[0]
            self._start_threads()


def _up_to(page: Page, end: str | None) -> pa.RecordBatch:
    if end is None or page.last <= end:
        return page.found
    keys = page.found.column("key").to_pylist()
    return page.found.slice(0, sum(key <= end for key in keys))


def _written(file: Path, batches: deque[pa.RecordBatch]) -> Path:
    with pa.ipc.new_stream(str(file), FOUND) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return file


def _read_back(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(file)) as opened, pa.ipc.open_stream(opened) as reader:
        yield from reader
    file.unlink()
