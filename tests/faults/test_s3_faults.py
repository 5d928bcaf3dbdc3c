"""A whole run over a bucket behind a bad network: the same rows as over the server itself, each of them once.

Refusals, resets before and after, broken-off and damaged answers, stalls beyond the client's time-out, and success
that is reported as failure, all at once and by a seed.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.winnow import photographs, winnow, write_spec
from tests.faults.over_s3 import AFTER_IT_WAS_DONE, RATES, are_alike, assert_sound, faults, rows, run_in_this_process
from tests.servers.faulty_s3 import Fault, Kind, S3Request, faulty_s3
from tests.servers.s3 import S3Server
from winnow_storage.s3_store import S3Store

SEED, ROUNDS = 1, 8
ITEMS, SHARD_ITEMS = 48, 4
READ_TIMEOUT_S = 0.5
STALL_S = 0.8


@pytest.fixture
def corpus(s3_client: Any, s3_bucket: str, tmp_path: Path) -> str:
    """`s3://BUCKET` with ITEMS images below corpus/."""
    for path in photographs(tmp_path / "photos", ITEMS):
        key = f"corpus/{path.name}"
        s3_client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())
    return s3_bucket


def test_pipeline__the_rows_of_a_bad_network_are_those_of_a_good_one(
    s3: S3Server, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(S3Store.__init__.__kwdefaults__, "read_timeout_s", READ_TIMEOUT_S)
    run_in_this_process(spec_for(tmp_path, corpus, "good"))
    struck, struck_commits = set(), set()
    for seed in range(SEED, SEED + ROUNDS):  # the bucket has another name each time, so the dice fall differently
        bad = f"bad-{seed}"
        with faulty_s3(s3, faults(seed, rates=RATES, stall_s=STALL_S)) as proxy:
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
    with faulty_s3(s3, faults(SEED, rates=without_stalls, stall_s=STALL_S)) as proxy:
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
