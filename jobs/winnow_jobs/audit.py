"""How often is what was accepted wrong? Estimates from answered audit draws, and an alarm if a promise is broken.

Audit draws are a seeded random share of the accepted, shown to people blind. The estimates are of the runs by a task's
present model and parameters, with exact 95 % intervals: over all, per predicted class, and per week in which the runs
began.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from winnow_annotation.guarantees import binomial, bounded
from winnow_annotation.policies import Policy, Rule
from winnow_annotation.ranks import classes_of
from winnow_annotation.wishes import ruled_by
from winnow_jobs.acceptance import acceptance_of
from winnow_jobs.draws import Draw, all_labels, answered_draws, is_harmful, missed_positive
from winnow_jobs.promises import makes_promise
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing
from winnow_storage.records import Label
from winnow_storage.schemas import Route

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Audited:
    """The answered audit draws of one task, with what is needed to judge its promises."""

    task: ResolvedTask
    policy: Policy
    plans: Sequence[PlanDocument]
    draws: tuple[Draw, ...]
    classes: Sequence[tuple[str, ...]]
    rules: Sequence[int]
    accepted_share: float
    harmful_share_high: float  # of all items, the upper end of its interval


def audit_records(spec: ResolvedSpec, runs: Runs) -> list[dict[str, Any]]:
    """What audits say of each task with a policy, newest labels included; nothing where nobody was asked.

    Raises:
        StoreError: as the store says, or labels are damaged.
    """
    if not spec.review.policies:
        return []
    labels = all_labels(runs.store)
    purposes = {label.purpose for label in labels}
    if str(Route.AUDIT) not in purposes:
        return []
    plans = runs.plans()
    found = []
    for task in spec.tasks:
        policy = spec.review.policies.get(task.name)
        if policy is not None:
            record = _record(_audited(runs.store, plans, task, policy, labels))
            found += [record] if record["all"]["answered"] else []
    return found


def audit_alarms(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What people must be told: promises that the audits show to be broken, or in doubt."""
    return [
        promise["text"] for one in records for promise in one["promises"] if promise["state"] in ("broken", "doubtful")
    ]


def _audited(
    store: BlobStore, plans: Sequence[PlanDocument], task: ResolvedTask, policy: Policy, labels: Sequence[Label]
) -> Audited:
    wanted = acceptance_of(policy)
    drawn = answered_draws(store, plans, task, labels, Route.AUDIT, wanted)
    rows = drawn.structs(task.kind)
    high = 1.0
    if policy.min_recall is not None:
        uniform = answered_draws(store, plans, task, labels, Route.CALIBRATE, wanted).draws
        harmful = sum(is_harmful(task.kind, one.truth, policy.harmful) for one in uniform)
        high = binomial.interval(harmful, len(uniform), LEVEL)[1]
    return Audited(
        task,
        policy,
        plans,
        drawn.draws,
        classes_of(task.kind, rows),
        ruled_by(drawn.predictions(task.kind, rows), policy).tolist(),
        _accepted_share(store, drawn.runs, task.name),
        high,
    )


def _record(found: Audited) -> dict[str, Any]:
    by_class: dict[str, list[Draw]] = defaultdict(list)
    by_week: dict[str, list[Draw]] = defaultdict(list)
    for one, classes in zip(found.draws, found.classes, strict=True):
        by_week["{}-W{:02d}".format(*one.begun_at.isocalendar()[:2])].append(one)
        for name in classes:
            by_class[name].append(one)
    return {
        "task": found.task.name,
        "all": _cell(found, found.draws),
        "classes": {name: _cell(found, some) for name, some in sorted(by_class.items())},
        "weeks": {week: _cell(found, some) for week, some in sorted(by_week.items())},
        "promises": [
            _judged(found, place, name, rule)
            for place, (name, rule) in enumerate(found.policy.rules().items())
            if rule.is_promise
        ]
        if makes_promise(found.policy)
        else [],
    }


