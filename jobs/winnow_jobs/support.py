"""Is a promise that runs apply still supported? Not once its evidence is from before a change, or nobody looks.

What labels supported when the newest run was routed is supported no longer, if

- drift: a run raised an alarm over its images, or over scores or labels of its task, and the answered draws of the runs
  from that one on do not by themselves show it at its threshold;
- unwatched: nobody answered any random draw (calibrate or audit) of its task of the last WATCHED_RUNS runs;
- model: the spec has another model or other parameters by now, so the next run fits it anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from winnow_annotation.policies import Policy
from winnow_jobs.acceptance import acceptance_of
from winnow_jobs.calibrators import pinned_calibrators
from winnow_jobs.draws import all_labels, answered_draws
from winnow_jobs.drift_records import DriftRecord, moved_with, newest_drift
from winnow_jobs.promises import Promise, shown_by
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.records import Label
from winnow_storage.schemas import Route

WATCHED_RUNS = 10
UNSUPPORTED = "unsupported"
_LOOKED = (Route.CALIBRATE, Route.AUDIT)


@dataclass(frozen=True, slots=True)
class _Why:
    because: str
    since: str | None
    missing: int | None
    said: str
    then: str


@dataclass(frozen=True, slots=True)
class _Applied:
    """A promise of the newest run, with what the spec says of its task today."""

    run_id: str
    said: Promise
    task: ResolvedTask
    policy: Policy


def newest_promises(runs: Runs) -> list[dict[str, Any]]:
    """What the newest closed run that made promises said of each, with its id."""
    for run_id in reversed(runs.ids()):
        summary = runs.summary(run_id)
        if summary is not None and (promises := summary.get("review", {}).get("promises")):
            return [{"run_id": run_id} | one for one in promises]
    return []


def support_records(spec: ResolvedSpec, runs: Runs) -> list[dict[str, Any]]:
    """The promises of the newest run that are supported no longer, and why; nothing where all are.

    Raises:
        StoreError: as the store says; or labels, or what was tested for drift, are damaged.
    """
    applied = [one for said in newest_promises(runs) if (one := _applied(said, spec)) is not None]
    if not applied:
        return []
    plans, labels, drift = runs.plans(), all_labels(runs.store), newest_drift(runs.store)
    found = []
    for one in applied:
        why = _why(one, runs, plans, labels, drift)
        if why is not None:
            found.append(_record(one, why))
    return found


def support_alarms(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What people must be told."""
    return [one["text"] for one in records]


def _applied(said: Mapping[str, Any], spec: ResolvedSpec) -> _Applied | None:
    policy = spec.review.policies.get(said["task"])
    task = next((one for one in spec.tasks if one.name == said["task"]), None)
    if said["threshold"] is None or policy is None or task is None:
        return None  # it was not supported then, or is not made any more
    rule = policy.rules().get(said["rule"])
    if rule is None or rule.promise != said["promise"]:
        return None
    promise = Promise.model_validate({name: value for name, value in said.items() if name in Promise.model_fields})
    return _Applied(said["run_id"], promise, task, policy)


def _why(
    one: _Applied, runs: Runs, plans: Sequence[PlanDocument], labels: Sequence[Label], drift: DriftRecord | None
) -> _Why | None:
    if one.task.digest != one.said.task_digest:
        return _Why("model", None, None, "its model or parameters changed since", "the next run fits it anew")
    alarm = moved_with(drift, one.task.name)
    if alarm is not None:
        why = _drifted(one, runs, plans, labels, alarm)
        if why is not None:
            return why
    return _unwatched(one, plans, labels)


def _drifted(
    one: _Applied, runs: Runs, plans: Sequence[PlanDocument], labels: Sequence[Label], alarm: str
) -> _Why | None:
    plan = next(plan for plan in plans if plan.run_id == one.run_id)
    ranked = pinned_calibrators(runs.store, plan) if one.said.calibrator is not None else {}
    wanted = acceptance_of(one.policy)
    drawn = answered_draws(runs.store, plans, one.task, labels, Route.CALIBRATE, wanted)
    since = tuple(draw for draw in drawn.draws if int(draw.run_id) >= int(alarm))
    since_then = replace(drawn, draws=since)
    again = shown_by(since_then, one.task, one.policy, one.said, ranked.get(one.task.name), labels)
    if again.is_shown:
        return None
    return _Why(
        "drift",
        alarm,
        again.missing,
        f"with run {alarm} something moved (drift), and the {again.labels:,} answered draws of the runs from it on do "
        f"not show it by themselves",
        f"answer draws of these runs (review.calibrate), at least {again.missing:,} more; or claim less",
    )


def _unwatched(one: _Applied, plans: Sequence[PlanDocument], labels: Sequence[Label]) -> _Why | None:
    own = (one.task.name, one.task.digest)
    performed = [plan.run_id for plan in plans if plan.shards and own in {(of.name, of.digest) for of in plan.tasks()}]
    last = performed[-WATCHED_RUNS:]
    looked = any(
        label.task == one.task.name and label.purpose in _LOOKED and label.run_id in last and label.event != "deleted"
        for label in labels
    )
    if looked or len(last) < WATCHED_RUNS:
        return None
    return _Why(
        "unwatched",
        last[0],
        None,
        f"nobody has answered a random draw of the last {WATCHED_RUNS} runs (since run {last[0]}), so nothing shows "
        f"that it holds for their images",
        "answer what these runs drew (winnow pull SPEC), with review.audit or review.calibrate above 0",
    )


def _record(one: _Applied, why: _Why) -> dict[str, Any]:
    said = one.said
    about = f"{said.task}, class {said.rule}" if said.rule else said.task
    return {
        "task": said.task,
        "rule": said.rule,
        "promise": said.promise,
        "target": said.target,
        "digest": said.digest,
        "run_id": one.run_id,
        "state": UNSUPPORTED,
        "because": why.because,
        "since": why.since,
        "missing": why.missing,
        "text": f"{about}: the promise of run {one.run_id} is NO LONGER SUPPORTED: {why.said}: do not rely on what is "
        f"accepted; {why.then}",
    }
