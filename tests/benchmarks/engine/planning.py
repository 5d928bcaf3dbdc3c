"""What does planning cost? Memory and time of the first plan over N items, of going on with it when half of its shards
are committed, and of a night with 1 % new ones: once with the rows of all runs, once with what a compaction took down.

The listing is synthetic (batches are made, not listed; its cost is told apart), everything else is real: the plan and
its parts are put below a folder, and an earlier full run's shard objects stand there, written as an actor writes them.
Every step is a process of its own, so that its peak memory is its own. Prints one JSON line for each point.

    python -m tests.benchmarks.engine.planning --items 10000000
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from winnow_annotation.policies import Policy, ReviewSpec, ScoreBelow
from winnow_jobs import draft
from winnow_jobs.begin import begin_or_go_on
from winnow_jobs.compact import compact
from winnow_jobs.events import silent
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedCorpus, ResolvedSpec, ResolvedTask
from winnow_jobs.run import take_stock
from winnow_jobs.runs import Runs
from winnow_jobs.spec import ExecutionSpec
from winnow_storage.blobs import open_store
from winnow_storage.ids import item_id
from winnow_storage.listing import BATCH_ROWS, CorpusSource, CorpusStream
from winnow_storage.parts import WorkReader
from winnow_storage.schemas import SNAPSHOT, prediction_type, result_schema
from winnow_storage.shards import Receipt, commit_shard, encode_shard
from winnow_storage.uri import parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.models.resolve import resolve_model
from winnow_workers.rows import summarise

ROOT = Path(__file__).parents[3]
MEMORY_TARGET_BYTES = 2 * 2**30  # at 10 million items
COST_TARGET_US = 5.0
NIGHT_TARGET_RATIO = 1.5  # listing included; it reads a row of every item, where the first plan writes one more
STEPS = ("nothing", "first", "half", "resume", "commit", "night", "compact")
NEW_SHARE = 100  # of so many items one is new in the night
VECTOR = 64  # float16 a row, so that a shard object has something to skip
FIELDS = {
    "kind": [pa.field("label", pa.string())],
    "vector": [pa.field("vector", pa.list_(pa.float16(), VECTOR))],
}


class SyntheticStream(CorpusStream):
    """`count` items of a corpus that is nowhere; in the night every hundredth has a new neighbour."""

    def __init__(self, source: CorpusSource, count: int, *, night: bool) -> None:
        super().__init__(source)
        self._corpus_id = source.corpus_id
        self._count = count
        self._night = night
        self.seconds = 0.0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Batches as a listing gives them."""
        keys: list[str] = []
        for number in range(self._count):
            if self._night and number % NEW_SHARE == 0:
                keys.append(f"photos/{number // 1000:06d}/{number:09d}-new.jpg")
            keys.append(f"photos/{number // 1000:06d}/{number:09d}.jpg")
            if len(keys) >= BATCH_ROWS or number == self._count - 1:
                start = time.thread_time()
                batches = [self._batch(keys[at : at + BATCH_ROWS]) for at in range(0, len(keys), BATCH_ROWS)]
                self.seconds += time.thread_time() - start
                self.items += len(keys)
                keys = []
                yield from batches

    def _batch(self, keys: list[str]) -> pa.RecordBatch:
        columns = [
            pa.array([item_id(self._corpus_id, key) for key in keys]),
            pa.array(keys),
            pa.array([f"s3://acme-photos/2026/{key}" for key in keys]),
            pa.array([hashlib.md5(key.encode(), usedforsecurity=False).hexdigest() for key in keys]),
            pa.array(np.full(len(keys), 120_000)),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SNAPSHOT)


def spec_in(folder: Path) -> ResolvedSpec:
    """A job with two tasks, of which people see one."""
    model = resolve_model("builtin/fingerprint")
    return ResolvedSpec.model_validate(
        {
            "job": "planning",
            "corpus": ResolvedCorpus(id="planning", uri="s3://acme-photos/2026", include=("*.jpg",)),
            "output": str(folder / "out"),
            "single_writer": False,
            "tasks": [ResolvedTask(name=name, operator="ocr", revision=1, params={}, model=model) for name in FIELDS],
            "review": ReviewSpec(policies={"kind": Policy(uncalibrated=ScoreBelow(score_below=0.5))}, audit=0.01),
            "run": ExecutionSpec(),
            "limits": DecodeLimits(),
            "ledger": None,
            "registry": str(folder / "registry"),
        }
    )


