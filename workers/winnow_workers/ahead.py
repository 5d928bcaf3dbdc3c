"""Which images are fetched and decoded before it is their turn? Many on their way, few in memory, bounded by bytes.

Requests are cheap to have in flight and slow to answer, decoded pixels are large and quick to make: so many images are
asked for at once, a few are decoded at once, and no more are decoded while enough pixels wait. Memory is then the same
whatever the sizes of the images; only the one whose turn it is may always go on.

Where the models have one core, and other actors have the others, nobody decodes ahead: threads that take turns on a
core lost a third of it to each other (docs/benchmarks.md), and there is nothing to overlap.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from winnow_workers.fetch import Fetched, Item

REQUESTS = 32  # images on their way at once
ENCODED_BYTES = 64 * 2**20  # and what they hold, by the listing; a larger one is on its way alone
UNKNOWN_BYTES = ENCODED_BYTES // 4  # counted for what the listing knows no size of: rows and pages bring others along
PIXEL_BYTES = 64 * 2**20  # decoded and waiting; beyond that nothing more is decoded
EXTRA_DECODERS = 1  # beside one for each thread that the models have: they wait for images as often as for models

Decode = Callable[[], Fetched]
Fetch = Callable[[Item], Decode]  # brings the bytes


class ReadAhead:
    """The images of a shard in order, the next ones being fetched and decoded from the start."""

    def __init__(self, fetch: Fetch, items: Sequence[Item], *, decoders: int) -> None:
        """`fetch` is called in threads; at most `decoders` of them decode at once. 0: whoever takes an image does."""
        self._fetch = fetch
        self._items = items
        self._pool = ThreadPoolExecutor(REQUESTS, thread_name_prefix="winnow-fetch")
        self._decoders = decoders
        self._turns = _Turns(decoders)
        self._waiting: deque[Future[tuple[Item, Decode]]] = deque()
        self._asked = 0
        self._asked_bytes = 0
        self._fill()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self) -> Fetched:
        """The next image, when it is there."""
        item, decode = self._waiting.popleft().result()
        self._asked_bytes -= _listed_bytes(item)
        self._fill()
        fetched = decode()
        if self._decoders:
            self._turns.taken(_pixel_bytes(fetched))
        return fetched

    def close(self) -> None:
        """Fetch no more."""
        self._turns.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._waiting.clear()

    def _fill(self) -> None:
        while self._asked < len(self._items) and len(self._waiting) < REQUESTS:
            item = self._items[self._asked]
            if self._waiting and self._asked_bytes + _listed_bytes(item) > ENCODED_BYTES:
                return
            self._waiting.append(self._pool.submit(self._get, self._asked))
            self._asked += 1
            self._asked_bytes += _listed_bytes(item)

    def _get(self, number: int) -> tuple[Item, Decode]:
        item = self._items[number]
        decode = self._fetch(item)
        if not self._decoders:
            return item, decode
        self._turns.begin(number)
        pixel_bytes = 0
        try:
            fetched = decode()
            pixel_bytes = _pixel_bytes(fetched)
        finally:
            self._turns.end(pixel_bytes)
        return item, lambda: fetched


class _Turns:
    """Who may decode: as many as there are decoders while few pixels wait, and always whoever is next to be taken.

    Who waits is woken by name, in order: thirty threads that all wake to see that it is not their turn took a tenth of
    a core from decoding.
    """

    def __init__(self, decoders: int) -> None:
        self._decoders = decoders
        self._lock = threading.Lock()
        self._queue: list[int] = []  # a heap of the numbers that wait
        self._turns: dict[int, threading.Event] = {}
        self._decoding = 0
        self._waiting_bytes = 0
        self._next = 0
        self._closed = False

    def begin(self, number: int) -> None:
        """Wait until this image may be decoded.

        Raises:
            CancelledError: nobody waits for it any more.
        """
        turn = threading.Event()
        with self._lock:
            if self._closed:
                raise CancelledError
            heapq.heappush(self._queue, number)
            self._turns[number] = turn
            self._call()
        turn.wait()
        if self._closed:
            raise CancelledError

    def end(self, pixel_bytes: int) -> None:
        """One is decoded, and its pixels wait."""
        with self._lock:
            self._decoding -= 1
            self._waiting_bytes += pixel_bytes
            self._call()

    def taken(self, pixel_bytes: int) -> None:
        """Pixels have left; the next image is the one that may always go on."""
        with self._lock:
            self._next += 1
            self._waiting_bytes -= pixel_bytes
            self._call()

    def close(self) -> None:
        """Let nobody wait."""
        with self._lock:
            self._closed = True
            for turn in self._turns.values():
                turn.set()

    def _call(self) -> None:
        """Whoever may decode now is told so; the lock is held. Nobody waits whose image was taken before."""
        while self._queue and self._may(self._queue[0]):
            self._decoding += 1
            self._turns.pop(heapq.heappop(self._queue)).set()

    def _may(self, number: int) -> bool:
        is_free = self._decoding < self._decoders and self._waiting_bytes < PIXEL_BYTES
        return is_free or number == self._next


def _listed_bytes(item: Item) -> int:
    return UNKNOWN_BYTES if item.bytes is None else item.bytes


def _pixel_bytes(fetched: Fetched) -> int:
    return 0 if fetched.decoded is None else fetched.decoded.pixels.nbytes
