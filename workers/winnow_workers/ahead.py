"""Which images are fetched and decoded before it is their turn? Many on their way, few in memory, bounded by bytes.

Requests are cheap to have in flight and slow to answer, decoded pixels are large and quick to make: so many images are
asked for at once, a few are decoded at once, and no more are decoded while enough pixels wait. Memory is then the same
whatever the sizes of the images; only the one whose turn it is may always go on.

Where the models have one core, and other actors have the others, nobody decodes ahead: threads that take turns on a
core lost a third of it to each other (docs/benchmarks.md), and there is nothing to overlap. Every image that a thread
hands over costs that core something too, so there a thread brings several before it hands them over together.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from winnow_workers.fetch import Fetched, Item

REQUESTS = 32  # images on their way at once
GROUP = 8  # images that a thread hands over together, at most, where nobody decodes ahead
GROUPS_LEAST = 16  # of a shard; the next shard's are on their way beside them
LOOK_S = 1.0  # how often whoever waits for a group looks whether its thread goes on
ENCODED_BYTES = 64 * 2**20  # and what they hold, by the listing; a larger one is on its way alone
UNKNOWN_BYTES = ENCODED_BYTES // 4  # counted for what the listing knows no size of: rows and pages bring others along
PIXEL_BYTES = 64 * 2**20  # decoded and waiting; beyond that nothing more is decoded
EXTRA_DECODERS = 1  # beside one for each thread that the models have: they wait for images as often as for models

Decode = Callable[[], Fetched]
Fetch = Callable[[Item], Decode]  # brings the bytes


@dataclass(frozen=True, slots=True)
class _Group:
    """Images that a thread hands over together; `brought` grows until `done`."""

    brought: list[Decode]
    done: Future[None]


class ReadAhead:
    """The images of a shard in order, the next ones being fetched and decoded from the start."""

    def __init__(self, fetch: Fetch, items: Sequence[Item], pool: ThreadPoolExecutor, *, decoders: int) -> None:
        """`fetch` is called in `pool`; at most `decoders` of its threads decode at once. 0: whoever takes an image.

        The pool outlives this, and should have `REQUESTS` threads for each that is open.
        """
        self._fetch = fetch
        self._items = items
        self._pool = pool
        self._decoders = decoders
        # Of a small shard small groups, so that many are on their way; where a thread waits for its turn to decode,
        # what it would have left to bring could be what is waited for.
        self._group = 1 if decoders else min(GROUP, -(-len(items) // GROUPS_LEAST))
        self._turns = _Turns(decoders)
        self._waiting: deque[_Group] = deque()
        self._here: deque[Decode] = deque()  # of the next images, in order
        self._asked = 0
        self._taken = 0
        self._asked_bytes = 0
        self._fill()

    def __bool__(self) -> bool:
        return self._taken < len(self._items)

    def take(self, step: Callable[[], None] = lambda: None) -> Fetched:
        """The next image, when it is there; `step` is called as the images come that it has to wait for."""
        if not self._here:
            self._here.extend(self._whole(self._waiting.popleft(), step))
        decode = self._here.popleft()
        self._asked_bytes -= _listed_bytes(self._items[self._taken])
        self._taken += 1
        if not self._here:
            self._fill()
        fetched = decode()
        if self._decoders:
            self._turns.taken(_pixel_bytes(fetched))
        return fetched

    def close(self) -> None:
        """Fetch no more."""
        self._turns.close()
        for group in self._waiting:
            group.done.cancel()
        self._waiting.clear()
        self._here.clear()
        self._taken = len(self._items)

    def _whole(self, group: _Group, step: Callable[[], None]) -> list[Decode]:
        """All of a group. Each of its images may be as slow as one alone, so each that is brought is a step.

        It is looked for only now and then: being woken for each would cost what groups are there to spare.
        """
        seen = 0
        while not group.done.done():
            wait((group.done,), timeout=LOOK_S)
            if len(group.brought) > seen:
                seen = len(group.brought)
                step()
        group.done.result()
        return group.brought

    def _fill(self) -> None:
        while self._asked < len(self._items) and len(self._waiting) < REQUESTS:
            first = self._asked
            while self._asked < min(first + self._group, len(self._items)):
                more_bytes = _listed_bytes(self._items[self._asked])
                is_first = self._asked == first
                if self._asked_bytes + more_bytes > ENCODED_BYTES and (self._waiting or not is_first):
                    break
                self._asked += 1
                self._asked_bytes += more_bytes
            if self._asked == first:
                return
            brought: list[Decode] = []
            done = self._pool.submit(self._get, range(first, self._asked), brought)
            self._waiting.append(_Group(brought, done))

    def _get(self, numbers: range, brought: list[Decode]) -> None:
        for number in numbers:  # one by one: whoever waits looks how far it is
            one = self._decoded(number) if self._decoders else self._fetch(self._items[number])
            brought.append(one)

    def _decoded(self, number: int) -> Decode:
        decode = self._fetch(self._items[number])
        self._turns.begin(number)
        pixel_bytes = 0
        try:
            fetched = decode()
            pixel_bytes = _pixel_bytes(fetched)
        finally:
            self._turns.end(pixel_bytes)
        return lambda: fetched


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
