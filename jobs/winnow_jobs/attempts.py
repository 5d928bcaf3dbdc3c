"""Which shards were being worked on when an earlier driver ended? Attempts, noted in the ledger before they start."""

from winnow_jobs.events import Listener, Note
from winnow_jobs.retry import Ending, ShardPast
from winnow_storage.errors import LedgerError
from winnow_storage.ledger import Ledger


class LedgerJournal:
    """The attempts of one run. A ledger that fails stops nobody's work: it is said once, and the attempts are lost."""

    def __init__(self, ledger: Ledger, output: str, run_id: str, listener: Listener) -> None:
        self._ledger = ledger
        self._output = output
        self._run_id = run_id
        self._listener = listener
        self._ended: set[int] = set()
        self._failed = False

    def past(self) -> dict[int, ShardPast]:
        """What earlier drivers began and did not see end.

        Raises:
            LedgerError: the ledger fails.
        """
        pasts: dict[int, ShardPast] = {}
        for shard, attempts in self._ledger.open_attempts(self._output, self._run_id).items():
            past = ShardPast()
            for _ in range(attempts):
                past = past.after(Ending.UNFINISHED)
            pasts[shard] = past
        return pasts

    def started(self, shard: int) -> None:
        """An attempt begins; what ended since the last one is noted in the same transaction."""
        try:
            self._ledger.begin_attempt(self._output, self._run_id, shard, ended=self._ended)
            self._ended.clear()
        except LedgerError as error:
            if not self._failed:
                self._listener(
                    Note(f"attempts are not noted any more, the work goes on: {error.message}", warning=True)
                )
            self._failed = True

    def ended(self, shard: int) -> None:
        """The shard is committed."""
        self._ended.add(shard)

    def close(self) -> None:
        """All shards are committed."""
        self._ledger.end_attempts(self._output, self._run_id)
