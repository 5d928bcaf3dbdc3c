"""How does a process that hangs come to its end? By a timer that needs no Python to run, set anew at every step."""

import faulthandler
import threading
import time

STDERR = 2  # where the stacks of a hanging process go, whatever sys.stderr is
SETTLE_S = 0.5  # setting the timer starts a thread; steps that follow each other faster need no new one


class HangTimer:
    """Ends this process, with the stacks of its threads written down, if a step does not follow within its time.

    Every thread that makes steps has a time of its own, and the first that passes counts: a thread that may take long
    gives none to the one beside it. The timer works from a thread of C, so an operator that keeps the interpreter's
    lock to itself is ended too.
    """

    def __init__(self, stacks: int = STDERR) -> None:
        """`stacks` is the file descriptor that they are written to."""
        self._stacks = stacks
        self._lock = threading.Lock()
        self._due_s: dict[int, float] = {}  # by thread: when its next step must have been made
        self._set_for_s: float | None = None

    def step(self, allowed_s: float) -> None:
        """From now on `allowed_s` seconds may pass until the next step of this thread."""
        with self._lock:
            self._due_s[threading.get_ident()] = time.monotonic() + allowed_s
            self._set()

    def rest(self) -> None:
        """No step of this thread is waited for, until it makes one."""
        with self._lock:
            self._due_s.pop(threading.get_ident(), None)
            self._set()

    def _set(self) -> None:
        if not self._due_s:
            faulthandler.cancel_dump_traceback_later()
            self._set_for_s = None
            return
        first_s = min(self._due_s.values())
        if self._set_for_s is not None and 0 <= first_s - self._set_for_s < SETTLE_S:
            return
        left_s = max(0.0, first_s - time.monotonic())
        faulthandler.dump_traceback_later(left_s + SETTLE_S, exit=True, file=self._stacks)
        self._set_for_s = first_s
