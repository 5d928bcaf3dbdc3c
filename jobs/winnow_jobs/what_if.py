"""What would be routed otherwise? Policies tried over a run's committed predictions, by the code that routes.

Every variant is chosen in one reading of the rows by the very `Choice` that a run uses, with the run's own seed, so the
numbers are those that would be routed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from winnow_annotation.guarantees import binomial
from winnow_annotation.policies import Policy, ReviewSpec, check_policy
from winnow_annotation.routing import AUDITED, Choice
from winnow_annotation.wishes import NO_THRESHOLDS, Thresholds, wishes
from winnow_jobs.asked_before import asked_before
from winnow_jobs.calibrators import newest_calibrators
from winnow_jobs.draws import DrawSet, all_labels
from winnow_jobs.drift_records import newest_drift
from winnow_jobs.held import held_over
from winnow_jobs.promises import Fitting, Promise, calibrated_structs, fit_task, makes_promise, promised_on
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import Routing, choose, reader, seed_of
from winnow_jobs.routes import TO_PEOPLE
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.errors import SpecError, UsageError
from winnow_storage.shards import committed_shards

MAX_ERRORS = (0.005, 0.01, 0.02, 0.05, 0.1)
MAX_LOSSES = (0.05, 0.1, 0.2, 0.3)
MIN_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99)
MIN_P_OKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Variant:
    """A review section in which `task` has another policy; `changed` says what, nothing if it is the spec's own."""

    task: str
    changed: Mapping[str, float]
    review: ReviewSpec


def what_if(
    spec: ResolvedSpec,
    runs: Runs,
    *,
    run_id: str | None = None,
    tasks: Sequence[str] = (),
    sweep: Mapping[str, Sequence[float]] | None = None,
    budget: int | None = None,
) -> dict[str, Any]:
    """For the spec's own policies, and for each value of `sweep` (key of a policy -> values), what would be routed.

    Without a sweep each task is tried with other values of what its policy says.

    Raises:
        UsageError: there is no such run or task, or a value is none of that key.
        StoreError: as the store says, or labels are damaged.
    """
    plan = _plan(runs, run_id)
    review = spec.review if budget is None else spec.review.model_copy(update={"budget": budget})
    performed = {task.name: task for task in plan.tasks()}
    chosen = [name for name in tasks or review.policies if name in performed]
    for name in tasks:
        if name not in review.policies or name not in performed:
            raise UsageError(
                f"task {name!r} has no policy, or is not in run {plan.run_id}",
                hint=f"tasks with a policy: {', '.join(review.policies) or 'none; add review.policies to the spec'}",
            )
    variants = [one for name in chosen for one in variants_of(review, name, performed[name].kind, sweep)]
    calibrators = newest_calibrators(runs.store, plan)
    fitting = Fitting(runs.store, runs.plans(), all_labels(runs.store), calibrators, reader(runs.store, calibrators))
    fitting = replace(fitting, keep=False, gold=spec.learn.gold, drift=newest_drift(runs.store))
    fits = _Fits(fitting, performed)
    choices = [Choice(one.review, seed=seed_of(plan), thresholds=fits.thresholds(one.review)) for one in variants]
    shards = committed_shards(runs.store, plan.run_id)
    again = held_over(runs.store, plan, budget=review.budget)
    routing = Routing(runs.store, plan, review, calibrators, {}, asked_before(runs.store, plan))
    choose(routing, choices, shards, again, [one.review for one in variants])
    rows = [_row(one, choice, fits) for one, choice in zip(variants, choices, strict=True)]
    return {"job": spec.job, "run_id": plan.run_id, "budget": review.budget, "variants": rows}


def variants_of(
    review: ReviewSpec, task: str, operator: str, sweep: Mapping[str, Sequence[float]] | None
) -> list[Variant]:
    """The spec's own policy of a task, then the swept ones.

    Raises:
        UsageError: a value is none of that key.
    """
    policy = review.policies[task]
    swept = _usual(policy) if sweep is None else sweep
    found = [Variant(task, {}, review)]
    for key, values in swept.items():
        for value in values:
            changed = _changed(policy, key, value, operator)
            found.append(
                Variant(task, {key: value}, review.model_copy(update={"policies": {**review.policies, task: changed}}))
            )
    return found


