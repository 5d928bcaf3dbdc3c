"""What is done with a run's predictions? Route them all, and write that to the bucket before anyone is asked.

The committed rows are read twice: to choose who goes to a person, and to write what is done with each; the rows of runs
with answered random draws once more, when a promise is first fitted on them. Of the shards with candidates for more
reviews than there is room for, vectors are read too. What earlier runs held and competes again (`held`) is read from
their shards after the run's own. Memory is that of a few shards and of the review tasks.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow_annotation.candidates import URGENCY_FIELDS
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_annotation.ranks import fields_read
from winnow_annotation.routing import Choice, Sent, unsent
from winnow_annotation.wishes import NO_THRESHOLDS, Predictions, Thresholds
from winnow_jobs import beside
from winnow_jobs.asked_before import Asked, are_asked, asked_before
from winnow_jobs.calibrators import (
    Calibrators,
    columns_beside,
    pinned_calibrators,
    tasks_beside,
    vectors_of,
    with_p_ok,
)
from winnow_jobs.calibrators import fields_read as calibrator_fields
from winnow_jobs.committee_rows import committee_columns, with_disagreement
from winnow_jobs.copies import repeated_rows
from winnow_jobs.drift import drift_part
from winnow_jobs.held import HeldOver, Leaving, held_over, held_view
from winnow_jobs.promises import ReadPredictions, pinned_promises, thresholds_of
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.routes import FIRST_ROUND, TO_PEOPLE, RoutesWriter, count_both, is_routed, question_key
from winnow_jobs.runs import PlanDocument
from winnow_jobs.scratch import scratch
from winnow_jobs.similar.neighbours import neighbours_of
from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobMissing
from winnow_storage.ids import canonical_json
from winnow_storage.parquet_rows import read_rows
from winnow_storage.parts import WorkReader
from winnow_storage.schemas import ROUTES
from winnow_storage.shards import committed_shards, seal
from winnow_storage.vectors import FIELD as VECTOR

ITEM_BYTES = 250  # of a route, on disk
READ_THREADS = 4
_COMMON = ("item_id", "version", "key", "uri", "width", "height", "format")
_REPEATED = ".repeated"
_OF_TASK = ("score", "p_ok", "calibrator", "model")

Shards = dict[int, BlobInfo]
SentIn = dict[int, list[tuple[int, Sent]]]  # by shard: those that go to a person, with their place among all of them


@dataclass(frozen=True, slots=True)
class Routing:
    """What decides the routes of a run: `review` as its plan says, or as someone asks what would be."""

    store: BlobStore
    plan: PlanDocument
    review: ReviewSpec
    calibrators: Calibrators
    thresholds: Mapping[str, Thresholds]
    asked: Asked

    def unsent(
        self, predictions: Predictions, task: str, *, is_part: bool = False
    ) -> tuple[pa.StringArray, pa.StringArray]:
        """The routes and reasons of predictions of which none goes to a person."""
        thresholds = self.thresholds.get(task, NO_THRESHOLDS)
        return unsent(predictions, self.review.policies.get(task), thresholds, is_part=is_part)


def route_run(store: BlobStore, plan: PlanDocument) -> dict[str, Any]:
    """Route every prediction of a run whose shards are all committed; how many go where.

    The object is put if absent and its content follows from the rows, the pinned calibrators and the pinned promises
    alone, so doing it again changes nothing.
    """
    calibrators = pinned_calibrators(store, plan)
    promises = pinned_promises(store, plan, calibrators, reader(store, calibrators))
    if not is_routed(store, plan.run_id):
        with scratch("routes", item_bytes=ITEM_BYTES * len(plan.tasks())) as folder:
            writer = RoutesWriter(folder)
            thresholds, asked = thresholds_of(promises), asked_before(store, plan)
            _decide_all(Routing(store, plan, plan.spec.review, calibrators, thresholds, asked), writer)
            writer.put(store, plan.run_id)
    counts, again = count_both(store, plan.run_id)
    selected = sum(count for routes in counts.values() for name, count in routes.items() if name in TO_PEOPLE)
    record: dict[str, Any] = {"selected": selected, "routes": counts}
    if again:
        record["held_over"] = again
    if (waiting := held_view(store, plan.run_id)) is not None:
        record["held"] = waiting
    if promises:
        record["promises"] = [one.record() for of in promises.values() for one in of.values()]
    if plan.spec.review.calibrate or plan.spec.review.audit:
        record["draws"] = _load_draws(store, plan.run_id)
    return record | drift_part(store, plan, calibrators, vectors=vectors_task(plan, plan.spec.review))


def reader(store: BlobStore, calibrators: Calibrators) -> ReadPredictions:
    """What reads the predictions of one task of any run, by these calibrators."""

    def read(plan: PlanDocument, task: ResolvedTask, policy: Policy) -> Iterator[Predictions]:
        own = {name: one for name, one in calibrators.items() if name == task.name}
        names = ("score", "p_ok", "error", *fields_read(task.kind, policy))
        columns = [*_named(policy), *_fields([task], own, names)]
        for _, rows in _read(store, plan, own, committed_shards(store, plan.run_id), columns):
            yield _predictions(_usable(rows, task.name), task)

    return read


def choose(
    routing: Routing, choices: Sequence[Choice], shards: Shards, again: HeldOver, also: Sequence[ReviewSpec] = ()
) -> None:
    """Show every prediction of the run, and what competes again, to the choices, perhaps of other sections `also`."""
    select = routing.review.select
    read = [name for of in (routing.review, *also) for name in _columns(replace(routing, review=of))]
    columns = list(dict.fromkeys([*read, *committee_columns(select)]))
    for shard, rows in _read(routing.store, routing.plan, routing.calibrators, shards, columns):
        for task in routing.plan.tasks():
            usable = _usable(rows, task.name)
            predictions = with_disagreement(_predictions(usable, task, routing.asked), usable, task.name, select)
            again.predicted_anew(task.name, predictions.item_ids)
            for choice in choices:
                choice.see(task.name, predictions, place=shard)
    for place, rows in _read(routing.store, routing.plan, routing.calibrators, again.places, columns):
        for task, some in _again(routing.plan, again, place, rows):
            for choice in choices:
                is_part = again.is_part(task.name)
                predictions = with_disagreement(_predictions(some, task, routing.asked), some, task.name, select)
                choice.see_again(task.name, predictions, place=place, is_part=is_part)
    shards = {**shards, **again.places}
    for choice, review in zip(choices, also or [routing.review], strict=True):
        if (pool := choice.pool()) and (task_of := vectors_task(routing.plan, review)):
            choice.compare(_vectors(routing.store, routing.plan, shards, pool, task_of))


def _again(plan: PlanDocument, again: HeldOver, place: int, rows: pa.Table) -> Iterator[tuple[ResolvedTask, pa.Table]]:
    """Of the rows at a place those that compete again, by task."""
    for task in plan.tasks():
        items = again.items(place, task.name)
        if items:
            usable = _usable(rows, task.name)
            yield task, usable.filter(pc.is_in(usable["item_id"], pa.array(sorted(items), pa.string())))


def vectors_task(plan: PlanDocument, review: ReviewSpec) -> str | None:
    """The task of a run whose vectors say which images are alike: the one that is named, or the first there is."""
    embed = [task.name for task in plan.chosen() if task.kind == "embed"]
    wish = review.select.vectors
    return next((name for name in embed if wish in (None, name)), None)


def _vectors(
    store: BlobStore, plan: PlanDocument, shards: Shards, pool: Mapping[int, Collection[str]], task: str
) -> dict[str, NDArray[np.float32]]:
    """(width,) of each item of the pool that has one."""
    found: dict[str, NDArray[np.float32]] = {}

    def read(shard: int) -> tuple[list[str], NDArray[np.float64]]:
        rows = read_rows(store, shards[shard], [*beside.NEEDED, f"{task}.vector"])
        rows = rows.filter(pc.is_in(rows["item_id"], pa.array(sorted(pool[shard]), pa.string())))
        rows = vectors_beside.added(rows, [task])
        if task not in rows.column_names:
            return [], np.zeros((0, 0))
        return rows["item_id"].to_pylist(), vectors_of(rows, task)

    with beside.VectorsBeside(store, plan) as vectors_beside, ThreadPoolExecutor(READ_THREADS) as threads:
        for items, vectors in mapped_ahead(threads, read, sorted(pool), ahead=READ_THREADS):
            there = [] if vectors.shape[1] == 0 else np.flatnonzero(np.isfinite(vectors).all(axis=1)).tolist()
            found |= {items[place]: vectors[place].astype(np.float32) for place in there}
    return found


def seed_of(plan: PlanDocument) -> str:
    """What a run's random draws follow from."""
    return f"{plan.spec.job}\0{plan.run_id}"


