"""Attempts at shards: noted before they start, seen by the next driver, no hindrance when the ledger fails."""

from pathlib import Path

import pytest

from winnow_jobs.attempts import GROUP_S, PAUSE_S, LedgerJournal
from winnow_jobs.events import Event, Note
from winnow_jobs.retry import DEATHS_BEFORE_STOP, Action, ShardPast, next_attempt
from winnow_storage.errors import LedgerError
from winnow_storage.ledger import Ledger, open_ledger


def journal_of(ledger: Ledger, heard: list[Event], run_id: str = "0001") -> LedgerJournal:
    return LedgerJournal(ledger, "file:///out", run_id, heard.append)


def test_past__is_what_earlier_drivers_began_and_did_not_see_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    with open_ledger(url) as ledger:
        first = journal_of(ledger, [])
        first.started([0, 1, 2])
        first.ended(0)
        first.started([3])
        first.flush()  # notes in passing that 0 is over
        journal_of(ledger, [], "0002").started([1])
    with open_ledger(url) as ledger:
        second = journal_of(ledger, [])
        assert second.past() == {1: ShardPast(1), 2: ShardPast(1), 3: ShardPast(1)}
        second.started([1])
    with open_ledger(url) as ledger:
        third = journal_of(ledger, [])
        assert third.past()[1] == ShardPast(2)
        for shard in (1, 2, 3):
            third.ended(shard)
        third.close()
        assert third.past() == {}
        assert journal_of(ledger, [], "0002").past() == {1: ShardPast(1)}


def test_started__what_follows_fast_is_noted_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    noted: list[set[int]] = []
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        note = ledger.begin_attempts

        def begin_attempts(output: str, run_id: str, shards: set[int], *, ended: set[int]) -> None:
            noted.append(set(shards))
            note(output, run_id, shards, ended=ended)

        monkeypatch.setattr(ledger, "begin_attempts", begin_attempts)
        journal = LedgerJournal(ledger, "file:///out", "0001", lambda _: None, clock=lambda: now[0])
        journal.started([0, 1])  # before it begins
        for shard in range(2, 9):
            journal.started([shard])
            journal.ended(shard - 1)
        assert noted == [{0, 1}]
        now[0] += GROUP_S
        journal.started([9])
        assert noted == [{0, 1}, {8, 9}]  # the others are over
        journal.started([0])
        journal.ended(0)
        journal.started([0])  # after it was cut off
        journal.flush()
        assert ledger.open_attempts("file:///out", "0001") == {0: 1, 8: 1, 9: 1}


def test_started__a_ledger_that_fails_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    asked = []
    now = [0.0]
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        journal = LedgerJournal(ledger, "file:///out", "0001", heard.append, clock=lambda: now[0])

        def fail(*_: object, **__: object) -> None:
            asked.append(now[0])
            raise LedgerError("the disk went away")

        monkeypatch.setattr(ledger, "begin_attempts", fail)
        for shard in range(9):
            now[0] = shard * PAUSE_S / 4
            journal.started([shard])
            journal.ended(shard)
    assert asked == [0.0, PAUSE_S, 2 * PAUSE_S]  # not at every shard: each time may cost the wait for a lock
    assert heard == [Note("attempts are not noted any more, the work goes on: the disk went away", warning=True)]


def test_past__many_interrupted_attempts_ask_for_care_and_stop_nothing(tmp_path: Path) -> None:
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        for _ in range(3 * DEATHS_BEFORE_STOP):
            journal_of(ledger, []).started([4])
        assert next_attempt(journal_of(ledger, []).past()[4]) is Action.CAREFULLY


def test_close__a_ledger_that_fails_stops_no_run_that_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        journal = journal_of(ledger, heard)

        def fail(*_: object, **__: object) -> None:
            raise LedgerError("the disk went away")

        monkeypatch.setattr(ledger, "end_attempts", fail)
        journal.close()
    assert heard == [Note("attempts could not be noted: the disk went away", warning=True)]
