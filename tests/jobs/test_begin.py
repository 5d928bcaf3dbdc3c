"""Which run is worked on, and what is put for it: over a folder, by one driver and by two at once."""

import resource
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tests.jobs.histories import make_corpus, output_runs, spec, task, versions, work_off, work_off_shard
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.compact import compact
from winnow_jobs.draft import draft_run
from winnow_jobs.events import silent
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.routes import iter_routes
from winnow_jobs.run import Tally, finish
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.spec import ExecutionSpec
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import BlobStore
from winnow_storage.dataset import read_current
from winnow_storage.errors import RunFailed, StoreError, UsageError
from winnow_storage.schemas import Outcome
from winnow_storage.shards import seal

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def begun(runs: Runs, resolved: ResolvedSpec) -> PlanDocument:
    plan, _ = begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW)
    assert plan is not None
    return plan


def current_keys(runs: Runs) -> list[str]:
    found: list[str] = read_current(runs.store.root, ["key"])["key"].to_pylist()
    return found


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
    work_off(runs, plan)
    before = [info.key for info in runs.store.walk()]
    for selection in (Selection(), Selection(tasks=("kind",)), Selection(retry=(Outcome.FAILED,))):
        assert begin_or_go_on(runs, resolved, selection, new=False, now=lambda: NOW) == (None, False)
    assert [info.key for info in runs.store.walk()] == before


def test_begin_or_go_on__tells_of_due_items_before_the_plan_is_put_and_of_nothing_else(tmp_path: Path) -> None:
    make_corpus(tmp_path, 3)
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    told: list[list[str]] = []

    def begin() -> PlanDocument | None:
        plan, _ = begin_or_go_on(
            runs, resolved, Selection(), new=False, now=lambda: NOW, on_due=lambda: told.append(runs.ids())
        )
        return plan

    plan = begin()
    assert plan is not None
    assert told == [[]]
    work_off(runs, plan)
    assert begin() is None
    assert len(told) == 1