def _decide_all(routing: Routing, writer: RoutesWriter) -> None:
    # sealed first: a worker may commit after its run was abandoned, and what is not routed must not count as done
    store, plan = routing.store, routing.plan
    shards = seal(store, plan.run_id)
    again = held_over(store, plan, budget=routing.review.budget)
    choice = _chosen(routing, shards, again)
    sent: SentIn = defaultdict(list)
    for order, one in enumerate(choice.sent()):
        sent[one.place].append((order, one))
    draws = {task: asdict(one) for task, one in choice.draws().items()}
    store.put_if_absent(_draws_key(plan.run_id), canonical_json(draws).encode())
    # the most urgent first, so that people get them in that order; the others as they stand in the shards
    writer.add(_sent_routes(store, plan, routing.calibrators, {**shards, **again.places}, sent))
    leaving = Leaving(plan, again, choice.waiting())
    for place, task, routes in _unsent_routes(routing, shards, again, sent):
        writer.add(routes)
        leaving.note(place, task, routes)
    leaving.put(store)


def _chosen(routing: Routing, shards: Shards, again: HeldOver) -> Choice:
    choice = Choice(routing.review, seed=seed_of(routing.plan), thresholds=routing.thresholds)
    choose(routing, [choice], shards, again)
    return choice


def _draws_key(run_id: str) -> str:
    return f"runs/{run_id}/draws.json"


