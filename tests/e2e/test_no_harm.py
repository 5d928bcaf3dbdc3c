"""What else may happen to an open run: two drivers, lost and stale ledgers, promoted stages, workers that wake up."""

import contextlib
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.e2e.winnow import DEADLINE_S, Ended, photographs, start, winnow
from winnow_jobs.begin import begin_or_go_on, open_runs
from winnow_jobs.events import Event, Progress
from winnow_jobs.job import resume_run
from winnow_jobs.options import Options
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.routes import iter_routes, own_routes
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.errors import RunFailed, UsageError
from winnow_storage.ledger import open_ledger
from winnow_storage.records import RunRecord
from winnow_storage.registry import Registry
from winnow_storage.shards import read_receipt, read_seal, shard_key
from winnow_storage.uri import parse
from winnow_workers.models.build import build_network
from winnow_workers.models.convert import as_model_file
from winnow_workers.models.model_file import ModelCard, encode_model

SPEC = """\
name: nights
corpus: photos
output: out
registry: models
tasks:
  - {name: vector, operator: embed, model: builtin/fingerprint}
  - {name: kind, operator: classify, model: models/kind@prod}
review: {policies: {kind: {uncalibrated: review}}, budget: 3}
run: {actors: 1, shard_items: 4}
"""
ROOT = Path(__file__).parents[2]
ITEMS, SHARDS = 120, 30


def write_job(folder: Path, items: int) -> tuple[Path, list[str]]:
    """A job over images whose `kind` is the registry's stage `prod`; and the digests of two versions of that model."""
    photographs(folder / "photos", items)
    registry = Registry(open_store(parse(str(folder / "models"))))
    card = ModelCard(architecture="torchvision/squeezenet1_1", labels=("a", "b", "c"))
    digests = []
    for seed in (1, 2):
        path = folder / f"kind{seed}.safetensors"
        path.write_bytes(encode_model(build_network(card.architecture, {}, n_labels=3, seed=seed).state_dict(), card))
        file = as_model_file(path.read_bytes(), where=path.name, sha256=None, card=None)
        digests.append(registry.add("kind", file.data, file.card).sha256)
    registry.promote("kind", "1", "prod")
    spec = folder / "job.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    return spec, digests


def rows_of(out: Path, run_id: str) -> list[dict[str, Any]]:
    results = sorted((out / f"runs/{run_id}/results").glob("*.parquet"))
    return [row for path in results for row in pq.read_table(path).to_pylist()]


def assert_sound(out: Path, run_id: str, items: int) -> None:
    check = verify_run(Runs(open_store(parse(str(out)))), run_id)
    assert (check.findings, check.notes, check.state) == ([], [], "done")
    counts = Counter(row["key"] for row in rows_of(out, run_id))
    assert (len(counts), set(counts.values())) == (items, {1})


@pytest.fixture(autouse=True)
def _ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{tmp_path}/ledger.db")


def test_run__two_drivers_started_at_once(tmp_path: Path) -> None:
    spec, _ = write_job(tmp_path, 40)
    drivers = [start("run", spec, "--json", cwd=tmp_path) for _ in range(2)]
    said = [driver.communicate(timeout=DEADLINE_S) for driver in drivers]
    ended = [Ended(driver.returncode, *text) for driver, text in zip(drivers, said, strict=True)]
    assert [one.code for one in ended] == [0, 0], ended
    assert "done" in {one.record["state"] for one in ended}
    assert {one.record["state"] for one in ended} <= {"done", "nothing_due"}
    assert {one.record["run_id"] for one in ended} == {"0001"}
    assert [path.name for path in (tmp_path / "out/runs").iterdir()] == ["0001"]
    assert_sound(tmp_path / "out", "0001", 40)


