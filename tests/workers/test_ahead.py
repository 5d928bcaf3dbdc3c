"""Images come in order, many are on their way, few are decoded at once, and pixels that wait are bounded."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import closing

import numpy as np
import pytest

from winnow_workers import ahead
from winnow_workers.ahead import ReadAhead
from winnow_workers.decode import Decoded
from winnow_workers.fetch import Fetched, Item


def item(number: int, size_bytes: int = 10) -> Item:
    return Item(str(number), str(number), f"file:///{number}", "v", size_bytes, frozenset({"kind"}))


def image(one: Item, pixels: int = 4) -> Fetched:
    return Fetched(one, Decoded(np.zeros((1, pixels, 3), np.uint8), pixels, 1, "png"), None)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(ahead.REQUESTS) as threads:
        yield threads


class Watch:
    """A fetch that notes how many are at each stage, and waits there until it is let go."""

    def __init__(self, pixels: int = 4) -> None:
        self.lock = threading.Lock()
        self.pixels = pixels
        self.asked: list[str] = []
        self.fetching = self.decoding = self.most_decoding = 0
        self.bytes_are_there = threading.Event()
        self.is_decoded = threading.Event()

    def fetch(self, one: Item) -> Callable[[], Fetched]:
        with self.lock:
            self.asked.append(one.item_id)
            self.fetching += 1
        assert self.bytes_are_there.wait(30)
        return lambda: self.decode(one)

    def decode(self, one: Item) -> Fetched:
        with self.lock:
            self.decoding += 1
            self.most_decoding = max(self.most_decoding, self.decoding)
        assert self.is_decoded.wait(30)
        with self.lock:
            self.decoding -= 1
        return image(one, self.pixels)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("decoders", [0, 3])
def test_take__in_order_whoever_is_ready_first(decoders: int, pool: ThreadPoolExecutor) -> None:
    def fetch(one: Item) -> Callable[[], Fetched]:
        time.sleep(0.02 if int(one.item_id) % 3 == 0 else 0)
        return lambda: image(one)

    with closing(ReadAhead(fetch, [item(n) for n in range(100)], pool, decoders=decoders)) as read:
        taken = []
        while read:
            taken.append(read.take().item.item_id)
    assert taken == [str(n) for n in range(100)]


def test_requests__many_are_on_their_way_and_few_decode(pool: ThreadPoolExecutor) -> None:
    watch = Watch()
    with closing(ReadAhead(watch.fetch, [item(n) for n in range(100)], pool, decoders=2)) as read:
        until(lambda: watch.fetching == ahead.REQUESTS)
        watch.bytes_are_there.set()
        until(lambda: watch.decoding >= 2)
        watch.is_decoded.set()
        while read:
            read.take()
    assert watch.most_decoding <= 3  # two, and the one whose turn it is
    assert len(watch.asked) == 100


def test_requests__bounded_by_bytes_but_never_none(pool: ThreadPoolExecutor) -> None:
    watch = Watch()
    half = ahead.ENCODED_BYTES // 2
    sizes = [half, half, half, 3 * half, 1, 1]
    with closing(ReadAhead(watch.fetch, [item(n, size) for n, size in enumerate(sizes)], pool, decoders=2)) as read:
        until(lambda: watch.fetching == 2)
        time.sleep(0.05)
        assert watch.asked == ["0", "1"]
        watch.bytes_are_there.set()
        watch.is_decoded.set()
        taken = []
        while read:
            taken.append(read.take().item.item_id)
    assert taken == ["0", "1", "2", "3", "4", "5"]


def test_decoding__stops_while_enough_pixels_wait(monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor) -> None:
    monkeypatch.setattr(ahead, "PIXEL_BYTES", 250)
    watch = Watch(pixels=100)  # 300 bytes each
    watch.bytes_are_there.set()
    watch.is_decoded.set()
    with closing(ReadAhead(watch.fetch, [item(n) for n in range(20)], pool, decoders=1)) as read:
        waiting = read._turns  # what stands decoded is not to be seen from outside
        until(lambda: waiting._waiting_bytes >= 300 and watch.decoding == 0)
        seen = []
        while read:
            read.take()
            seen.append(waiting._waiting_bytes)
    assert max(seen) <= 2 * 300  # one that was let in below the bound, and the one whose turn it was
    assert len(seen) == 20


def test_take__without_decoders_whoever_takes_an_image_decodes_it(pool: ThreadPoolExecutor) -> None:
    threads: list[threading.Thread] = []

    def fetch(one: Item) -> Callable[[], Fetched]:
        def decode() -> Fetched:
            threads.append(threading.current_thread())
            return image(one)

        return decode

    with closing(ReadAhead(fetch, [item(n) for n in range(50)], pool, decoders=0)) as read:
        while read:
            read.take()
            assert threads == [threading.current_thread()]
            threads.clear()


def test_requests__without_decoders_a_thread_hands_several_over_together(pool: ThreadPoolExecutor) -> None:
    half = ahead.ENCODED_BYTES // 2
    sizes = [10] * 4 * ahead.GROUPS_LEAST + [half, half, half, 3 * half, 10, 10]
    items = [item(n, size) for n, size in enumerate(sizes)]
    with closing(ReadAhead(lambda one: lambda: image(one), items, pool, decoders=0)) as read:
        wait([group.done for group in read._waiting], 30)
        groups = [len(group.brought) for group in read._waiting]  # what came together is not to be seen outside
        taken = []
        while read:
            taken.append(read.take().item)
    assert set(groups[:-1]) == {5}  # enough groups that many are on their way
    assert taken == items


def test_take__every_image_of_a_group_that_is_waited_for_is_a_step(
    monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr(ahead, "LOOK_S", 0.005)
    items = [item(n) for n in range(ahead.GROUP * ahead.GROUPS_LEAST)]
    first, let_go = items[: ahead.GROUP], threading.Semaphore(0)
    steps: list[None] = []

    def fetch(one: Item) -> Callable[[], Fetched]:
        assert one not in first or let_go.acquire(timeout=30)
        return lambda: image(one)

    with closing(ReadAhead(fetch, items, pool, decoders=0)) as read, ThreadPoolExecutor(1) as taking:
        taken = taking.submit(read.take, lambda: steps.append(None))
        for brought in range(1, ahead.GROUP + 1):
            let_go.release()
            until(lambda brought=brought: len(steps) >= brought)
            time.sleep(0.05)
            assert len(steps) == brought  # none while nothing comes
        assert taken.result(30).item == items[0]


@pytest.mark.parametrize("decoders", [0, 1])
def test_take__raises_what_the_decoding_raises(decoders: int, pool: ThreadPoolExecutor) -> None:
    def fetch(one: Item) -> Callable[[], Fetched]:
        def decode() -> Fetched:
            raise RuntimeError(one.item_id)

        return decode

    with closing(ReadAhead(fetch, [item(0)], pool, decoders=decoders)) as read, pytest.raises(RuntimeError, match="0"):
        read.take()


def test_take__raises_what_the_fetch_raises(pool: ThreadPoolExecutor) -> None:
    def fetch(one: Item) -> Callable[[], Fetched]:
        raise OSError(one.item_id)

    with closing(ReadAhead(fetch, [item(0)], pool, decoders=1)) as read, pytest.raises(OSError, match="0"):
        read.take()


def test_close__nobody_decodes_any_more(pool: ThreadPoolExecutor) -> None:
    watch = Watch()
    read = ReadAhead(watch.fetch, [item(n) for n in range(10)], pool, decoders=1)
    futures = [group.done for group in read._waiting]
    watch.bytes_are_there.set()
    until(lambda: watch.decoding >= 1)
    time.sleep(0.05)
    read.close()
    watch.is_decoded.set()
    ends = [future.exception(30) for future in futures if not future.cancelled()]
    given_up = sum(isinstance(end, CancelledError) for end in ends) + sum(future.cancelled() for future in futures)
    assert given_up >= 8  # all but the first and the one decoder's
