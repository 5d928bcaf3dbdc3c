"""How does one reader keep many small requests in flight? Answers in order, a bounded number of them ahead."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def mapped_ahead(pool: Executor, function: Callable[[T], R], values: Iterable[T], *, ahead: int) -> Iterator[R]:
    """`function` of each of `values`, in their order; the first `ahead` are begun at once, then one for each answer.

    What has not begun is cancelled when the reader stops early.
    """
    upcoming = iter(values)
    waiting = deque(pool.submit(function, value) for value in itertools.islice(upcoming, ahead))
    return _answers(waiting, (pool.submit(function, value) for value in upcoming))


def _answers(waiting: deque[Future[R]], begun: Iterator[Future[R]]) -> Iterator[R]:
    try:
        while waiting:
            answer = waiting.popleft().result()
            waiting.extend(itertools.islice(begun, 1))
            yield answer
    finally:
        for future in waiting:
            future.cancel()