def _load_draws(store: BlobStore, run_id: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.get(_draws_key(run_id)))
    except BlobMissing:  # routed by an older version
        return {}
    return found


def _columns(routing: Routing, *more: str) -> list[str]:
    found = _named(*routing.review.policies.values())
    for task in routing.plan.tasks():
        looked_at = (*fields_read(task.kind, routing.review.policies.get(task.name)), *_urgency_fields(task, routing))
        found += _fields([task], routing.calibrators, ("score", "p_ok", "error", *more, *looked_at))
    return found


def _named(*policies: Policy) -> list[str]:
    """What predictions are named by; keys only where some are listed by them."""
    return ["item_id", "version", *(["key"] if any(one.names_items for one in policies) else [])]


def _urgency_fields(task: ResolvedTask, routing: Routing) -> tuple[str, ...]:
    by = routing.review.select.by
    return (by,) if by in URGENCY_FIELDS and task.kind == "classify" else ()


def _sent_routes(
    store: BlobStore, plan: PlanDocument, calibrators: Calibrators, shards: Shards, sent: SentIn
) -> pa.Table:
    rows: dict[int, dict[str, Any]] = {}
    vectors: dict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)  # by task and item
    tasks = {task.name: task for task in plan.tasks()}
    chosen = sorted({one.task for some in sent.values() for _, one in some})
    columns = [*_COMMON, "run_id", "shard", *chosen, *_unread(columns_beside(calibrators), chosen)]
    with beside.VectorsBeside(store, plan) as vectors_beside:
        for shard in sorted(sent):  # one at a time: whole predictions, such as masks, may be large
            results = read_rows(store, shards[shard], columns)
            kept = results.filter(pc.is_in(results["item_id"], pa.array([one.item_id for _, one in sent[shard]])))
            kept = _calibrated(vectors_beside.added(kept, tasks_beside(calibrators)), calibrators)
            found = {row["item_id"]: row for row in kept.to_pylist()}
            for order, one in sent[shard]:
                if tasks[one.task].kind == "embed":  # people see its neighbours in its place; as text it would be large
                    vector = found[one.item_id][one.task].pop(VECTOR, None)
                    vectors[one.task][one.item_id] = np.array(() if vector is None else vector, np.float32)
                rows[order] = _sent_route(found[one.item_id], one, tasks[one.task], plan)
    for name, own in vectors.items():
        near = neighbours_of(store, plan, tasks[name], own)
        for row in rows.values():
            if row["task"] == name:
                row["neighbours"] = canonical_json(near[row["item_id"]])
    named = [row | {"dedupe_key": _first_question(row)} for _, row in sorted(rows.items())]
    return pa.Table.from_pylist(named, schema=ROUTES)


def _first_question(row: Mapping[str, Any]) -> str:
    return question_key(row, purpose=row["route"], round_number=FIRST_ROUND)


def _sent_route(result: dict[str, Any], one: Sent, task: ResolvedTask, plan: PlanDocument) -> dict[str, Any]:
    struct = result[task.name]
    return {
        **{name: result[name] for name in _COMMON},
        **{name: struct[name] for name in _OF_TASK},
        "job": plan.spec.job,
        "run_id": plan.run_id,
        "task": task.name,
        "operator": task.kind,
        "route": str(one.route),
        "reason": str(one.reason),
        "round": FIRST_ROUND,
        "prediction": as_json(struct),
        "inclusion": one.inclusion,
        "chosen": one.chosen,
        "predicted_run": None if result["run_id"] == plan.run_id else result["run_id"],
    }


