"""What a shard's rows add up to."""

import pyarrow as pa
import pytest

from winnow_storage.listing import ABSENT
from winnow_storage.schemas import result_schema
from winnow_workers.rows import FAULTS, summarise

SCHEMA = result_schema({})


def rows_of(*ended: tuple[str, str | None], version: str = "v") -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "item_id": str(number), "key": str(number), "uri": f"file:///{number}", "version": version,
                "outcome": outcome, "reason": reason, "failed_tasks": [], "run_id": "0001", "shard": 0, "bytes": 3,
            }
            for number, (outcome, reason) in enumerate(ended)
        ],
        schema=SCHEMA,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("kind: RuntimeError: size 17 at index 3", "kind: RuntimeError: size 9 at index 120"),
        ("cannot read s3://bucket/a b.jpg: SlowDown", "cannot read s3://bucket/c b.jpg: SlowDown"),
        ("KeyError: 'left'", "KeyError: 'right'"),
    ],
)
def test_summarise__the_same_error_of_different_items_is_one_fault(one: str, other: str) -> None:
    faults = summarise(rows_of(("failed", one), ("failed", other), ("done", None)), ()).faults
    assert list(faults.values()) == [2]


def test_summarise__what_is_the_items_own_is_no_fault() -> None:
    rows = rows_of(("unreadable", "damaged"), ("rejected", "too big"), ("done", None))
    assert summarise(rows, ()).faults == {}
    assert summarise(rows, ()).bytes == 9


def test_summarise__items_that_were_listed_and_are_gone_are_one_fault() -> None:
    rows = rows_of(("missing", "not there"), ("missing", "not there"), ("done", None))
    assert summarise(rows, ()).faults == {"missing: not there": 2}


def test_summarise__what_was_never_there_is_no_fault() -> None:
    rows = rows_of(("missing", "not there"), ("missing", "not there"), version=ABSENT)
    assert summarise(rows, ()).faults == {}
    assert summarise(rows, ()).outcomes == {"missing": 2}


def test_summarise__a_shard_of_many_errors_keeps_the_most_frequent() -> None:
    names = [f"{letter * 3}Error: x" for letter in "ABCDEFGHIJKL"]
    rows = rows_of(*(("failed", name) for number, name in enumerate(names) for _ in range(number + 1)))
    faults = summarise(rows, ()).faults
    assert len(faults) == FAULTS
    assert max(faults.values()) == len(names)
    assert min(faults.values()) == len(names) - FAULTS + 1