def _usual(policy: Policy) -> Mapping[str, Sequence[float]]:
    usual = {"max_error": MAX_ERRORS, "max_loss": MAX_LOSSES, "min_recall": MIN_RECALLS, "min_p_ok": MIN_P_OKS}
    key = policy.promise or ("min_p_ok" if policy.min_p_ok is not None else None)
    return {} if key is None else {key: usual[key]}


def _changed(policy: Policy, key: str, value: float, operator: str) -> Policy:
    given = policy.model_dump(mode="json")
    for other in ("min_p_ok", "max_error", "max_loss", "min_recall"):
        given[other] = None
    if key == "min_p_ok":
        given["confidence"] = None
    elif policy.uncalibrated not in ("review", "hold"):
        given["uncalibrated"] = "review"
    try:
        found = Policy.model_validate(given | {key: value})
        check_policy(operator, found)
        return found
    except (ValueError, SpecError) as error:
        raise UsageError(f"{key} {value:g}: {_first(error)}", hint="give numbers such as 0.01,0.02,0.05") from error


def _first(error: ValueError | SpecError) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return error.message if isinstance(error, SpecError) else str(error)


def _plan(runs: Runs, run_id: str | None) -> PlanDocument:
    for name in reversed(runs.ids()) if run_id is None else [run_id]:
        plan = runs.plan(name)
        if plan.shards == 0:
            continue
        if len(committed_shards(runs.store, name)) < plan.shards:
            if run_id is None:
                continue
            raise UsageError(f"run {name} has shards that are not committed yet", hint=f"winnow resume {name}")
        return plan
    raise UsageError(f"{runs.store.root} has no finished run with items", hint="winnow run SPEC")


class _Fits:
    """Promises and answered draws of the variants, each found once."""

    def __init__(self, fitting: Fitting, tasks: Mapping[str, ResolvedTask]) -> None:
        self._fitting = fitting
        self._tasks = tasks
        self._promises: dict[tuple[str, str], dict[str, Promise]] = {}
        self._draws: dict[str, DrawSet] = {}

    def promises(self, task: str, policy: Policy) -> Mapping[str, Promise]:
        key = task, policy.model_dump_json()
        if key not in self._promises:
            self._promises[key] = fit_task(self._fitting, self._tasks[task], policy) if makes_promise(policy) else {}
        return self._promises[key]

    def thresholds(self, review: ReviewSpec) -> dict[str, Thresholds]:
        return {
            task: {
                rule: one.threshold for rule, one in self.promises(task, policy).items() if one.threshold is not None
            }
            for task, policy in review.policies.items()
            if task in self._tasks
        }

    def expected(self, one: Variant) -> dict[str, Any]:
        """Of the answered uniform draws those that this variant would accept: how many of them are wrong."""
        task, policy = self._tasks[one.task], one.review.policies[one.task]
        if one.task not in self._draws:
            self._draws[one.task] = promised_on(self._fitting, task, policy)
        drawn = self._draws[one.task]
        rows = calibrated_structs(task.kind, drawn, self._fitting.calibrators.get(one.task))
        predictions = drawn.predictions(task.kind, rows)
        codes = wishes(predictions, policy, self.thresholds(one.review).get(one.task, NO_THRESHOLDS))
        accepted = AUDITED[codes]
        wrong = sum(not draw.ok for draw, is_accepted in zip(drawn.draws, accepted, strict=True) if is_accepted)
        count = int(accepted.sum())
        return {
            "labels": len(drawn.draws),
            "labels_accepted": count,
            "wrong": wrong,
            "expected_error": wrong / count if count else None,
            "error_interval": list(binomial.interval(wrong, count)),
        }


def _row(one: Variant, choice: Choice, fits: _Fits) -> dict[str, Any]:
    counts = choice.counts()
    routes = counts.get(one.task, {})
    total = sum(routes.values())
    to_people = sum(count for name, count in routes.items() if name in TO_PEOPLE)
    return {
        "task": one.task,
        "changed": dict(one.changed),
        "routes": routes,
        "predictions": total,
        "to_people": to_people,
        "to_people_of_all_tasks": sum(
            count for of in counts.values() for name, count in of.items() if name in TO_PEOPLE
        ),
        "coverage": (routes.get("accept", 0) + routes.get("audit", 0)) / total if total else 0.0,
        **fits.expected(one),
        "promises": [made.record() for made in fits.promises(one.task, one.review.policies[one.task]).values()],
    }
