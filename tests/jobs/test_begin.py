"""Which run is worked on, and what is put for it: over a folder, by one driver and by two at once."""

import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from tests.jobs.histories import make_corpus, output_runs, spec, task
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.plan import Selection
from winnow_jobs.runs import PlanDocument
from winnow_storage.errors import StoreError, UsageError

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def test_begin_or_go_on__nothing_is_put_while_nothing_is_due(tmp_path: Path) -> None:
    make_corpus(tmp_path, 3)
    runs, resolved = output_runs(tmp_path), spec(tmp_path, task("kind"), task("text"))
    plan, standing = begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW)
    assert plan is not None
    assert not standing
    assert sorted(info.key for info in runs.store.walk()) == sorted(
        ["runs/0001/plan.json", *(part.key for part in (*plan.snapshot, *plan.work))]
    )
    assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (plan, True)
    (tmp_path / "corpus").rename(tmp_path / "away")
    (tmp_path / "corpus").mkdir()
    runs.close("0001", {"run_id": "0001", "state": "done"})
    assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (None, False)
    assert runs.store.folders("runs/") == ["0001"]


def test_begin_or_go_on__an_open_run_with_another_since_is_refused(tmp_path: Path) -> None:
    make_corpus(tmp_path, 3)
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW)
    with pytest.raises(UsageError, match=r"selection.since: \(nothing\) -> 0001"):
        begin_or_go_on(runs, resolved, Selection(since="0001"), new=False, now=lambda: NOW)


def test_begin_or_go_on__says_when_there_is_no_room_for_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_corpus(tmp_path, 300)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(StoreError, match="has no room for the plan") as caught:
            begin_or_go_on(output_runs(tmp_path), spec(tmp_path), Selection(), new=False, now=lambda: NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "TMPDIR" in str(caught.value.hint)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("winnow-plan-*"))


def test_begin_or_go_on__two_drivers_at_once_work_on_one_run(tmp_path: Path) -> None:
    make_corpus(tmp_path, 30)
    resolved = spec(tmp_path)
    both = Barrier(2)

    def clock(driver: int) -> Callable[[], datetime]:
        def now() -> datetime:
            both.wait(60)  # both have seen that no run is open; from here on they draft side by side
            return NOW + timedelta(seconds=driver)

        return now

    def drive(driver: int) -> tuple[PlanDocument | None, bool]:
        return begin_or_go_on(output_runs(tmp_path), resolved, Selection(), new=False, now=clock(driver))

    with ThreadPoolExecutor(2) as pool:
        (first, first_joined), (second, second_joined) = pool.map(drive, range(2))
    assert first is not None
    assert first == second
    assert {first_joined, second_joined} == {True, False}
    runs = output_runs(tmp_path)
    assert runs.plans() == [first]
    assert {part.key for part in (*first.snapshot, *first.work)} <= {info.key for info in runs.store.walk()}
