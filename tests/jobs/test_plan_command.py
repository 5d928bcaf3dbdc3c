"""`winnow plan` and the options that select, through the frontier that turns errors into messages and exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.histories import Row, add_run
from winnow_jobs.cli import main
from winnow_jobs.commands.run import selection
from winnow_jobs.draft import list_items
from winnow_jobs.resolved import ResolvedSpec, resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.views import run_status
from winnow_storage.blobs import open_store
from winnow_storage.schemas import Outcome
from winnow_storage.uri import parse

SPEC = """\
name: shelves
corpus: photos
output: out
tasks: [{name: vector, operator: embed, model: builtin/fingerprint}]
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "notes.txt"):
        (photos / name).write_text(name)
    path = tmp_path / "job.yaml"
    path.write_text(SPEC)
    return path


def outcome_run(runs: Runs, resolved: ResolvedSpec, keys: str, outcome: Outcome = Outcome.DONE) -> None:
    versions = {
        key: version
        for batch in list_items(resolved)
        for key, version in zip(batch.column("key").to_pylist(), batch.column("version").to_pylist(), strict=True)
    }
    ran = {"vector": True} if outcome is Outcome.DONE else {}
    rows = [Row(f"{key}.jpg", versions[f"{key}.jpg"], outcome, ran) for key in keys]
    plan = add_run(runs, resolved, [rows, None])
    runs.close(plan.run_id, {"run_id": plan.run_id, "state": "abandoned"})


def planned(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *map(str, arguments), "--json"])
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


def test_plan__since_retry_and_what_is_new(capsys: pytest.CaptureFixture[str], job: Path) -> None:
    resolved = resolve_spec(load_spec(job))
    runs = Runs(open_store(parse(resolved.output)))
    code, record = planned(capsys, job)
    assert (code, record["run_id"], record["due_items"], record["corpus_items"]) == (0, "0001", 3, 3)
    assert (record["other_files"], record["other_examples"], record["cold_items"]) == (1, ["notes.txt"], 0)
    assert not (job.parent / "out").exists()
    outcome_run(runs, resolved, "ab")
    outcome_run(runs, resolved, "c", Outcome.UNREADABLE)
    for options, due in (
        ((), 0),
        (("--since", "0001"), 3),
        (("--since", "2"), 1),
        (("--since", "2026-11-03"), 1),
        (("--retry", "unreadable"), 1),
        (("--since", "0001", "--limit", "2"), 2),
    ):
        code, record = planned(capsys, job, *options)
        assert (code, record["due_items"], record["tasks"][0]["due"]) == (0, due, due), options
        assert record["bytes"] == due * len("a.jpg")


def test_plan__says_what_is_wrong_with_since(capsys: pytest.CaptureFixture[str], job: Path) -> None:
    code, said = planned(capsys, job, "--since", "tuesday")
    assert (code, said["error"]) == (2, "--since 'tuesday' is neither a run nor a date")
    code, said = planned(capsys, job, "--since", "0004")
    assert (code, said["error"]) == (2, "--since 0004: no run of shelves began then or later (none yet)")
    assert "winnow status" in said["hint"]


def test_plan__says_that_a_model_cannot_be_used(capsys: pytest.CaptureFixture[str], job: Path) -> None:
    job.write_text(SPEC.replace("embed", "anomaly"))
    code, said = planned(capsys, job)
    assert code == 2
    assert said["error"].startswith("task vector: builtin/fingerprint is no network that this operator can run")
    assert said["hint"].startswith("name a weights file")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_plan__opens_an_operator_of_ones_own_unless_it_is_for_gpus(
    capsys: pytest.CaptureFixture[str], job: Path, device: str
) -> None:
    own = f'"tests.jobs.sleepy:SleepyOperator", opening: refuses, log: {job.parent}/log'
    task = f"{{name: own, operator: {own}}}"
    job.write_text(f"{SPEC.partition('tasks:')[0]}tasks: [{task}]\nrun: {{device: {device}}}\n")
    code, said = planned(capsys, job)
    assert (job.parent / "log").exists() == (device == "auto")
    if device == "auto":
        assert (code, said["error"]) == (2, "task own: its weights are of another network")
        assert said["hint"] == "name the model that they are of"
    else:
        assert (code, said["due_items"]) == (0, 3)


def test_selection__of_the_options() -> None:
    chosen = selection(["a,b"], ["failed"], "7", 3, None)
    assert chosen.model_dump(mode="json") == {
        "tasks": ["a", "b"], "retry": ["failed"], "since": "0007", "limit": 3, "sample": None,
    }  # fmt: skip


def test_run_status__counts_an_open_runs_receipts(job: Path) -> None:
    resolved = resolve_spec(load_spec(job))
    runs = Runs(open_store(parse(resolved.output)))
    add_run(runs, resolved, [[Row("a")], [Row("b", outcome=Outcome.MISSING, tasks={})], None])
    status = run_status(runs, "0001")
    assert (status["state"], status["shards"], status["shards_committed"]) == ("open", 3, 2)
    assert status["outcomes"] == {"done": 1, "missing": 1}
