"""What receipts add up to, and when their faults stop a run."""

import pytest

from winnow_jobs.run import Tally, stop_if_systemic
from winnow_storage.errors import RunFailed
from winnow_storage.shards import Receipt


def receipt(shard: int, outcomes: dict[str, int], faults: dict[str, int]) -> Receipt:
    return Receipt(
        run_id="0001", shard=shard, job="j", plan_digest="p", items_digest="i", code_version="0", attempt="a",
        outcomes=outcomes, predictions={"kind": 1}, errors={"kind": 2}, models={}, bytes=10, seconds={"kind": 0.5},
        faults=faults,
    )  # fmt: skip


def test_tally__adds_up_receipts_of_this_driver_and_of_earlier_ones() -> None:
    tally = Tally()
    tally.add(receipt(0, {"done": 7, "failed": 1}, {"failed: x": 1}), now=False)
    tally.add(receipt(1, {"done": 8}, {}), now=True)
    assert (tally.shards, tally.items, tally.items_now, tally.bytes) == (2, 16, 8, 20)
    assert dict(tally.outcomes) == {"done": 15, "failed": 1}
    assert (tally.predictions["kind"], tally.errors["kind"], tally.seconds["kind"]) == (2, 4, 1.0)
    assert not tally.faults_now


def test_stop_if_systemic__what_hits_many_is_not_their_fault() -> None:
    tally = Tally()
    error = "failed: kind: RuntimeError: mat1 and mat2 shapes cannot be multiplied"
    tally.add(receipt(0, {"done": 400, "failed": 49}, {error: 49}), now=True)
    stop_if_systemic("0007", tally)
    tally.add(receipt(1, {"failed": 3}, {error: 3}), now=True)
    with pytest.raises(RunFailed) as caught:
        stop_if_systemic("0007", tally)
    assert "52 of the 452 images seen ended the same way" in caught.value.message
    assert error in caught.value.message
    assert "--retry failed" in str(caught.value.hint)


def test_stop_if_systemic__images_that_cannot_be_fetched_need_no_retry() -> None:
    tally = Tally()
    tally.add(receipt(0, {"unavailable": 80}, {"unavailable: no answer": 80}), now=True)
    with pytest.raises(RunFailed) as caught:
        stop_if_systemic("0007", tally)
    assert "taken again by the run after it" in str(caught.value.hint)


def test_stop_if_systemic__what_an_earlier_driver_met_does_not_stop_this_one() -> None:
    tally = Tally()
    tally.add(receipt(0, {"failed": 300}, {"failed: x": 300}), now=False)
    tally.add(receipt(1, {"done": 10}, {}), now=True)
    stop_if_systemic("0007", tally)