def _unsent_routes(
    routing: Routing, shards: Shards, again: HeldOver, sent: SentIn
) -> Iterator[tuple[int, str, pa.Table]]:
    """(place, task, routes) of those that go to nobody."""
    columns = list(dict.fromkeys([*_COMMON, "run_id", *_columns(routing, *_OF_TASK)]))
    everywhere = {**shards, **again.places}
    for place, rows in _read(routing.store, routing.plan, routing.calibrators, everywhere, columns):
        is_own = place in shards
        own = ((task, _usable(rows, task.name)) for task in routing.plan.tasks()) if is_own else ()
        for task, some in own or _again(routing.plan, again, place, rows):
            items = [one.item_id for _, one in sent.get(place, ()) if one.task == task.name]
            left = some.filter(pc.invert(pc.is_in(some["item_id"], pa.array(items, pa.string()))))
            is_part = not is_own and again.is_part(task.name)
            yield place, task.name, _unsent_table(left, task, routing, is_part=is_part)


def _unsent_table(rows: pa.Table, task: ResolvedTask, routing: Routing, *, is_part: bool) -> pa.Table:
    route, reason = routing.unsent(_predictions(rows, task, routing.asked), task.name, is_part=is_part)
    plan = routing.plan
    same = {"job": plan.spec.job, "run_id": plan.run_id, "task": task.name, "operator": task.kind}
    columns = {
        **{name: pa.repeat(value, rows.num_rows) for name, value in same.items()},
        **{name: rows[name] for name in _COMMON},
        **{name: pc.struct_field(rows[task.name], name) for name in _OF_TASK},
        "route": route,
        "reason": reason,
        "predicted_run": pc.if_else(
            pc.equal(rows["run_id"], plan.run_id), pa.scalar(None, pa.string()), rows["run_id"]
        ),
    }
    return pa.table([columns.get(field.name, pa.nulls(rows.num_rows, field.type)) for field in ROUTES], schema=ROUTES)


def _fields(tasks: Sequence[ResolvedTask], calibrators: Calibrators, names: Sequence[str]) -> list[str]:
    """As columns of the rows: these fields of every task, and those that its calibrator looks at."""
    wanted = {task.name: dict.fromkeys([*names, *calibrator_fields(calibrators.get(task.name))]) for task in tasks}
    own = {name: one for name, one in calibrators.items() if name in wanted}
    return [f"{task}.{name}" for task, fields in wanted.items() for name in fields] + columns_beside(own)


def _unread(columns: Sequence[str], tasks: Sequence[str]) -> list[str]:
    return [name for name in columns if name.partition(".")[0] not in tasks]


def _calibrated(rows: pa.Table, calibrators: Calibrators) -> pa.Table:
    for task, calibrator in calibrators.items():
        near = calibrator.neighbours
        # of an earlier run that had no such vectors p_ok stays as it was
        if task in rows.column_names and (near is None or near.task in rows.column_names):
            rows = with_p_ok(rows, task, calibrator)
    return rows


def _read(
    store: BlobStore, plan: PlanDocument, calibrators: Calibrators, shards: Shards, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table]]:
    """(shard, its rows) in order; their column _REPEATED says which are copies of bytes that the run has before."""
    work, tasks = WorkReader(store, plan.work), tasks_beside(calibrators)
    wanted = list(dict.fromkeys([*columns, "copied_from", *(beside.NEEDED if tasks else ())]))

    def read(shard: int) -> tuple[int, pa.Table]:
        rows = _calibrated(vectors_beside.added(read_rows(store, shards[shard], wanted), tasks), calibrators)
        if shard >= plan.shards:  # what competes again was a copy of nothing in its own run
            return shard, rows.append_column(_REPEATED, pa.array([False] * rows.num_rows))
        return shard, rows.append_column(_REPEATED, repeated_rows(work, plan, shard, rows))

    with beside.VectorsBeside(store, plan) as vectors_beside, ThreadPoolExecutor(READ_THREADS) as pool:
        yield from mapped_ahead(pool, read, shards, ahead=READ_THREADS)


def _usable(rows: pa.Table, task: str) -> pa.Table:
    error = pc.struct_field(rows[task], "error")
    return rows.filter(pc.and_(pc.is_valid(rows[task]), pc.is_null(error)))


def _predictions(rows: pa.Table, task: ResolvedTask, asked: Asked = MappingProxyType({})) -> Predictions:
    struct = rows[task.name].combine_chunks()
    numbers = (pc.struct_field(struct, "score"), pc.struct_field(struct, "p_ok"))
    items, versions, is_repeated = (rows[name].combine_chunks() for name in ("item_id", "version", _REPEATED))
    keys = rows["key"].combine_chunks() if "key" in rows.column_names else None
    is_asked = are_asked(asked, task.name, items, versions)
    return Predictions(items, versions, *numbers, is_repeated, task.kind, struct, keys, is_asked)


def as_json(struct: dict[str, Any]) -> str:
    """A prediction as it stands in the routes: bytes as base64."""
    return json.dumps(struct, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")
