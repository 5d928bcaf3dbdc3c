"""How long does `winnow explain` take at a million items?

`python -m tests.benchmarks.annotation.explain`: a job of a million items in a folder, made by the product's own plan,
shard writer, routing, ledger and consensus; the listing and the predictions are synthetic. A night of 1 % new items
follows. Explained are drawn items, some of which people answered, by key and by item_id: in this process, and as a
command. Nothing is compacted. The figure of a point is its slowest item; the file cache is warm. Beside it stands the
CPU that an item took, that of the command included, which tells a busy machine from a slow command.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.planning import FIELDS, ROOT, SyntheticStream, result_rows, spec_in
from tests.conftest import use_s3
from tests.servers.s3 import s3_server
from winnow_annotation.policies import Policy, ReviewSpec, ScoreBelow
from winnow_annotation.pull import _put
from winnow_jobs import draft
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.consensus.further import settle
from winnow_jobs.explain.record import Asked, explain
from winnow_jobs.people import sync_ledger
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.routes import iter_sent
from winnow_jobs.run import Tally, finish
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.ids import item_id
from winnow_storage.ledger import open_ledger
from winnow_storage.listing import CorpusSource
from winnow_storage.parts import WorkReader
from winnow_storage.records import Label
from winnow_storage.shards import Receipt, commit_shard, encode_shard
from winnow_storage.uri import parse
from winnow_workers.models.resolve import resolve_model
from winnow_workers.rows import summarise

TARGET_S = 2.0
LABELS, LABEL_OBJECTS = 2000, 200  # as many pulls
BEGUN = datetime(2026, 11, 1, tzinfo=UTC)
SPEC = """\
name: planning
corpus: {{id: planning, uri: s3://acme-photos/2026, include: ["*.jpg"]}}
output: {folder}/out
registry: {folder}/registry
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: kind, operator: classify, model: models/kind}}
  - {{name: vector, operator: embed, model: builtin/fingerprint}}
"""


def main() -> None:
    """Print a line for each point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--asked", type=int, default=10, help="how many items are explained for a point")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--s3", action="store_true", help="from a copy of the job in an S3 server on loopback as well")
    parser.add_argument("--folder", type=Path, help="where the job is made (a temporary folder by default)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-explain-", dir=given.folder) as scratch:
        folder = Path(scratch)
        spec, runs = _made(folder, given.items)
        rng = random.Random(given.seed)
        numbers = rng.sample(range(given.items), given.asked)
        keys = [f"photos/{number // 1000:06d}/{number:09d}.jpg" for number in numbers]
        answered = rng.sample(_answered(runs), given.asked)
        setup = f"{given.items:,} items in shards, two runs, {LABELS:,} labels in {LABEL_OBJECTS} objects, a folder, "
        setup += f"{given.asked} items, seed {given.seed}"
        ids = [item_id(spec.corpus.id, key) for key in keys]
        _point("by key, in process", lambda name: _explained(folder, runs, name), keys, setup)
        _point("an answered item by key, in process", lambda name: _explained(folder, runs, name), answered, setup)
        _point("by item_id, in process", lambda name: _explained(folder, runs, name), ids, setup)
        _point("an unknown name, in process", lambda name: _unknown(runs, name), ["000123456.jpgg", "0" * 32], setup)
        if given.s3:
            _on_s3(runs, keys, answered, setup)
        _point("by key, the whole command", lambda name: _command(folder, name), keys, setup)
        _point("an answered item by item_id, the whole command", lambda name: _command(folder, name),
               [item_id(spec.corpus.id, key) for key in answered], setup)  # fmt: skip