def test_resume__a_driver_whose_run_is_abandoned_meanwhile_stops_and_every_prediction_has_one_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("winnow_jobs.run.ABANDONED_LOOK_S", 0.0)
    spec, _ = write_job(tmp_path, 40)
    resolved = resolve_spec(load_spec(spec))
    runs = open_runs(resolved)

    def begin(*, new: bool) -> PlanDocument:
        plan, _ = begin_or_go_on(runs, resolved, Selection(), new=new, now=lambda: datetime.now(UTC))
        assert plan is not None
        return plan

    begun = [begin(new=False)]

    def abandon_at_the_third(event: Event) -> None:
        if isinstance(event, Progress) and event.shards == 3:
            begun.append(begin(new=True))

    with pytest.raises(RunFailed, match="run 0001 was abandoned by another driver"):
        resume_run(str(tmp_path / "out"), "0001", Options(), abandon_at_the_third)
    (first, second), sealed = begun, read_seal(runs.store, "0001")
    assert sealed is not None
    assert 3 <= len(sealed) <= committed(tmp_path / "out/runs/0001/results") < first.shards == 10
    assert second.items == 40 - 4 * len(sealed)
    record = resume_run(str(tmp_path / "out"), "0002", Options(), lambda _: None).record
    assert (record["state"], record["items"]) == ("done", second.items)
    routed = [
        (row["item_id"], row["task"])
        for run_id in runs.ids()
        for batch in iter_routes(runs.store, run_id)
        for row in own_routes(batch).select(["item_id", "task"]).to_pylist()
    ]
    assert len(routed) == len(set(routed)) == 80
    assert [verify_run(runs, run_id).findings for run_id in runs.ids()] == [[], []]


