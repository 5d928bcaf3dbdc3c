"""How is a store asked again? The shell around `backoff`: it holds the clock, the sleep and the dice."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from winnow_storage.backoff import Backoff, decide
from winnow_storage.errors import StoreUnavailable

Result = TypeVar("Result")
_TRIED = re.compile(r" \(tried \d+ times in \d+ s\)$")  # what a caller inside of this one had said


@dataclass(frozen=True, slots=True)
class Retrying:
    """`clock` counts seconds from anywhere; `jitter` draws from [0, 1)."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def call(self, once: Callable[[], Result], policy: Callable[[StoreUnavailable], Backoff]) -> Result:
        """What `once` returns; tried again while it raises StoreUnavailable and `policy` of that error allows.

        Raises:
            StoreUnavailable: the last one, with how often and how long it was tried.
        """
        begun_s, attempt = self.clock(), 1
        while True:
            try:
                return once()
            except StoreUnavailable as error:
                elapsed_s = self.clock() - begun_s
                decision = decide(policy(error), attempt=attempt, elapsed_s=elapsed_s, jitter=self.jitter())
                if decision.wait_s is None:
                    tried = f"tried {attempt} times in {elapsed_s:.0f} s"
                    said = _TRIED.sub("", error.message)
                    raise StoreUnavailable(f"{said} ({tried})", hint=error.hint) from error
            self.sleep(decision.wait_s)
            attempt += 1