def _point(name: str, ask: Callable[[str], None], items: Sequence[str], setup: str) -> None:
    seconds, cpu = [], []
    for item in items:
        start, cpu_start = time.perf_counter(), sum(os.times()[:4])
        ask(item)
        seconds.append(time.perf_counter() - start)
        cpu.append(sum(os.times()[:4]) - cpu_start)
    median, cpu_median = (round(sorted(some)[len(some) // 2], 3) for some in (seconds, cpu))
    more = {"unit": "s, the slowest", "median_s": median, "cpu_median_s": cpu_median, "load": os.getloadavg()[0]}
    say(f"explain: {name}", [max(seconds)], at_most=TARGET_S, setup=setup, **more)


def _explained(folder: Path, runs: Runs, name: str) -> None:
    with open_ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        record = explain(runs, Asked(name), ledger=lambda: ledger, server="http://127.0.0.1:8080")
    _check(record, name)


def _command(folder: Path, name: str) -> None:
    command = [sys.executable, "-c", "from winnow_jobs.cli import main; main()"]
    done = subprocess.run(
        [*command, "explain", str(folder / "job.yaml"), name, "--json"], stdout=subprocess.PIPE, check=True, cwd=ROOT
    )
    _check(json.loads(done.stdout), name)


def _check(record: dict[str, Any], name: str) -> None:
    item, task = record["item"], record["tasks"][0]
    whole = name in (item["key"], item["item_id"]) and task["prediction"] and task["route"] and not record["damaged"]
    if not whole:
        raise SystemExit(f"{name} is not explained: {record}")


def _on_s3(runs: Runs, keys: Sequence[str], answered: Sequence[str], setup: str) -> None:
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        use_s3(server, Path("/none"), patch)
        boto3.session.Session().client("s3").create_bucket(Bucket="explain")
        store = open_store(parse("s3://explain/out"))
        for info in runs.store.walk():
            store.put(info.key, runs.store.get(info.key))

        def ask(name: str) -> None:
            _check(explain(Runs(store), Asked(name), ledger=None, server=None), name)

        setup = setup.replace("a folder", "S3 on loopback")
        _point("by key, in process, S3", ask, keys, setup)
        _point("an answered item by key, in process, S3", ask, answered, setup)


def _unknown(runs: Runs, name: str) -> None:
    try:
        explain(runs, Asked(name), ledger=None, server=None)
    except UsageError:
        return
    raise SystemExit(f"{name} was found")


def _made(folder: Path, items: int) -> tuple[ResolvedSpec, Runs]:
    """Two runs, people's answers to the first, their consensus, and the ledger."""
    spec = _spec(folder)
    runs = Runs(open_store(parse(spec.output)))
    (folder / "job.yaml").write_text(SPEC.format(folder=folder))
    for number in (1, 2):
        _run(spec, runs, items, number)
        if number == 1:
            _answer(runs)
    with open_ledger(f"sqlite:///{folder}/ledger.db") as ledger:
        sync_ledger(runs, ledger)
    settle(spec, runs, tasks=["kind"], at=BEGUN + timedelta(days=3))
    return spec, runs


def _spec(folder: Path) -> ResolvedSpec:
    model = resolve_model("builtin/fingerprint")
    kind = ResolvedTask(name="kind", operator="classify", revision=1, params={}, model=model)
    plain = spec_in(folder)
    policy = Policy(uncalibrated=ScoreBelow(score_below=0.5))
    review = ReviewSpec(policies={"kind": policy}, budget=5000, audit=0.01, calibrate=1000)
    return plain.model_copy(update={"tasks": (kind, plain.task("vector")), "review": review})


def _run(spec: ResolvedSpec, runs: Runs, items: int, number: int) -> None:
    source = CorpusSource(spec.corpus.id, parse(spec.corpus.uri), spec.corpus.include)
    stream = SyntheticStream(source, items, night=number > 1)
    draft.list_items = lambda _: stream  # type: ignore[assignment]
    at = BEGUN + timedelta(days=number)
    plan, _ = begin_or_go_on(runs, spec, Selection(), new=False, now=lambda: at)
    if plan is None:
        raise SystemExit("nothing was due")
    tally, work = Tally(), WorkReader(runs.store, plan.work)
    for shard in range(plan.shards):
        tally.add(_commit(runs, plan, work, shard), now=True)
    finish(runs, plan, tally, 1.0)


def _commit(runs: Runs, plan: PlanDocument, work: WorkReader, shard: int) -> Receipt:
    rows = result_rows(work.rows(shard), plan.run_id)
    counts = summarise(rows, list(FIELDS))
    receipt = Receipt(
        run_id=plan.run_id,
        shard=shard,
        job=plan.spec.job,
        plan_digest=plan.digest,
        items_digest=counts.items_digest,
        code_version=plan.code_version,
        attempt="benchmark",
        outcomes=counts.outcomes,
        predictions=counts.predictions,
        errors=counts.errors,
        models={task.name: task.model.digest for task in plan.tasks()},
        bytes=counts.bytes,
        seconds={},
    )
    commit_shard(runs.store, encode_shard(rows, receipt), receipt)
    return receipt


def _answer(runs: Runs) -> None:
    """Somebody answers the first tasks, a few between two pulls."""
    columns = ["task", "route", "key", "uri", "item_id", "version", "dedupe_key"]
    rows = [row for row, _ in zip(iter_sent(runs.store, "0001", columns), range(LABELS), strict=False)]
    each = -(-len(rows) // LABEL_OBJECTS)
    for start in range(0, len(rows), each):
        _put([_label(row, start + place) for place, row in enumerate(rows[start : start + each])], runs.store)


def _label(row: dict[str, Any], number: int) -> Label:
    at = BEGUN + timedelta(days=1, seconds=number)
    named = {name: row[name] for name in ("task", "key", "uri", "item_id", "version", "dedupe_key")}
    ids = {"server": "http://127.0.0.1:8080", "annotation_id": str(number), "project_id": 1, "ls_task_id": number}
    who = {"annotator": f"person{number % 5}", "created_at": at, "updated_at": at, "lead_time_s": 2.0}
    said = {"value": '{"label":"tin"}', "raw": "[]", "config_hash": "c", "model": None, "shown": None}
    about = {"event": "created", "job": "planning", "operator": "classify", "run_id": "0001", "was_cancelled": False}
    return Label(label_id=f"{number:032x}", purpose=row["route"], **named, **ids, **who, **said, **about)


def _answered(runs: Runs) -> list[str]:
    rows = iter_sent(runs.store, "0001", ["route", "key"])
    return [row["key"] for row, _ in zip(rows, range(LABELS), strict=False)]


if __name__ == "__main__":
    main()