def test_begin_or_go_on__nothing_is_put_for_a_corpus_that_was_never_there(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (None, False)
    assert not (tmp_path / "out").exists()


def test_begin_or_go_on__a_run_without_items_says_who_is_gone_and_who_is_back(tmp_path: Path) -> None:
    keys = make_corpus(tmp_path, 3)
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    work_off(runs, begun(runs, resolved))
    assert current_keys(runs) == keys
    compact(runs.store, silent, lambda: NOW)
    gone = tmp_path / "corpus" / keys[1]
    gone.rename(tmp_path / "aside.jpg")
    for _ in range(2):  # the second time it is known
        assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (None, False)
    assert runs.ids() == ["0001", "0002"]
    plan = runs.plan("0002")
    assert (plan.items, plan.shards, plan.work, plan.corpus_items) == (0, 0, (), 2)
    assert current_keys(runs) == [keys[0], keys[2]]
    check = verify_run(runs, "0002")
    assert (check.findings, check.notes, check.state) == ([], [], "done")
    record = compact(runs.store, silent, lambda: NOW)
    assert (record["wrote"], record["rows"], record["gone"], record["snapshot_run"]) == (True, 2, 1, "0002")
    assert not compact(runs.store, silent, lambda: NOW)["wrote"]
    (tmp_path / "aside.jpg").rename(gone)
    assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (None, False)
    assert current_keys(runs) == keys
    compact(runs.store, silent, lambda: NOW)
    assert current_keys(runs) == keys
    for key in keys:
        (tmp_path / "corpus" / key).unlink()
    assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (None, False)
    assert (runs.ids()[-1], runs.plan("0004").snapshot, current_keys(runs)) == ("0004", (), [])
    compact(runs.store, silent, lambda: NOW)
    assert current_keys(runs) == []
    assert verify_run(runs, "0004").findings == []


def test_begin_or_go_on__a_run_without_items_lists_what_was_replaced_before_it_was_read(tmp_path: Path) -> None:
    keys = make_corpus(tmp_path, 3)
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    plan = begun(runs, resolved)
    (tmp_path / "corpus" / keys[2]).write_bytes(b"another picture")
    work_off(runs, plan, versions(resolved))
    assert current_keys(runs) == keys[:2]
    assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (None, False)
    assert (runs.ids(), current_keys(runs)) == (["0001", "0002"], keys)


@pytest.mark.parametrize("new", [False, True])
def test_begin_or_go_on__closes_a_run_without_items_that_its_driver_left(tmp_path: Path, new: bool) -> None:
    keys = make_corpus(tmp_path, 3)
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    work_off(runs, begun(runs, resolved))
    (tmp_path / "corpus" / keys[0]).unlink()
    (tmp_path / "parts").mkdir()
    draft = draft_run(runs, resolved, Selection(), now=NOW, folder=tmp_path / "parts")
    assert draft.snapshot_is_new
    assert runs.begin(draft.plan, draft.files)
    other = spec(tmp_path, task("kind"), task("text"))
    plan, standing = begin_or_go_on(runs, other, Selection(), new=new, now=lambda: NOW)
    assert plan is not None
    assert (plan.run_id, plan.items, standing) == ("0003", 2, False)
    summary = runs.summary("0002")
    assert summary is not None
    assert (summary["state"], summary["items"], summary["review"]) == ("done", 0, {"selected": 0, "routes": {}})


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


def test_begin_or_go_on__what_is_committed_after_its_run_was_abandoned_is_due_again_and_routed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_corpus(tmp_path, 6)
    runs, resolved = output_runs(tmp_path), spec(tmp_path, run=ExecutionSpec(shard_items=2))
    first, tally = begun(runs, resolved), Tally()
    tally.add(work_off_shard(runs, first, 0), now=True)

    def routed_while_the_other_driver_commits(store: BlobStore, plan: PlanDocument) -> dict[str, Any]:
        found = route_run(store, plan)
        tally.add(work_off_shard(runs, first, 1), now=True)
        return found

    with monkeypatch.context() as patch:
        patch.setattr("winnow_jobs.run.route_run", routed_while_the_other_driver_commits)
        plan, _ = begin_or_go_on(runs, resolved, Selection(), new=True, now=lambda: NOW)
    assert plan is not None
    assert (plan.run_id, plan.items) == ("0002", 4)
    tally.add(work_off_shard(runs, first, 2), now=True)
    with pytest.raises(RunFailed, match="run 0001 was abandoned by another driver"):
        finish(runs, first, tally, 1.0)
    work_off(runs, plan)
    routed = [item for run_id in runs.ids() for batch in iter_routes(runs.store, run_id) for item in batch["item_id"]]
    assert len(routed) == len(set(routed)) == 6
    check = verify_run(runs, "0001")
    assert check.state == "abandoned"
    assert "2 shards were committed after the run was abandoned: the next run takes their images" in check.notes
    assert begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW) == (None, False)


def test_finish__of_a_run_that_another_driver_began_to_abandon(tmp_path: Path) -> None:
    make_corpus(tmp_path, 6)
    runs, resolved = output_runs(tmp_path), spec(tmp_path, run=ExecutionSpec(shard_items=2))
    first, tally = begun(runs, resolved), Tally()
    tally.add(work_off_shard(runs, first, 0), now=True)
    seal(runs.store, "0001")  # and no further
    for shard in (1, 2):
        tally.add(work_off_shard(runs, first, shard), now=True)
    with pytest.raises(RunFailed, match="run 0001 was abandoned by another driver"):
        finish(runs, first, tally, 1.0)
    summary = runs.summary("0001")
    assert summary is not None
    assert summary["state"] == "abandoned"
    assert begun(runs, resolved).items == 4


def test_begin_or_go_on__a_run_whose_abandoning_was_cut_off_is_abandoned(tmp_path: Path) -> None:
    make_corpus(tmp_path, 6)
    runs, resolved = output_runs(tmp_path), spec(tmp_path, run=ExecutionSpec(shard_items=2))
    work_off_shard(runs, begun(runs, resolved), 0)
    seal(runs.store, "0001")
    plan = begun(runs, resolved)
    assert (plan.run_id, plan.items) == ("0002", 4)
    summary = runs.summary("0001")
    assert summary is not None
    assert summary["state"] == "abandoned"
