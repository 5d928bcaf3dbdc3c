"""What one command does to a job on a night on which nothing is due, and what the other commands say then."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.jobs.histories import make_corpus, output_runs, spec, task, work_off
from tests.workers.pipelines import save_image
from winnow_annotation.policies import ReviewSpec
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.doctor import _output
from winnow_jobs.draft import draft_run
from winnow_jobs.events import Event, Note
from winnow_jobs.job import resume_run, run_job
from winnow_jobs.machine import ledger_of
from winnow_jobs.options import Options
from winnow_jobs.plan import Selection
from winnow_jobs.report import write_report
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.runs import Runs
from winnow_jobs.views import plan_record, status_record
from winnow_storage import ledger_engine
from winnow_storage.errors import StoreError
from winnow_storage.probe import RECORD
from winnow_storage.schemas import Outcome

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Runs, ResolvedSpec]:
    """A job over three images that ran once."""
    monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    make_corpus(tmp_path, 3)
    review = ReviewSpec.model_validate({"policies": {"kind": {"uncalibrated": "review"}}, "budget": 2})
    resolved = spec(tmp_path, task("kind", operator="ocr")).model_copy(update={"review": review})
    runs = output_runs(tmp_path)
    plan, _ = begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW)
    assert plan is not None
    work_off(runs, plan)
    return runs, resolved


def test_run_job__nothing_is_due(night: tuple[Runs, ResolvedSpec], tmp_path: Path) -> None:
    _, resolved = night
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    options = Options(Selection(retry=(Outcome.UNREADABLE,)))
    record = run_job(resolved, options, listen, lambda: NOW).record
    assert notes == [f"nothing is due: no item of {tmp_path / 'corpus'} is new, changed or asked for again"]
    assert (record["state"], record["run_id"], record["items"]) == ("nothing_due", "0001", 0)
    assert record["results"] == f"{tmp_path / 'out'}/runs/0001/results/*.parquet"


def test_run_job__a_ledger_that_a_stopped_process_holds_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{tmp_path / 'ledger.db'}")
    monkeypatch.setattr(ledger_engine, "LOCK_WAIT_S", 0)
    (tmp_path / "corpus").mkdir()
    for seed in range(3):
        save_image(tmp_path / f"corpus/{seed}.jpg", seed=seed)
    resolved, said = spec(tmp_path), list[str]()
    ledger_of(None).close()

    def listen(event: Event) -> None:
        if isinstance(event, Note) and event.warning:
            said.append(event.text)

    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        first = run_job(resolved, Options(), listen, lambda: NOW).record
        again = run_job(resolved, Options(), listen, lambda: NOW).record
    assert (first["state"], first["outcomes"]["done"], again["state"]) == ("done", 3, "nothing_due")
    assert sum("the ledger was not brought up to date" in text and "locked" in text for text in said) == 3
    with ledger_of(None) as ledger:
        assert not ledger.runs()
        run_job(resolved, Options(), lambda _: None, lambda: NOW)
        assert [(run.run_id, run.state) for run in ledger.runs()] == [("0001", "done")]


def test_run_job__nothing_is_due_and_an_image_is_gone(night: tuple[Runs, ResolvedSpec], tmp_path: Path) -> None:
    runs, resolved = night
    next((tmp_path / "corpus").glob("*/*.jpg")).unlink()
    record = run_job(resolved, Options(), lambda _: None, lambda: NOW).record
    assert (record["state"], record["run_id"], record["items"], record["shards"]) == ("nothing_due", "0002", 0, 0)
    assert record["results"] is None
    with ledger_of(None) as ledger:
        assert [(run.run_id, run.state) for run in ledger.runs()] == [("0001", "done"), ("0002", "done")]
        status = status_record(resolved, runs, ledger)["runs"][-1]
        assert (status["state"], status["items"], status["shards"], status["shards_committed"]) == ("done", 0, 0, 0)
        assert status["routed"]
        told = write_report(resolved, runs, ledger, run_id=None, truth=None, out=tmp_path / "report.html")
    assert (told["run_id"], told["quality"]) == ("0001", [])  # 0002 only takes down the listing
    assert "run 0001, begun 2026-11-" in (tmp_path / "report.html").read_text()


def test_plan_record__estimates_from_the_last_run_with_items(night: tuple[Runs, ResolvedSpec], tmp_path: Path) -> None:
    runs, resolved = night
    next((tmp_path / "corpus").glob("*/*.jpg")).unlink()
    run_job(resolved, Options(), lambda _: None, lambda: NOW)
    assert runs.newest() == "0002"
    record = plan_record(draft_run(runs, resolved, Selection(), now=NOW), None, runs)
    assert (record["due_items"], record["tasks"][0]["why"]) == (0, "no item is new, changed or asked for again")
    assert record["review_estimate"] == "about 0 review tasks (budget 2; the last run sent 0.67 an item)"


def test_resume_run__an_output_without_conditional_puts_is_refused(tmp_path: Path) -> None:
    make_corpus(tmp_path, 3)
    runs, resolved = output_runs(tmp_path), spec(tmp_path)
    plan, _ = begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: NOW)
    assert plan is not None
    runs.store.put(RECORD, b'{"conditional_put": false}')  # as the probe of another command found out meanwhile
    with pytest.raises(StoreError, match="does not honour conditional puts"):
        resume_run(resolved.output, plan.run_id, Options(), lambda _: None)
    assert not list((tmp_path / "out").glob("runs/0001/results/*"))


def test_doctor__says_what_a_store_without_conditional_puts_needs(tmp_path: Path) -> None:
    resolved = spec(tmp_path)
    output_runs(tmp_path).store.put(RECORD, b'{"conditional_put": false}')
    with pytest.raises(StoreError, match="does not honour conditional puts"):
        _output(resolved)
    assert _output(resolved.model_copy(update={"single_writer": True})).endswith(
        "is writable; exactly-once depends on output.single_writer being true"
    )
