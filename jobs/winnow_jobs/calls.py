"""Which calls of actors are under way, and which of them are answered? However many there are, a look costs nothing.

Ray says it when a call is answered. To wait for the first of a thousand references, as `ray.wait` does, costs its
caller as much as there are references: 1.4 ms of CPU, three times a bare call.
"""

import queue
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from typing import Any

from winnow_jobs.crew import Errand, Worker


class Calls:
    """One errand for each call."""

    def __init__(self) -> None:
        self._errands: dict[Future[Any], Errand] = {}
        self._answered: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()

    @property
    def errands(self) -> Collection[Errand]:
        """Those whose calls are under way."""
        return self._errands.values()

    @property
    def has_shards(self) -> bool:
        """Whether one is under way, or kept for an actor's answer; who only waits for a place has none."""
        return any(errand.shard is not None or errand.suspect is not None for errand in self._errands.values())

    def begin(self, reference: Any, errand: Errand) -> None:
        """A call was made: it is under way until its answer is taken or forgotten."""
        call: Future[Any] = reference.future()
        self._errands[call] = errand
        call.add_done_callback(self._answered.put)

    def forget(self, worker: Worker) -> None:
        """Whatever it answers is of no interest any more."""
        self._errands = {call: errand for call, errand in self._errands.items() if errand.worker is not worker}

    def answered(self, timeout_s: float) -> Iterator[tuple[Future[Any], Errand]]:
        """All that are answered; the first is waited for. What is forgotten before its turn does not come."""
        try:
            call = self._answered.get(timeout=timeout_s)
            while True:
                errand = self._errands.pop(call, None)
                if errand is not None:
                    yield call, errand
                call = self._answered.get_nowait()
        except queue.Empty:
            return
