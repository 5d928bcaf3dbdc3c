"""The documents of runs in a store: plans, receipts, and how a run is claimed."""

from pathlib import Path

import pytest

from tests.jobs.histories import Row, add_run, spec
from winnow_jobs.runs import Runs, plan_key
from winnow_storage.blobs import open_store
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.uri import parse


@pytest.fixture(params=["folder", "s3"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Runs:
    place = str(tmp_path / "out") if request.param == "folder" else request.getfixturevalue("s3_bucket") + "/out"
    return Runs(open_store(parse(place)))


def test_receipts__of_the_committed_shards_in_order(runs: Runs, tmp_path: Path) -> None:
    shards = [[Row(f"{shard:02d}-{item}") for item in range(1 + shard % 3)] for shard in range(70)]
    plan = add_run(runs, spec(tmp_path), [None if number % 7 == 3 else rows for number, rows in enumerate(shards)])
    found = list(runs.receipts(plan.run_id))
    assert [shard for shard, _ in found] == [number for number in range(70) if number % 7 != 3]
    for shard, receipt in found:
        assert (receipt.shard, receipt.plan_digest) == (shard, plan.digest)
        assert receipt.outcomes == {"done": len(shards[shard])}


def test_receipts__none_of_a_run_that_has_committed_nothing(runs: Runs, tmp_path: Path) -> None:
    plan = add_run(runs, spec(tmp_path), [None])
    assert list(runs.receipts(plan.run_id)) == []


def test_plans__oldest_first_and_only_of_runs_that_were_begun(runs: Runs, tmp_path: Path) -> None:
    assert (runs.plans(), runs.ids(), runs.newest()) == ([], [], None)
    plans = [add_run(runs, spec(tmp_path), [[Row("a")]]) for _ in range(11)]
    runs.store.put_if_absent("runs/0012/due/00000-of-a-driver-that-died.parquet", b"")
    assert runs.plans() == plans
    assert runs.ids() == [f"{number:04d}" for number in range(1, 12)]
    assert runs.newest() == "0011"
    assert runs.plan("0002") == plans[1]


def test_begin__one_driver_wins(runs: Runs, tmp_path: Path) -> None:
    plan = add_run(runs, spec(tmp_path), [])
    other = plan.model_copy(update={"code_version": "other"})
    part = tmp_path / "part"
    part.write_bytes(b"content")
    assert not runs.begin(other, [("runs/0001/due/a.parquet", part)])
    assert runs.plan("0001") == plan


def test_plan__says_when_another_version_wrote_it(tmp_path: Path) -> None:
    runs = Runs(open_store(parse(str(tmp_path / "out"))))
    with pytest.raises(UsageError, match="has no run 0001"):
        runs.plan("0001")
    runs.store.put_if_absent(plan_key("0001"), b'{"format": 1, "run_id": "0001"}')
    with pytest.raises(StoreError, match="is not a plan that this version of Winnow understands"):
        runs.plan("0001")