def plan_step(folder: Path, items: int, *, night: bool) -> dict[str, Any]:
    """Plan and begin one run, as `winnow run --new` does before its first shard."""
    spec = spec_in(folder)
    stream = SyntheticStream(
        CorpusSource(spec.corpus.id, parse(spec.corpus.uri), spec.corpus.include), items, night=night
    )
    draft.list_items = lambda _: stream  # type: ignore[assignment]
    runs = Runs(open_store(parse(spec.output)))
    start, cpu_start = time.perf_counter(), time.process_time()
    plan, _ = begin_or_go_on(runs, spec, Selection(), new=True, now=lambda: datetime.now(UTC))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    if plan is None:
        raise SystemExit("nothing was due")
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "listing_cpu_seconds": stream.seconds,
        "peak_bytes": peak_bytes(),
        "listed": plan.corpus_items,
        "due": plan.items,
        "shards": plan.shards,
        "snapshot_bytes": sum(part.bytes for part in plan.snapshot),
        "work_bytes": sum(part.bytes for part in plan.work),
    }


def resume_step(folder: Path) -> dict[str, Any]:
    """What `winnow run` does before it gives out the first shard of a run that was begun: which ones are missing?"""
    spec = spec_in(folder)
    runs = Runs(open_store(parse(spec.output)))
    start, cpu_start = time.perf_counter(), time.process_time()
    plan, is_begun = begin_or_go_on(runs, spec, Selection(), new=False, now=lambda: datetime.now(UTC))
    if plan is None or not is_begun:
        raise SystemExit("there is no run to go on with")
    tally, missing = take_stock(runs, plan)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu_start,
        "peak_bytes": peak_bytes(),
        "committed": tally.shards,
        "missing": len(missing),
    }


