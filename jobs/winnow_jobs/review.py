"""What is done with a run's predictions? Route them all, and write that to the bucket before anyone is asked."""

import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_annotation.routing import Candidate, Decision, route
from winnow_jobs.copies import repeated_rows
from winnow_jobs.runs import PlanDocument, encode_table
from winnow_storage.blobs import BlobStore
from winnow_storage.dataset import iter_results
from winnow_storage.errors import BlobMissing
from winnow_storage.ids import dedupe_key
from winnow_storage.parts import WorkReader
from winnow_storage.schemas import ROUTES, Route

TO_PEOPLE = (Route.REVIEW, Route.AUDIT, Route.CALIBRATE)
FIRST_ROUND = 1

Rows = dict[tuple[str, str], dict[str, Any]]  # (item_id, task) -> what a route says of it


def routes_key(run_id: str) -> str:
    """Where the decisions of a run stand."""
    return f"routes/{run_id}.parquet"


def read_routes(store: BlobStore, run_id: str) -> pa.Table | None:
    """The decisions of a run, None while it has none."""
    try:
        data = store.get(routes_key(run_id))
    except BlobMissing:
        return None
    return pq.read_table(pa.BufferReader(data), use_threads=False)


def count_routes(routes: pa.Table) -> dict[str, dict[str, int]]:
    """For each task, how many predictions took each route."""
    pairs = Counter(zip(routes["task"].to_pylist(), routes["route"].to_pylist(), strict=True))
    counts: dict[str, dict[str, int]] = {}
    for (task, name), count in sorted(pairs.items()):
        counts.setdefault(task, {})[name] = count
    return counts


def route_run(store: BlobStore, plan: PlanDocument) -> dict[str, Any]:
    """Route every prediction of a run whose shards are all committed; how many go where.

    The object is put if absent and its content follows from the rows alone, so doing it again changes nothing.
    """
    standing = read_routes(store, plan.run_id)
    if standing is None:
        standing = _decide_all(store, plan)
        store.put_if_absent(routes_key(plan.run_id), encode_table(standing))
    counts = count_routes(standing)
    selected = sum(count for routes in counts.values() for name, count in routes.items() if name in TO_PEOPLE)
    return {"selected": selected, "routes": counts}


def _decide_all(store: BlobStore, plan: PlanDocument) -> pa.Table:
    review = plan.spec.review
    rows: Rows = {}
    candidates: list[Candidate] = []
    for one in _predictions(store, plan):
        rows[one["item_id"], one["task"]] = one
        numbers = {"score": one["score"], "p_ok": one["p_ok"]}
        repeated = one.pop("is_repeated")
        candidates.append(Candidate(one["item_id"], one["task"], one["version"], **numbers, is_repeated=repeated))
    decisions = route(
        candidates,
        review.policies,
        budget=review.budget,
        audit=review.audit,
        seed=f"{plan.spec.job}\0{plan.run_id}",
    )
    for decision in decisions:
        _note(rows[decision.candidate.item_id, decision.candidate.task], decision, plan)
    _add_predictions(store, plan, rows)
    # the most urgent first, so that people get them in that order
    ordered = sorted(
        decisions, key=lambda one: (one.order is None, one.order, one.candidate.task, one.candidate.item_id)
    )
    return pa.Table.from_pylist([rows[one.candidate.item_id, one.candidate.task] for one in ordered], schema=ROUTES)


def _predictions(store: BlobStore, plan: PlanDocument) -> Iterator[dict[str, Any]]:
    tasks = plan.tasks()
    common = ["item_id", "version", "key", "uri", "width", "height", "format"]
    fields = ["score", "p_ok", "calibrator", "model"]
    columns = [*common, "copied_from", *(f"{task.name}.{field}" for task in tasks for field in (*fields, "error"))]
    work = WorkReader(store, plan.work)
    for shard, table in iter_results(store, plan.run_id, columns):
        repeated = repeated_rows(work, plan, shard, table).to_pylist()
        for row, is_repeated in zip(table.to_pylist(), repeated, strict=True):
            for task in tasks:
                struct = row[task.name]
                if struct is None or struct["error"] is not None:
                    continue
                yield (
                    {name: row[name] for name in common}
                    | {name: struct[name] for name in fields}
                    | {
                        "job": plan.spec.job,
                        "run_id": plan.run_id,
                        "task": task.name,
                        "operator": task.operator,
                        "is_repeated": is_repeated,
                    }
                )


def _note(row: dict[str, Any], decision: Decision, plan: PlanDocument) -> None:
    row["route"] = str(decision.route)
    row["reason"] = str(decision.reason)
    if decision.route in TO_PEOPLE:
        row["round"] = FIRST_ROUND
        row["dedupe_key"] = dedupe_key(
            job=plan.spec.job,
            task=row["task"],
            item=row["item_id"],
            version=row["version"],
            purpose=str(decision.route),
            round_number=FIRST_ROUND,
        )


def _add_predictions(store: BlobStore, plan: PlanDocument, rows: Rows) -> None:
    chosen = {task for (_, task), row in rows.items() if "dedupe_key" in row}
    if not chosen:
        return
    for _, table in iter_results(store, plan.run_id, ["item_id", *sorted(chosen)]):
        for result in table.to_pylist():
            for task in chosen:
                row = rows.get((result["item_id"], task))
                if row is not None and "dedupe_key" in row:
                    row["prediction"] = json.dumps(result[task], default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")
