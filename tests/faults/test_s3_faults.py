"""A whole run over a bucket behind a bad network: the same rows as over the server itself, each of them once.

Refusals, resets before and after, broken-off and damaged answers, stalls beyond the client's time-out, and success
that is reported as failure, all at once and by a seed.
"""

import math
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.e2e.winnow import photographs, winnow, write_spec
from tests.servers.faulty_s3 import Fault, Kind, Plan, S3Request, faulty_s3, seeded
from tests.servers.s3 import S3Server
from winnow_jobs.begin import begin_or_go_on, open_runs
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.run import Tally, _worker_config, finish
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.verify.run import verify_run
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.s3_store import S3Store
from winnow_storage.uri import parse
from winnow_workers.pipeline import Pipeline

SEED, ROUNDS = 1, 8
ITEMS, SHARD_ITEMS = 48, 4
READ_TIMEOUT_S = 0.5
STALL_S = 0.8
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


@pytest.fixture
def corpus(s3_client: Any, s3_bucket: str, tmp_path: Path) -> str:
    """`s3://BUCKET` with ITEMS images below corpus/."""
    for path in photographs(tmp_path / "photos", ITEMS):
        key = f"corpus/{path.name}"
        s3_client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())
    return s3_bucket


def faults(seed: int, *, rates: dict[Kind, float]) -> Plan:
    """Seeded ones, where they can happen.

    Only conditional puts are in conflict; what no digest vouches for (a listing, a range) is not damaged silently, for
    TLS is against that.
    """
    by_chance = seeded(seed, rates, stall_s=STALL_S)

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
    return read_results(open_store(parse(output)), "0001").sort_by("key")


def assert_sound(output: str) -> None:
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


def test_pipeline__the_rows_of_a_bad_network_are_those_of_a_good_one(
    s3: S3Server, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(S3Store.__init__.__kwdefaults__, "read_timeout_s", READ_TIMEOUT_S)
    run_in_this_process(spec_for(tmp_path, corpus, "good"))
    struck, struck_commits = set(), set()
    for seed in range(SEED, SEED + ROUNDS):  # the bucket has another name each time, so the dice fall differently
        bad = f"bad-{seed}"
        with faulty_s3(s3, faults(seed, rates=RATES)) as proxy:
            with monkeypatch.context() as patch:
                patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
                run_in_this_process(spec_for(tmp_path, corpus, bad))
            puts = [one for one in proxy.log if one.request.method == "PUT" and "/results/" in one.request.key]
            struck_commits |= {one.fault.kind for one in puts if one.fault is not None}
            struck |= set(proxy.done)
        assert_sound(f"{corpus}/{bad}")
        assert rows(f"{corpus}/{bad}").equals(rows(f"{corpus}/good"))
        if set(RATES) <= struck and struck_commits & set(AFTER_IT_WAS_DONE):
            break
    assert struck_commits & set(AFTER_IT_WAS_DONE)
    assert set(RATES) <= struck, f"kinds that never happened: {set(RATES) - struck}"


@pytest.mark.long
def test_run__a_bad_network_below_real_actors(s3: S3Server, corpus: str, tmp_path: Path) -> None:
    run_in_this_process(spec_for(tmp_path, corpus, "good"))
    without_stalls = {kind: rate for kind, rate in RATES.items() if kind not in (Kind.STALL_BEFORE, Kind.STALL_AFTER)}
    with faulty_s3(s3, faults(SEED, rates=without_stalls)) as proxy:
        environ = {"AWS_ENDPOINT_URL": proxy.endpoint_url}
        bad = winnow("run", spec_for(tmp_path, corpus, "bad"), "--json", cwd=tmp_path, environ=environ)
        assert (bad.code, bad.record["outcomes"]["done"]) == (0, ITEMS), bad.err
        assert {kind for kind in AFTER_IT_WAS_DONE if kind in without_stalls} <= set(proxy.done)
    assert_sound(f"{corpus}/bad")
    assert are_alike(rows(f"{corpus}/bad").to_pylist(), rows(f"{corpus}/good").to_pylist())


@pytest.mark.long  # the client waits 20 s for each of these answers
def test_run__stalls_of_half_a_minute_below_real_actors(s3: S3Server, corpus: str, tmp_path: Path) -> None:
    run_in_this_process(spec_for(tmp_path, corpus, "good"))
    stalled = {
        ("GET", ""): Kind.STALL_AFTER,  # the listing
        ("GET", "corpus/0003.jpg"): Kind.STALL_BEFORE,
        ("GET", "corpus/0008.png"): Kind.STALL_AFTER,
        ("PUT", "bad/runs/0001/plan.json"): Kind.STALL_AFTER,
        ("PUT", "bad/runs/0001/results/00000002.parquet"): Kind.STALL_BEFORE,
        ("PUT", "bad/runs/0001/results/00000003.parquet"): Kind.STALL_AFTER,
        ("PUT", "bad/runs/0001/summary.json"): Kind.STALL_BEFORE,
    }

    def plan(request: S3Request) -> Fault | None:
        kind = stalled.get((request.method, request.key)) if request.occurrence == 0 else None
        return None if kind is None else Fault(kind, stall_s=30.0)

    with faulty_s3(s3, plan) as proxy:
        environ = {"AWS_ENDPOINT_URL": proxy.endpoint_url}
        bad = winnow("run", spec_for(tmp_path, corpus, "bad"), "--json", cwd=tmp_path, environ=environ)
    assert (bad.code, bad.record["outcomes"]["done"]) == (0, ITEMS), bad.err
    struck = {(one.request.method, one.request.key): one.status for one in proxy.log if one.fault is not None}
    assert struck.keys() == stalled.keys()
    assert struck["PUT", "bad/runs/0001/results/00000002.parquet"] == 412  # the second try was there before
    assert_sound(f"{corpus}/bad")
    assert are_alike(rows(f"{corpus}/bad").to_pylist(), rows(f"{corpus}/good").to_pylist())


def spec_for(folder: Path, bucket: str, output: str) -> Path:
    place = folder / output
    place.mkdir()
    return write_spec(place, corpus=f"{bucket}/corpus/", output=f"{bucket}/{output}", shard_items=SHARD_ITEMS)
