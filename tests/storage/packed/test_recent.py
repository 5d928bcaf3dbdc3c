"""Is a shared value made once, and no more kept than is allowed?"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from winnow_storage.packed.recent import Recent


def test_recent__made_once_however_many_ask() -> None:
    recent = Recent[str, int](10)
    asked, gate, made = threading.Barrier(8), threading.Event(), []

    def make() -> int:
        assert gate.wait(60)
        made.append(1)
        return 7

    def ask() -> int:
        asked.wait(60)
        return recent.get("a", 1, make)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        gate.set()
        assert [answer.result() for answer in answers] == [7] * 8
    assert made == [1]


def test_recent__the_least_recently_used_goes_first_and_the_newest_stays() -> None:
    recent = Recent[str, str](10)
    made: list[str] = []

    def get(key: str, weight: int) -> str:
        return recent.get(key, weight, lambda: made.append(key) or key)

    for key in ("a", "b", "a"):
        get(key, 4)
    get("c", 4)  # b goes
    get("a", 4)
    assert made == ["a", "b", "c"]
    get("huge", 100)  # everything else goes
    get("huge", 100)
    get("a", 4)
    assert made == ["a", "b", "c", "huge", "a"]


def test_recent__what_failed_is_made_again() -> None:
    recent = Recent[str, int](1)

    def fail() -> int:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        recent.get("a", 1, fail)
    assert recent.get("a", 1, lambda: 3) == 3
