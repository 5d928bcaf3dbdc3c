"""Which shards were being worked on when an earlier driver ended? Attempts, noted in the ledger as they start.

Before they do, or within a second where they follow each other fast: the first of a driver always before, so that a
crash loop is seen.
"""

import time
from collections.abc import Callable, Collection
from typing import Protocol

from winnow_jobs.events import Listener, Note
from winnow_jobs.retry import DEATHS_BEFORE_CARE, Ending, ShardPast
from winnow_storage.errors import LedgerError
from winnow_storage.ledger import Ledger

GROUP_S = 0.1  # attempts that follow each other faster are noted together: a transaction costs more than a shard
PAUSE_S = 60.0  # after a failure the ledger is left alone so long: waiting for it at every shard would cost the run


class Journal(Protocol):
    """Where attempts at shards are written down as they start, so that the next driver knows of them."""

    def started(self, shards: Collection[int]) -> None:
        """Attempts begin."""
        ...

    def ended(self, shard: int) -> None:
        """The shard is committed."""
        ...

    def flush(self) -> None:
        """What was not written down yet is."""
        ...


class LedgerJournal:
    """The attempts of one run. A ledger that fails stops nobody's work: it is said once, and the attempts are lost."""

    def __init__(
        self,
        ledger: Ledger,
        output: str,
        run_id: str,
        listener: Listener,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._output = output
        self._run_id = run_id
        self._listener = listener
        self._begun: set[int] = set()
        self._ended: set[int] = set()
        self._clock = clock
        self._noted_at_s = float("-inf")
        self._failed = False
        self._resting_until_s = float("-inf")

    def past(self) -> dict[int, ShardPast]:
        """What earlier drivers began and did not see end; enough of it makes a shard one for care, never a stop.

        Raises:
            LedgerError: the ledger fails.
        """
        pasts: dict[int, ShardPast] = {}
        for shard, attempts in self._ledger.open_attempts(self._output, self._run_id).items():
            past = ShardPast()
            for _ in range(min(attempts, DEATHS_BEFORE_CARE)):
                past = past.after(Ending.UNFINISHED)
            pasts[shard] = past
        return pasts

    def started(self, shards: Collection[int]) -> None:
        """Attempts begin: noted before they do or, within GROUP_S of others, with the next ones or by `flush`."""
        self._begun.update(shards)
        if self._clock() - self._noted_at_s >= GROUP_S:
            self.flush()

    def flush(self) -> None:
        """Note what began and, in the same transaction, what ended since."""
        now = self._clock()
        if not self._begun or now < self._resting_until_s:
            return
        self._noted_at_s = now
        try:
            self._ledger.begin_attempts(self._output, self._run_id, self._begun, ended=self._ended)
            self._begun.clear()
            self._ended.clear()
        except LedgerError as error:
            if not self._failed:
                self._listener(
                    Note(f"attempts are not noted any more, the work goes on: {error.message}", warning=True)
                )
            self._failed = True
            self._resting_until_s = self._clock() + PAUSE_S

    def ended(self, shard: int) -> None:
        """The shard is committed, or its attempt ended by nothing that it did."""
        self._begun.discard(shard)
        self._ended.add(shard)

    def close(self) -> None:
        """The driver ends in order: what ended is noted."""
        self.flush()
        try:
            self._ledger.end_attempts(self._output, self._run_id, self._ended)
        except LedgerError as error:
            self._listener(Note(f"attempts could not be noted: {error.message}", warning=True))
