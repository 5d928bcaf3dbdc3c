"""Requests and bytes in a second: never more than allowed, and nothing waits that need not."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow_workers.throttle import BURST_S, Throttle


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.s = 1000.0

    def now(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.s += seconds


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=60),
    st.floats(1, 1000) | st.none(),
    st.floats(1e4, 1e6) | st.none(),
)
def test_take__never_more_than_the_limit_beyond_one_burst(
    sizes: list[int], requests: float | None, bytes_per_s: float | None
) -> None:
    clock = Clock()
    throttle = Throttle(requests, bytes_per_s, now=clock.now, sleep=clock.sleep)
    started = clock.s
    sent = []
    for size in sizes:
        throttle.take(size)
        sent.append(clock.s)
    for number, at in enumerate(sent):
        passed = at - started
        if requests is not None:
            assert number <= requests * (passed + BURST_S) + 1e-6
        if bytes_per_s is not None:
            assert sum(sizes[:number]) <= bytes_per_s * (passed + BURST_S) + 1e-3
    assert all(one <= other for one, other in pairwise(sent))
    if requests is None and bytes_per_s is None:
        assert clock.s == started


def test_take__a_steady_reader_gets_the_whole_rate() -> None:
    clock = Clock()
    throttle = Throttle(10, None, now=clock.now, sleep=clock.sleep)
    for _ in range(1001):
        throttle.take(5)
    assert clock.s - 1000.0 == pytest.approx(100.0, abs=0.2)


def test_take__idle_time_is_not_saved_up() -> None:
    clock = Clock()
    throttle = Throttle(10, None, now=clock.now, sleep=clock.sleep)
    clock.s += 3600
    at = clock.s
    for _ in range(101):
        throttle.take(5)
    assert clock.s - at == pytest.approx(9.0, abs=0.2)