def test_resume__a_stage_has_moved_a_ledger_is_stale_and_a_worker_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the long form below does with commands, with one driver, in this process."""
    monkeypatch.chdir(tmp_path)
    spec, (pinned, _) = write_job(tmp_path, 8)
    out, resolved = tmp_path / "out", resolve_spec(load_spec(spec))
    runs = open_runs(resolved)
    plan, _ = begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: datetime.now(UTC))
    assert plan is not None
    assert plan.shards == 2
    with sleeping(out, "0001", 1) as sleeper:  # gets as far as its commit
        Registry(open_store(parse(str(tmp_path / "models")))).promote("kind", "2", "prod")
        with pytest.raises(UsageError, match=r"tasks\.kind\.model"):
            begin_or_go_on(runs, resolve_spec(load_spec(spec)), Selection(), new=False, now=lambda: datetime.now(UTC))
        with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:  # as old as the run, attempts and all
            ledger.record_run(
                RunRecord(runs.store.root.uri, "0001", plan.spec.job, "open", plan.digest, plan.created_at)
            )
            ledger.begin_attempts(runs.store.root.uri, "0001", {0, 1}, ended=set())
        wait_until(lambda: state_of(sleeper.pid) in ("T", None))
        assert sleeper.poll() is None
        record = resume_run(str(out), "0001", Options(), lambda _: None).record
        assert (record["state"], record["items"], record["outcomes"]["done"]) == ("done", 8, 8)
        before = objects(out)
        os.kill(sleeper.pid, signal.SIGCONT)
        told, _ = sleeper.communicate(timeout=DEADLINE_S)
        standing = read_receipt(runs.store, shard_key("0001", 1))
        assert (sleeper.returncode, told.strip()) == (0, standing.attempt)
    assert objects(out) == before
    assert_sound(out, "0001", 8)
    assert {row["kind"]["model"] for row in rows_of(out, "0001")} == {pinned}
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        assert [(run.run_id, run.state) for run in ledger.runs()] == [("0001", "done")]
        assert ledger.open_attempts(runs.store.root.uri, "0001") == {}


@pytest.mark.long
@pytest.mark.timeout(600)  # five commands with a Ray of their own, on a machine that may be busy
def test_run__ledgers_are_lost_a_stage_moves_and_workers_wake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, (pinned, promoted) = write_job(tmp_path, ITEMS)
    out, results = tmp_path / "out", tmp_path / "out/runs/0001/results"

    with contextlib.ExitStack() as processes:
        # the actor of the first driver falls asleep in the middle of a shard; the driver waits for it
        first = processes.enter_context(driving(spec))
        wait_until(lambda: committed(results) >= 2)
        actor = actor_of(first.pid)
        os.kill(actor, signal.SIGSTOP)
        begun = committed(results)
        assert begun < SHARDS
        # a worker of nobody gets as far as its commit of the last shard
        sleeper = processes.enter_context(sleeping(out, "0001", SHARDS - 1))
        stale = copied(tmp_path / "ledger.db", tmp_path / "stale.db")

        # the second driver has a ledger that is empty, and is killed
        empty = tmp_path / "empty.db"
        monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{empty}")
        second = processes.enter_context(driving(spec))
        wait_until(lambda: committed(results) >= begun + 2)
        os.kill(second.pid, signal.SIGKILL)
        assert committed(results) < SHARDS

        # a stage is promoted meanwhile: the spec means another model now, the open run does not
        moved = winnow("models", "promote", "kind", "2", "prod", "--registry", tmp_path / "models", cwd=tmp_path)
        assert moved.code == 0, moved.err
        refused = winnow("run", spec, cwd=tmp_path)
        assert refused.code == 2, refused
        assert "tasks.kind.model" in refused.err
        assert f"winnow resume 0001 --output {out}" in refused.err

        # the third driver has a ledger that is as old as the run
        wait_until(lambda: state_of(sleeper.pid) in ("T", None))
        assert sleeper.poll() is None
        monkeypatch.setenv("WINNOW_LEDGER", f"sqlite:///{stale}")
        resumed = winnow("resume", "0001", "--output", out, "--json", cwd=tmp_path)
        assert resumed.code == 0, resumed.err
        assert (resumed.record["items"], resumed.record["outcomes"]["done"]) == (ITEMS, ITEMS)
        assert_sound(out, "0001", ITEMS)
        before = objects(out)

        # those that slept wake up after all is done, and adopt what they find
        assert state_of(actor) == "T"
        os.kill(actor, signal.SIGCONT)
        os.kill(sleeper.pid, signal.SIGCONT)
        told, _ = sleeper.communicate(timeout=DEADLINE_S)
        standing = read_receipt(open_store(parse(str(out))), shard_key("0001", SHARDS - 1))
        assert (sleeper.returncode, told.strip()) == (0, standing.attempt)
        ended = Ended(0, *first.communicate(timeout=DEADLINE_S))
        assert first.returncode == 0, ended.err
        assert (ended.record["state"], ended.record["items"]) == ("done", ITEMS)
    assert objects(out) == before

    assert {row["kind"]["model"] for row in rows_of(out, "0001")} == {pinned}
    following = winnow("run", spec, "--limit", "4", "--json", cwd=tmp_path)
    assert (following.code, following.record["run_id"]) == (0, "0002"), following.err
    assert {row["kind"]["model"] for row in rows_of(out, "0002")} == {promoted}
    assert_sound(out, "0002", 4)

    # the ledger that was empty once more knows from the bucket what the other one knows
    checked = winnow("verify", "--all", spec, "--json", cwd=tmp_path, environ={"WINNOW_LEDGER": f"sqlite:///{empty}"})
    assert checked.code == 0, checked.out
    assert [(run["run_id"], run["rows"]) for run in checked.record["runs"]] == [("0001", ITEMS), ("0002", 4)]
    assert_same_index(stale, empty, out)


def assert_same_index(ledger: Path, rebuilt: Path, out: Path) -> None:
    with open_ledger(f"sqlite:///{ledger}") as one, open_ledger(f"sqlite:///{rebuilt}") as other:
        assert [(run.run_id, run.state) for run in one.runs()] == [("0001", "done"), ("0002", "done")]
        assert one.runs() == other.runs()
        tasks = one.review_tasks(output=out.as_uri())
        assert len(tasks) == 6  # the budget of each run
        assert tasks == other.review_tasks(output=out.as_uri())


# processes


@contextlib.contextmanager
def driving(spec: Path) -> Iterator["subprocess.Popen[str]"]:
    """A driver in the background; it and everything that it started is ended in the end."""
    with start("run", spec, "--json", cwd=spec.parent) as driver:
        try:
            yield driver
        finally:
            for pid in [driver.pid, *descendants(driver.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def sleeping(out: Path, run_id: str, shard: int) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.e2e.sleeper", str(out), run_id, str(shard)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def actor_of(driver: int) -> int:
    """The process of a driver's actor: below its raylet, under the name that Ray gives it."""
    found = [pid for pid in descendants(driver) if b"ray::ShardWorker" in command_of(pid)]
    assert len(found) == 1, found
    return found[0]


def descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))


def command_of(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def state_of(pid: int) -> str | None:
    """`T` for a process that is stopped; None once it has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
    return None if state in "ZX" else state


# places


def committed(results: Path) -> int:
    return len(list(results.glob("*.parquet"))) if results.is_dir() else 0


def objects(out: Path) -> dict[str, tuple[int, str]]:
    """Every object, by what would change if somebody wrote it again."""
    return {
        str(path.relative_to(out)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def copied(ledger: Path, to: Path) -> Path:
    """A copy of a ledger as it is now, in use or not."""
    with sqlite3.connect(ledger) as source, sqlite3.connect(to) as target:
        source.backup(target)
    source.close()
    target.close()
    return to


def wait_until(condition: Callable[[], bool], deadline_s: float = 120.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline_s:.0f} s")
        time.sleep(0.02)