def commit_step(folder: Path, *, half: bool = False) -> dict[str, Any]:
    """Commit every shard of run 0001 that is not yet, and close it, as its actors and its driver would; or half."""
    runs = Runs(open_store(parse(str(folder / "out"))))
    plan = runs.plan("0001")
    _, missing = take_stock(runs, plan)
    work = WorkReader(runs.store, plan.work)
    names = [task.name for task in plan.tasks()]
    for shard in missing[: len(missing) // 2] if half else missing:
        rows = result_rows(work.rows(shard), plan.run_id)
        counts = summarise(rows, names)
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
    if not half:
        runs.close(plan.run_id, {"run_id": plan.run_id, "job": plan.spec.job, "state": "done"})
    return {"shards": plan.shards}


def compact_step(folder: Path) -> dict[str, Any]:
    """What `winnow compact` does."""
    start = time.process_time()
    compact(open_store(parse(str(folder / "out"))), silent, lambda: datetime.now(UTC))
    return {"cpu_seconds": time.process_time() - start, "peak_bytes": peak_bytes()}


def result_rows(work: pa.Table, run_id: str) -> pa.Table:
    """Rows as a pipeline makes them, every item done."""
    count = work.num_rows
    schema = result_schema(FIELDS)
    rng = np.random.default_rng(work["shard"][0].as_py())
    vectors = pa.array(rng.random(count * VECTOR, np.float32).astype(np.float16))
    own = {
        "kind": pa.array(np.array(["tin", "jar", "box"])[rng.integers(0, 3, count)], pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(vectors, VECTOR),
    }
    columns = {name: work[name].combine_chunks() for name in (*SNAPSHOT.names, "shard")} | {
        "content_sha256": pa.array([item * 2 for item in work["item_id"].to_pylist()]),
        "format": pa.array(["jpeg"] * count),
        "width": pa.array(np.full(count, 800, np.int32)),
        "height": pa.array(np.full(count, 600, np.int32)),
        "outcome": pa.array(["done"] * count),
        "reason": pa.nulls(count, pa.string()),
        "failed_tasks": pa.array([[]] * count, pa.list_(pa.string())),
        "copied_from": pa.nulls(count, pa.string()),
        "run_id": pa.array([run_id] * count),
    }
    for name, fields in FIELDS.items():
        kind = prediction_type(fields)
        known = {
            "model": pa.array(["builtin:fingerprint"] * count),
            "score": pa.array(rng.random(count, np.float32)),
            "score_kind": pa.array(["softmax"] * count),
            fields[0].name: own[name],
        }
        values = [known[field.name] if field.name in known else pa.nulls(count, field.type) for field in kind]
        columns[name] = pa.StructArray.from_arrays(values, fields=list(kind))
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def peak_bytes() -> int:
    """The most resident memory that this process ever had (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell a process its peak memory")


def one_step(name: str, folder: Path, items: int) -> dict[str, Any]:
    """Do one of STEPS, in this process."""
    match name:
        case "first" | "night":
            return plan_step(folder, items, night=name == "night")
        case "half" | "commit":
            return commit_step(folder, half=name == "half")
        case "resume":
            return resume_step(folder)
        case "compact":
            return compact_step(folder)
        case _:
            return {"peak_bytes": peak_bytes()}


def step(name: str, folder: Path, items: int, module: str = "planning") -> dict[str, Any]:
    """Run one step in a process of its own."""
    command = [sys.executable, "-m", f"tests.benchmarks.engine.{module}", "--step", name]
    command += ["--folder", str(folder), "--items", str(items)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def measure(folder: Path, items: int) -> Iterator[dict[str, Any]]:
    """Every point."""
    base = step("nothing", folder, items)["peak_bytes"]
    first = step("first", folder, items)
    step("half", folder, items)
    resumed = step("resume", folder, items)
    step("commit", folder, items)
    night = step("night", folder, items)
    compaction = step("compact", folder, items)
    after = step("night", folder, items)
    ratio = (night["cpu_seconds"] / night["listed"]) / (first["cpu_seconds"] / first["listed"])
    steps = {"first plan": first, "resume": resumed, "1 %-new night": night, "night after a compaction": after}
    for name, one in steps.items():
        yield {
            "point": f"7, planning memory, {name}",
            "figure": f"{one['peak_bytes'] / 2**20:.0f} MiB peak ({base / 2**20:.0f} MiB of it is the program itself)",
            "target": "2048 MiB at 10,000,000 items",
            "holds": one["peak_bytes"] <= MEMORY_TARGET_BYTES,
        }
    yield {
        "point": "7, planning cost, first plan",
        "figure": f"{_cost_text(first)}; {first['due']} due in {first['shards']} shards",
        "target": f"{COST_TARGET_US} us of CPU an item, without the listing",
        "holds": _cost_us(first) <= COST_TARGET_US and first["due"] == items,
    }
    yield {
        "point": "7, the parts of a plan, which stay in the bucket",
        "figure": f"{night['snapshot_bytes'] / night['listed']:.1f} bytes an item for the snapshot of every night "
        f"with work, {first['work_bytes'] / first['due']:.1f} for the work, of what is due",
        "target": "reported only",
        "holds": None,
    }
    yield {
        "point": "7, planning cost, resume with half of the shards committed",
        "figure": f"{resumed['cpu_seconds'] / items * 1e6:.2f} us of CPU an item, "
        f"{resumed['cpu_seconds'] / max(1, resumed['committed']) * 1e3:.2f} ms a committed shard, "
        f"{resumed['seconds']:.1f} s of wall time; {resumed['committed']} committed, {resumed['missing']} missing",
        "target": "less than the first plan, every shard accounted for",
        "holds": resumed["cpu_seconds"] < first["cpu_seconds"]
        and resumed["committed"] + resumed["missing"] == first["shards"],
    }
    yield {
        "point": "7, planning cost, 1 %-new night",
        "figure": f"{_cost_text(night)}; {night['due']} due; {ratio:.2f} of the first plan's CPU",
        "target": f"{NIGHT_TARGET_RATIO} of the first plan's CPU",
        "holds": ratio <= NIGHT_TARGET_RATIO and night["due"] == night["listed"] - items == -(-items // NEW_SHARE),
    }
    yield {
        "point": "7, planning cost, the same night after a compaction",
        "figure": f"{_cost_text(after)}; {after['due']} due; "
        f"{_cost_us(after) / _cost_us(night):.2f} of the cost without; "
        f"the compaction itself: {compaction['cpu_seconds'] / items * 1e6:.1f} us of CPU an item, "
        f"{compaction['peak_bytes'] / 2**20:.0f} MiB peak",
        "target": "less than without, the same items due",
        "holds": _cost_us(after) < _cost_us(night) and after["due"] == night["due"],
    }


def _cost_us(one: dict[str, Any]) -> float:
    """CPU time of an item, without the listing (which is synthetic): what other processes do does not change it."""
    return float(one["cpu_seconds"] - one["listing_cpu_seconds"]) / float(one["listed"]) * 1e6


def _cost_text(one: dict[str, Any]) -> str:
    listing, wall = (one[name] / one["listed"] * 1e6 for name in ("listing_cpu_seconds", "seconds"))
    return f"{_cost_us(one):.2f} us of CPU an item beside {listing:.2f} us for the listing, {wall:.2f} us of wall time"


def main() -> int:
    """Run it; 0 whether it holds or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="where the output is made (a temporary folder by default)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        answer = one_step(options.step, options.folder, options.items)
        sys.stdout.write(json.dumps(answer) + "\n")
        return 0
    setup = f"{options.items} items, {os.cpu_count()} cores, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        lines = [line | {"setup": setup} for line in measure(Path(scratch), options.items)]
    for line in lines:
        sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
