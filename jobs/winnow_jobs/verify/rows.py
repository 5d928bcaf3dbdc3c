"""Are a shard's rows what its plan, its work and its receipt say? Pure: tables in, what is wrong out."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.verify.findings import Wrong
from winnow_storage.schemas import PREDICTION_COMMON, RESULT_COMMON, Outcome
from winnow_storage.shards import Receipt
from winnow_workers.rows import summarise

ENDED_WITHOUT_TASKS = (Outcome.UNREADABLE, Outcome.MISSING, Outcome.REJECTED, Outcome.UNAVAILABLE)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the plan says of one shard."""

    run_id: str
    shard: int
    job: str
    models: Mapping[str, str]  # task -> digest, in the order of the columns
    work: pa.Table | None  # schemas.WORK; None where it cannot be read


def schema_problems(schema: pa.Schema, tasks: Mapping[str, str]) -> Iterator[str]:
    """Columns that a run of these tasks does not have, or has with another type."""
    wanted = [*RESULT_COMMON.names, *tasks]
    if schema.names != wanted:
        yield f"its columns are {', '.join(schema.names)}; the plan's are {', '.join(wanted)}"
        return
    for field in RESULT_COMMON:
        if schema.field(field.name) != field:
            yield f"the column {field.name} is {schema.field(field.name).type}, not {field.type}"
    for name in tasks:
        kind = schema.field(name).type
        if not pa.types.is_struct(kind) or list(kind)[: len(PREDICTION_COMMON)] != list(PREDICTION_COMMON):
            common = ", ".join(field.name for field in PREDICTION_COMMON)
            yield f"the column {name} is no prediction: it does not begin with {common}"


def receipt_problems(receipt: Receipt, rows: pa.Table, expected: Expected) -> Iterator[str]:
    """Numbers and digests of the receipt that are not those of the rows or the plan."""
    counts = summarise(rows, tuple(expected.models), _stored(expected.work))
    for name in ("outcomes", "predictions", "errors"):
        said, found = without_zeros(getattr(receipt, name)), without_zeros(getattr(counts, name))
        if said != found:
            yield f"its receipt says {name} {said}, its rows add up to {found}"
    of_work = () if expected.work is None and receipt.from_vectors else ("bytes", "from_vectors")
    for name in (*of_work, "copied", "items_digest"):
        said, found = getattr(receipt, name), getattr(counts, name)
        if said != found:
            yield f"its receipt says {name} {said}, its rows add up to {found}"
    if dict(receipt.models) != dict(expected.models):
        yield f"its receipt names the models {dict(receipt.models)}, the plan {dict(expected.models)}"


def _stored(work: pa.Table | None) -> list[str]:
    """The items of which nothing had to be fetched."""
    return [] if work is None else list(work.filter(pc.is_valid(work["vectors"]))["item_id"].to_pylist())


def row_problems(rows: pa.Table, expected: Expected) -> Iterator[str]:
    """Rows that are doubled, missing, of another item, or that contradict themselves."""
    wrong = Wrong()
    listed = rows.to_pylist()
    for row in listed:
        if (row["run_id"], row["shard"]) != (expected.run_id, expected.shard):
            wrong.add("rows that name another run or shard", row["key"])
        for what in _contradictions(row, expected.models):
            wrong.add(what, row["key"])
    for item, count in Counter(row["item_id"] for row in listed).items():
        if count > 1:
            wrong.add("items with more than one row", item)
    if expected.work is not None:
        _against_work(listed, expected.work.to_pylist(), wrong)
    yield from wrong.sentences()


def replaced_count(rows: pa.Table, expected: Expected) -> int:
    """How many rows are of bytes that came in another version than the work's: their objects were replaced since."""
    if expected.work is None:
        return 0
    listed = dict(zip(expected.work["item_id"].to_pylist(), expected.work["version"].to_pylist(), strict=True))
    columns = (rows[name].to_pylist() for name in ("item_id", "version", "content_sha256"))
    return sum(
        content is not None and version != listed.get(item, version)
        for item, version, content in zip(*columns, strict=True)
    )


def _against_work(rows: list[Row], work: list[Row], wrong: Wrong) -> None:
    due = {item["item_id"]: item for item in work}
    for row in rows:
        item = due.get(row["item_id"])
        if item is None:
            wrong.add("rows of items that this shard's work does not have", row["key"])
            continue
        if any(row[name] != item[name] for name in ("key", "uri")):
            wrong.add("rows whose key or uri is not the work's", row["key"])
        # the version of a row with a digest is that of the bytes, which may be newer than the listing
        if row["content_sha256"] is None and row["version"] != item["version"]:
            wrong.add("rows without bytes whose version is not the work's", row["key"])
        if row["copied_from"] is not None and item["leader"] is None:
            wrong.add("copied rows of items that are no copies by the work", row["key"])
        for what in _wrong_tasks(row, set(item["tasks"])):
            wrong.add(what, row["key"])
    there = {row["item_id"] for row in rows}
    for item_id, item in due.items():
        if item_id not in there:
            wrong.add("items of this shard's work without a row", item["key"])


def _contradictions(row: Row, models: Mapping[str, str]) -> Iterator[str]:
    outcome = row["outcome"]
    if outcome not in tuple(Outcome):
        yield f"rows with the outcome {outcome!r}, which is none"
    elif (outcome == Outcome.DONE) != (row["reason"] is None):
        yield "rows that are done with a reason, or not done without one"
    ran = {task: row[task] for task in models if row[task] is not None}
    failed = {task for task, struct in ran.items() if struct["error"] is not None}
    if outcome in ENDED_WITHOUT_TASKS and ran:
        yield f"rows that ended {outcome} and have a prediction"
    if outcome != Outcome.DONE and row["copied_from"] is not None:
        yield f"rows that ended {outcome} and are copied"
    if outcome == Outcome.DONE and failed:
        yield "rows that are done although a task failed"
    if failed != set(row["failed_tasks"]):
        yield "rows whose failed_tasks are not the tasks with an error"
    if outcome == Outcome.FAILED and not failed:
        yield "rows that failed, but no task of theirs did"
    for task, struct in ran.items():
        if struct["model"] != models[task]:
            yield f"predictions of {task} by the model {struct['model']}, where the plan pins {models[task]}"


def _wrong_tasks(row: Row, due: set[str]) -> Iterator[str]:
    """A struct is null exactly where its task never ran: not due, or the item ended before it."""
    there = {task for task, value in row.items() if isinstance(value, dict) and value}
    for task in sorted(there - due):
        yield f"predictions of {task}, which was not due for the item"
    if row["outcome"] in (Outcome.DONE, Outcome.FAILED):
        for task in sorted(due - there):
            yield f"rows that ended {row['outcome']} without a prediction of {task}, which was due"


def without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    """Only what happened: whether the rest is written as zero or left out says nothing."""
    return {str(name): count for name, count in sorted(counts.items()) if count}
