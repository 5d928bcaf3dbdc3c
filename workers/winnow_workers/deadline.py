"""How does a process that hangs come to its end? By a timer that needs no Python to run, set anew at every step."""

import faulthandler
import time

STDERR = 2  # where the stacks of a hanging process go, whatever sys.stderr is
SETTLE_S = 0.5  # setting the timer starts a thread; steps that follow each other faster need no new one


class HangTimer:
    """Ends this process, with the stacks of its threads written down, if no step follows within the time it was given.

    It works from a thread of C, so an operator that keeps the interpreter's lock to itself is ended too.
    """

    def __init__(self, stacks: int = STDERR) -> None:
        """`stacks` is the file descriptor that they are written to."""
        self._stacks = stacks
        self._set_at = float("-inf")
        self._allowed_s = 0.0

    def step(self, allowed_s: float) -> None:
        """From now on `allowed_s` seconds may pass until the next step."""
        now = time.monotonic()
        if allowed_s == self._allowed_s and now - self._set_at < SETTLE_S:
            return
        faulthandler.dump_traceback_later(allowed_s + SETTLE_S, exit=True, file=self._stacks)
        self._set_at, self._allowed_s = now, allowed_s

    def stop(self) -> None:
        """No step is waited for."""
        faulthandler.cancel_dump_traceback_later()
        self._set_at = float("-inf")
