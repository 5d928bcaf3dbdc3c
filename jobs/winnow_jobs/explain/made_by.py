"""By which model, calibrator and promise did a prediction come about, and what has learned from its labels since?"""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from winnow_annotation.gate.gold import is_reserved
from winnow_annotation.wishes import Predictions, ruled_by
from winnow_jobs.calibrators import kept_calibrator, learned_calibrators
from winnow_jobs.consensus.live import live_items
from winnow_jobs.draws import answered_before
from winnow_jobs.explain.people import Said
from winnow_jobs.explain.ran import Ran
from winnow_jobs.promises import Promise, kept_promises, promise_text
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.errors import ModelError, StoreError
from winnow_storage.registry import ModelEntry, Registry
from winnow_storage.schemas import Route
from winnow_storage.uri import parse
from winnow_workers.confidence.calibrator import Calibrator

RANDOM_DRAWS = (Route.AUDIT, Route.CALIBRATE)
_OF_CARD = ("architecture", "parent", "variant", "trained_on", "licence", "metrics")


def model_record(plan: PlanDocument, task: ResolvedTask) -> dict[str, Any]:
    """The model as the run pinned it, and what the registry says of it now where it has it."""
    pinned = {"reference": task.model.name, "digest": task.model.digest, "architecture": task.model.architecture}
    entry = _registered(plan, task)
    if entry is None:
        return pinned | {"weights": task.model.weights.model_dump(mode="json", exclude_none=True)}
    card = {name: entry.card[name] for name in _OF_CARD if entry.card.get(name)}
    learned = (entry.card.get("extra") or {}).get("learned_from")
    return pinned | {
        "name": entry.name,
        "version": entry.version,
        "stages": list(entry.stages),
        "uri": entry.uri,
        "added_at": entry.added_at,
        "card": card | ({} if learned is None else {"learned_from": learned}),
    }


def calibrator_record(store: BlobStore, run_id: str, task: str) -> dict[str, Any] | None:
    """The calibrator that the run was routed with; None if it pinned none.

    Raises:
        StoreError: it is damaged.
    """
    found = kept_calibrator(store, run_id, task)
    return None if found is None else _calibrator(found)


def promise_record(store: BlobStore, ran: Ran, routed: PlanDocument, task: ResolvedTask) -> dict[str, Any] | None:
    """The promise of the rule that decided about a run's prediction, in the run that routed it; None where none did.

    Raises:
        StoreError: it is damaged.
    """
    policy = routed.spec.review.policies.get(task.name)
    kept = {} if policy is None else kept_promises(store, routed.run_id, task.name)
    if policy is None or not kept or ran.table is None:
        return None
    rows = ran.table[task.name].combine_chunks()
    items, versions, keys = (ran.table[name].combine_chunks() for name in ("item_id", "version", "key"))
    one = Predictions(items, versions, rows.field("score"), rows.field("p_ok"), None, task.kind, rows, keys)
    place = int(ruled_by(one, policy)[0])
    found = kept.get(list(policy.rules())[place]) if place >= 0 else None
    return None if found is None else found.record()


def learnt_records(
    store: BlobStore, plans: Sequence[PlanDocument], ran: Sequence[Ran], said: Said, task: str
) -> list[dict[str, Any]]:
    """What counted the item's random draws among its labels: calibrators, and the evidence of promises.

    Both take every answered draw of the runs that they name, so it follows from when the answers came; but none of an
    item that was answered before their model first ran.

    Raises:
        StoreError: one of them is damaged.
    """
    if not any(label.task == task and label.purpose in RANDOM_DRAWS for label in said.labels):
        return []
    return [*_calibrators(store, plans, ran, said, task), *_promises(store, plans, ran, said, task)]


def _calibrators(
    store: BlobStore, plans: Sequence[PlanDocument], ran: Sequence[Ran], said: Said, task: str
) -> list[dict[str, Any]]:
    by_id, found = {plan.run_id: plan for plan in plans}, []
    for at, one in learned_calibrators(store, task):
        runs = {each.run_id for each in ran if each.has_prediction(task)} & set(one.fitted_on.runs)
        if one.fitted_on.source != "labels" or not runs or not _answered(said, task, at, one.fitted_on.purposes):
            continue
        plan = by_id[min(runs, key=int)]
        if _is_gold(plan, said, task) or not answered_before(said.labels, plan.spec.task(task), plans):
            found.append({"kind": "calibrator", "at": at.isoformat(), **_calibrator(one)})
    return found


def _promises(
    store: BlobStore, plans: Sequence[PlanDocument], ran: Sequence[Ran], said: Said, task: str
) -> list[dict[str, Any]]:
    drawn = {each.run_id for each in ran if each.routes.get(task, {}).get("route") == Route.CALIBRATE}
    found: dict[str, dict[str, Any]] = {}
    for plan in plans if drawn else ():
        if int(plan.run_id) <= min(map(int, drawn)) or not _answered(said, task, plan.created_at, [Route.CALIBRATE]):
            continue
        kept = kept_promises(store, plan.run_id, task)
        if not kept or _is_gold(plan, said, task) or answered_before(said.labels, plan.spec.task(task), plans):
            continue
        for one in kept.values():
            if drawn & set(one.evidence.runs):
                found.setdefault(one.digest, _promise(one, plan.run_id))
    return list(found.values())


def _is_gold(plan: PlanDocument, said: Said, task: str) -> bool:
    """Whether it never teaches a head of the task, as the plan has it: then answers from before teach calibrators."""
    share = 0.0 if plan.spec.task(task).vectors is None else plan.spec.learn.gold
    return any(is_reserved(plan.spec.job, task, one.key, share=share) for one in said.labels)


def _answered(said: Said, task: str, at: datetime, purposes: Sequence[str]) -> bool:
    """Whether an answer to such a draw stood at that moment."""
    before = [label for label in said.labels if label.updated_at is None or label.updated_at <= at]
    live = [live_items(before, job, task) for job in {label.job for label in before}]
    return any(label.purpose in purposes for items in live for item in items.values() for label in item.labels)


def _calibrator(one: Calibrator) -> dict[str, Any]:
    return {
        "calibrator": one.id,
        "digest": one.digest,
        "form": one.form,
        "fitted_on": one.fitted_on.model_dump(mode="json"),
        "neighbours": None if one.neighbours is None else one.neighbours.task,
    }


def _promise(one: Promise, run_id: str) -> dict[str, Any]:
    return {"kind": "promise", "run_id": run_id, "rule": one.rule, "digest": one.digest, "text": promise_text(one)}


def _registered(plan: PlanDocument, task: ResolvedTask) -> ModelEntry | None:
    """None where the model is not of the registry, or that is not there."""
    if not task.model.name.startswith("models/"):
        return None
    name = task.model.name.removeprefix("models/").partition("@")[0]
    with contextlib.suppress(ModelError, StoreError):  # what the run pinned is known without it
        entries = Registry(open_store(parse(plan.spec.registry))).entries(name)
        return next((one for one in entries if one.sha256 == task.model.digest), None)
    return None
