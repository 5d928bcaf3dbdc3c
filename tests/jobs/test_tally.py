"""What receipts add up to, and when their faults stop a run."""

from string import ascii_lowercase

import pyarrow as pa
import pytest

from tests.servers.scripted import refusing_s3
from winnow_jobs.run import Tally, stop_if_systemic
from winnow_storage.errors import RunFailed
from winnow_storage.schemas import result_schema
from winnow_storage.shards import Receipt
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetcher, Item
from winnow_workers.rows import build_row, summarise


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


def test_stop_if_systemic__what_a_bucket_refuses_is_one_error_whatever_the_images_are_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the answer of the store to the end of the run."""
    of = ("Anna's", 'the "best"', "夏 の")
    keys = [f"My Photos/{whose} {letter * 2} Sunset é.jpg" for whose in of for letter in ascii_lowercase[:18]]
    said = "arn:aws:kms:eu-west-1:1:key/0-1 is disabled."
    with refusing_s3(monkeypatch, 400, "KMS.DisabledException", said):
        fetcher = Fetcher(DecodeLimits())
        items = [Item(key, key, f"s3://bucket/{key}", "v", 1, frozenset()) for key in keys]
        fetched = [fetcher.fetch(item, needed_side_px=None) for item in items]
    rows = [build_row(one, {}, operators={}, run_id="0007", shard=0) for one in fetched]
    counts = summarise(pa.Table.from_pylist(rows, schema=result_schema({})), ())
    assert counts.outcomes == {"unavailable": len(keys)}
    tally = Tally()
    tally.add(receipt(0, counts.outcomes, counts.faults), now=True)
    with pytest.raises(RunFailed) as caught:
        stop_if_systemic("0007", tally)
    assert f"{len(keys)} of the {len(keys)} images seen ended the same way" in caught.value.message
    assert "KMS.DisabledException" in caught.value.message