def _cell(found: Audited, draws: Sequence[Draw]) -> dict[str, Any]:
    """Of the accepted that people looked at: the share of wrong ones, of right ones, of missed positives, mean loss."""
    wrong = sum(not one.ok for one in draws)
    low, high = binomial.interval(wrong, len(draws), LEVEL)
    missed = [missed_positive(found.task.kind, one, found.policy.harmful) for one in draws]
    asked = [one for one in missed if one is not None]
    return {
        "answered": len(draws),
        "wrong": wrong,
        "error": _ratio(wrong, len(draws)),
        "error_interval": [low, high],
        "precision": None if not draws else 1 - wrong / len(draws),
        "precision_interval": [1 - high, 1 - low],
        "mean_loss": _ratio(sum(one.loss for one in draws), len(draws)),
        "missed_positives": sum(asked) if asked else None,
        "missed_interval": list(binomial.interval(sum(asked), len(asked), LEVEL)) if asked else None,
    }


def _judged(found: Audited, place: int, name: str, rule: Rule) -> dict[str, Any]:
    """A promise held against the audits of the runs that made it."""
    same = {
        plan.run_id
        for plan in found.plans
        if (of := plan.spec.review.policies.get(found.task.name)) is not None and of.rules().get(name) == rule
    }
    own = [one for one, by in zip(found.draws, found.rules, strict=True) if one.run_id in same and by == place]
    shown, target, low, high = _MEASURED[rule.promise or "max_error"](found, rule, own)
    value = shown / len(own) if own else 0.0
    scale = found.accepted_share if _is_of_all(rule) else 1.0
    state = _state(value * scale, low * scale, high * scale, target) if own else "open"
    about = f"{found.task.name}, class {name}" if name else found.task.name
    said = (
        f"{about}: {_VERDICTS[state]}: of {len(own)} audited predictions that were accepted {shown:.4g} "
        f"{'were missed' if rule.min_recall is not None else 'were wrong'} ({value:.2%}, 95 % interval {low:.2%} to "
        f"{high:.2%}; promised: at most {target / scale if scale else target:.2%})"
    )
    advice = "" if state in ("kept", "open") else (
        ": do not rely on what is accepted; did the images change, or the people? Raise review.calibrate so that the "
        "promise is fitted on new draws, and lower review.policies' claim meanwhile"
    )  # fmt: skip
    return {
        "rule": name,
        "promise": rule.promise,
        "target": target,
        "answered": len(own),
        "wrong": shown,
        "interval": [low, high],
        "state": state,
        "text": said + advice,
    }


_VERDICTS = {
    "broken": "the promise is BROKEN",
    "doubtful": "the promise is in doubt",
    "kept": "the promise is kept",
    "open": "the audits alone do not decide",
}


def _state(value: float, low: float, high: float, target: float) -> str:
    if low > target:
        return "broken"
    if high <= target:
        return "kept"
    return "doubtful" if value > target else "open"


def _is_of_all(rule: Rule) -> bool:
    """Whether the promise counts over all items, not over the accepted ones alone."""
    return rule.min_recall is not None or (rule.max_loss is not None and rule.confidence is None)


_Measured = tuple[float, float, float, float]  # the sum that was seen, the target, both ends of its mean's interval


def _errors(_: Audited, rule: Rule, draws: Sequence[Draw]) -> _Measured:
    wrong = sum(not one.ok for one in draws)
    return wrong, rule.max_error or 0.0, *binomial.interval(wrong, len(draws), LEVEL)


def _losses(_: Audited, rule: Rule, draws: Sequence[Draw]) -> _Measured:
    total = sum(one.loss for one in draws)
    return total, rule.max_loss or 0.0, *bounded.interval(total, len(draws), LEVEL)


def _misses(found: Audited, rule: Rule, draws: Sequence[Draw]) -> _Measured:
    harmful = found.policy.harmful
    missed = sum(is_harmful(found.task.kind, one.truth, harmful) for one in draws)
    target = (1 - (rule.min_recall or 0.0)) * found.harmful_share_high
    return missed, target, *binomial.interval(missed, len(draws), LEVEL)


_MEASURED: Mapping[str, Callable[[Audited, Rule, Sequence[Draw]], _Measured]] = {
    "max_error": _errors,
    "max_loss": _losses,
    "min_recall": _misses,
}


def _accepted_share(store: BlobStore, run_ids: Sequence[str], task: str) -> float:
    """Of the predictions of these runs; 1 where an older version noted nothing."""
    predictions = accepted = 0
    for run_id in run_ids:
        try:
            of = json.loads(store.get(f"runs/{run_id}/draws.json")).get(task)
        except BlobMissing:
            continue
        if of is not None:
            predictions += of["predictions"]
            accepted += of["accepted"]
    return accepted / predictions if predictions else 1.0


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None
