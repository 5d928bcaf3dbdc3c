"""A process ends when one of its threads makes no step in time, whatever the others are allowed."""

import faulthandler
import subprocess
import sys
import threading
import time

import pytest

from winnow_workers.deadline import SETTLE_S, HangTimer

PROGRAM = """
import threading, time
from winnow_workers.deadline import HangTimer
timer = HangTimer()
timer.step(0.3)
commits = threading.Thread(target=lambda: (timer.step(60), time.sleep(60)), daemon=True)
commits.start()
time.sleep(60)
"""


def test_step__a_thread_that_may_take_long_gives_no_time_to_one_that_hangs() -> None:
    start = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=50)
    assert (ended.returncode, time.monotonic() - start < 30) == (1, True)
    assert ended.stderr.startswith("Timeout")


@pytest.fixture
def set_for_s(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What the timer was set for, in order; None where it was stopped."""
    seen: list[float | None] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda after_s, **_: seen.append(round(after_s)))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: seen.append(None))
    return seen


def test_step__fast_ones_set_no_timer(set_for_s: list[float | None]) -> None:
    timer = HangTimer()
    for _ in range(100):
        timer.step(300.0)
    assert set_for_s == [round(300 + SETTLE_S)]
    timer.step(100.0)  # less
    timer.step(900.0)
    assert set_for_s == [round(one + SETTLE_S) for one in (300, 100, 900)]


def test_rest__the_others_are_waited_for(set_for_s: list[float | None]) -> None:
    timer = HangTimer()

    def beside(*calls: tuple[str, float]) -> None:
        def make() -> None:
            for name, seconds in calls:
                getattr(timer, name)(*([seconds] if seconds else []))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()

    timer.step(900.0)
    beside(("step", 300.0), ("rest", 0.0))
    timer.rest()
    timer.rest()
    assert set_for_s == [round(900 + SETTLE_S), round(300 + SETTLE_S), round(900 + SETTLE_S), None, None]
