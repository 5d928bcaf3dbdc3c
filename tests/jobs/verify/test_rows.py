"""What a shard's rows may and may not say, beyond what one sound run shows."""

from typing import Any

import pyarrow as pa

from winnow_jobs.verify.findings import Wrong
from winnow_jobs.verify.rows import Expected, receipt_problems, replaced_count, row_problems, schema_problems
from winnow_storage.schemas import RESULT_COMMON, WORK, result_schema
from winnow_storage.shards import Receipt
from winnow_workers.rows import summarise

TASKS = ("kind", "text")
SCHEMA = result_schema({name: [pa.field("label", pa.string())] for name in TASKS})
GOOD = {"model": "m", "label": "a", "error": None}
BAD = {"model": "m", "label": None, "error": "ValueError: no"}


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A row that is done, with both tasks."""
    sound = {
        "item_id": f"i{number}", "key": f"{number}.jpg", "uri": f"s3://b/{number}.jpg", "version": "v", "bytes": 7,
        "outcome": "done", "reason": None, "failed_tasks": [], "run_id": "0001", "shard": 0, "kind": GOOD, "text": GOOD,
    }  # fmt: skip
    return sound | changes


def expected_of(*rows: dict[str, Any], due: dict[str, list[str]] | None = None, known: bool = True) -> Expected:
    """What the plan says of a shard whose items were listed as these rows are."""
    work = [
        {name: one[name] for name in ("item_id", "key", "uri", "version", "bytes")}
        | {"shard": 0, "tasks": (due or {}).get(one["item_id"], list(TASKS))}
        for one in rows
    ]
    table = pa.Table.from_pylist(work, schema=WORK) if known else None
    return Expected("0001", 0, "job", dict.fromkeys(TASKS, "m"), table)


def problems(*rows: dict[str, Any], due: dict[str, list[str]] | None = None, known: bool = True) -> list[str]:
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    return list(row_problems(table, expected_of(*rows, due=due, known=known)))


def test_row_problems__every_way_to_end_is_sound() -> None:
    ended = [
        row(number, outcome=outcome, reason="because", kind=None, text=None)
        for number, outcome in enumerate(("unreadable", "missing", "rejected", "unavailable"), start=1)
    ]
    failed = row(5, outcome="failed", reason="kind: ValueError: no", failed_tasks=["kind"], kind=BAD)
    assert problems(row(0), *ended, failed) == []
    assert problems(row(0, kind=None), due={"i0": ["text"]}) == []
    assert problems(row(0), *ended, failed, known=False) == []


def test_row_problems__a_struct_is_there_exactly_where_its_task_ran() -> None:
    assert problems(row(0), due={"i0": ["text"]}) == [
        "predictions of kind, which was not due for the item: 1, such as '0.jpg'"
    ]
    assert problems(row(0, kind=None)) == [
        "rows that ended done without a prediction of kind, which was due: 1, such as '0.jpg'"
    ]
    failed = row(0, outcome="failed", reason="x", failed_tasks=["kind"], kind=BAD, text=None)
    assert problems(failed) == [
        "rows that ended failed without a prediction of text, which was due: 1, such as '0.jpg'"
    ]
    missing = row(0, outcome="missing", reason="x", kind=None)
    assert problems(missing) == ["rows that ended missing and have a prediction: 1, such as '0.jpg'"]


def test_row_problems__outcomes_reasons_and_failed_tasks_agree() -> None:
    assert problems(row(0, reason="x")) == [
        "rows that are done with a reason, or not done without one: 1, such as '0.jpg'"
    ]
    assert problems(row(0, failed_tasks=["kind"])) == [
        "rows whose failed_tasks are not the tasks with an error: 1, such as '0.jpg'"
    ]
    assert problems(row(0, outcome="failed", reason="x")) == [
        "rows that failed, but no task of theirs did: 1, such as '0.jpg'"
    ]


def test_row_problems__says_how_many_and_names_a_few() -> None:
    many = [row(number, run_id="0002") for number in range(9)]
    assert problems(*many) == ["rows that name another run or shard: 9, such as '0.jpg', '1.jpg', '2.jpg'"]


def test_row_problems__a_version_is_that_of_the_bytes_or_the_listings() -> None:
    missing = {"outcome": "missing", "reason": "x", "kind": None, "text": None}
    expected = expected_of(row(0), row(1), row(2))
    read = pa.Table.from_pylist([row(0), row(1, version="newer", content_sha256="d"), row(2, **missing)], schema=SCHEMA)
    assert (list(row_problems(read, expected)), replaced_count(read, expected)) == ([], 1)
    assert replaced_count(read, expected_of(row(0), row(1), row(2), known=False)) == 0
    unread = pa.Table.from_pylist([row(0), row(1), row(2, version="newer", **missing)], schema=SCHEMA)
    assert list(row_problems(unread, expected)) == [
        "rows without bytes whose version is not the work's: 1, such as '2.jpg'"
    ]
    assert replaced_count(unread, expected) == 0
    moved = pa.Table.from_pylist([row(0), row(1), row(2, uri="s3://b/9.jpg")], schema=SCHEMA)
    assert list(row_problems(moved, expected)) == ["rows whose key or uri is not the work's: 1, such as '2.jpg'"]


def test_receipt_problems__zeros_may_be_left_out() -> None:
    rows = pa.Table.from_pylist([row(0), row(1)], schema=SCHEMA)
    counts = summarise(rows, TASKS)
    expected = Expected("0001", 0, "job", {"kind": "m", "text": "m"}, None)
    receipt = Receipt(
        run_id="0001", shard=0, job="job", plan_digest="p", items_digest=counts.items_digest, code_version="0",
        attempt="a", outcomes={"done": 2, "failed": 0}, predictions={"kind": 2, "text": 2}, errors={},
        models={"kind": "m", "text": "m"}, bytes=14, seconds={},
    )  # fmt: skip
    assert list(receipt_problems(receipt, rows, expected)) == []
    assert list(receipt_problems(receipt, rows.slice(1), expected)) != []


def test_schema_problems__a_task_begins_with_the_common_fields() -> None:
    models = dict.fromkeys(TASKS, "m")
    assert list(schema_problems(SCHEMA, models)) == []
    bare = pa.schema(
        [*RESULT_COMMON, pa.field("kind", pa.struct([pa.field("label", pa.string())])), SCHEMA.field("text")]
    )
    (said,) = schema_problems(bare, models)
    assert said.startswith("the column kind is no prediction: it does not begin with model, preproc, score,")
    assert list(schema_problems(SCHEMA.remove(len(SCHEMA) - 1), models)) != []


def test_wrong() -> None:
    wrong = Wrong()
    assert list(wrong.sentences()) == []
