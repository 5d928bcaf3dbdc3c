"""How fast may a corpus be read? At most so many requests and bytes in a second, on average and from the start."""

import threading
import time
from collections.abc import Callable

BURST_S = 1.0  # what was not used for so long may be used at once


class Throttle:
    """A token bucket for each limit (https://en.wikipedia.org/wiki/Token_bucket), shared by the threads of a process.

    A caller takes what it needs at once and waits until that is paid for, so that big objects are never starved.
    Limits are per second; None is no limit.
    """

    def __init__(
        self,
        requests_per_s: float | None,
        bytes_per_s: float | None,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rates = (requests_per_s, bytes_per_s)
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = [now(), now()]  # per limit: when everything that was taken so far is paid for

    def take(self, size_bytes: int) -> None:
        """Wait until one request for so many bytes may be sent."""
        wait_s = 0.0
        with self._lock:
            now = self._now()
            for limit, (rate, amount) in enumerate(zip(self._rates, (1, size_bytes), strict=True)):
                if rate is None:
                    continue
                start = max(self._paid_until[limit], now - BURST_S)
                wait_s = max(wait_s, start - now)
                self._paid_until[limit] = start + amount / rate
        if wait_s > 0:
            self._sleep(wait_s)
