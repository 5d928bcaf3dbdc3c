"""How is a whole run over a bucket made, with a bad network or a good one, and what must be true of it then?"""

import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from tests.servers.faulty_s3 import Fault, Kind, Plan, S3Request, seeded
from winnow_jobs.begin import begin_or_go_on, open_runs
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.run import Tally, _worker_config, finish
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.uri import parse
from winnow_workers.pipeline import Pipeline

RATES = {
    Kind.SLOW_DOWN: 0.05,
    Kind.INTERNAL: 0.03,
    Kind.CONFLICT: 0.05,
    Kind.RESET_BEFORE: 0.04,
    Kind.RESET_AFTER: 0.05,
    Kind.LIE: 0.05,
    Kind.CUT: 0.04,
    Kind.SHORTEN: 0.04,
    Kind.CORRUPT: 0.04,
    Kind.CORRUPT_SENT: 0.03,
    Kind.STALL_BEFORE: 0.02,
    Kind.STALL_AFTER: 0.03,
}
AFTER_IT_WAS_DONE = (Kind.RESET_AFTER, Kind.LIE, Kind.STALL_AFTER)


def faults(seed: int, *, rates: Mapping[Kind, float], stall_s: float) -> Plan:
    """Seeded ones, where they can happen.

    Only conditional puts are in conflict; what no digest vouches for (a listing, a range) is not damaged silently, for
    TLS is against that.
    """
    by_chance = seeded(seed, rates, stall_s=stall_s)

    def plan(request: S3Request) -> Fault | None:
        fault = by_chance(request)
        match fault:
            case Fault(Kind.CORRUPT) if request.key == "" or "range" in request.headers:
                return None
            case Fault(Kind.CONFLICT) if not request.conditional:
                return None
        return fault

    return plan


def rows(output: str) -> pa.Table:
    """Of the first run, sorted by key."""
    return read_results(open_store(parse(output)), "0001").sort_by("key")


def assert_sound(output: str) -> None:
    """`winnow verify` finds nothing in the first run, and it has one row per item."""
    check = verify_run(Runs(open_store(parse(output))), "0001")
    assert (check.findings, check.state) == ([], "done")
    assert set(Counter(rows(output)["key"].to_pylist()).values()) == {1}


def are_alike(one: object, other: object) -> bool:
    """Equal, numbers within 1e-5: an actor has other threads than this process, and so a kernel other last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, abs_tol=1e-5)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(are_alike, one, other))
    return one == other


def run_in_this_process(spec: Path) -> None:
    """A whole run without Ray: begun, every shard worked through, closed."""
    resolved = resolve_spec(load_spec(spec))
    runs = open_runs(resolved)
    plan, _ = begin_or_go_on(runs, resolved, Selection(), new=False, now=lambda: datetime.now(UTC))
    assert plan is not None
    pipeline = Pipeline(_worker_config(plan, plan.spec, actors=1))
    pipeline.open()
    for shard in range(plan.shards):
        pipeline.run_shard(shard)
    pipeline.close()
    tally = Tally()
    for _, receipt in runs.receipts(plan.run_id):
        tally.add(receipt, now=True)
    finish(runs, plan, tally, 1.0)
