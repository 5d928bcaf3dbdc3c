"""What does the report show of a promise? The claim, the labels it stands on, what it accepts, what audits say."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from winnow_annotation.guarantees.fit import Labelled
from winnow_jobs.calibrators import pinned_calibrators
from winnow_jobs.draws import all_labels
from winnow_jobs.evaluation.charts import Chosen, risk_chart
from winnow_jobs.promises import Fitting, Promise, claim_of, evidence_of
from winnow_jobs.review import reader
from winnow_jobs.runs import PlanDocument, Runs
from winnow_workers.evaluation.risk_coverage import risk_coverage

CURVE_POINTS = 200
_AT_MOST = ("max_error", "max_loss")  # promises about the accepted, which a curve over coverage shows


def promise_views(
    plan: PlanDocument, runs: Runs, review: Mapping[str, Any], audits: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """A record for each promise that a run was routed by, supported or not; `review` is of the run's summary.

    Raises:
        StoreError: as the store says, or labels are damaged.
    """
    said = [
        Promise.model_validate({name: value for name, value in one.items() if name in Promise.model_fields})
        for one in review.get("promises", ())
    ]
    if not said:
        return []
    earlier = [one for one in runs.plans() if int(one.run_id) < int(plan.run_id)]
    calibrators = pinned_calibrators(runs.store, plan)
    read = reader(runs.store, calibrators)
    fitting = Fitting(runs.store, earlier, all_labels(runs.store), calibrators, read, gold=plan.spec.learn.gold)
    judged = {(of["task"], one["rule"], one["promise"]): one for of in audits for one in of["promises"]}
    return [
        one.model_dump(mode="json")
        | {
            "digest": one.digest,
            "claim": claim_of(one),
            "runs": _some(one.evidence.runs),
            "routed": _routed(review, one.task),
            "audit": judged.get((one.task, one.rule, one.promise)),
            "chart": _chart(one, _draws(fitting, plan, one)),
        }
        for one in said
    ]


def _some(runs: Sequence[str]) -> str:
    return ", ".join(runs) if len(runs) <= 3 else f"{runs[0]} to {runs[-1]}"


def _routed(review: Mapping[str, Any], task: str) -> dict[str, int]:
    """Of the `predictions` of a task, whatever the rule, those `accepted` without review, audited ones among them.

    `drawn`: so many more would have been, but were drawn to calibrate.
    """
    routes = review.get("routes", {}).get(task, {})
    accepted = routes.get("accept", 0) + routes.get("audit", 0)
    acceptable = review.get("draws", {}).get(task, {}).get("accepted", accepted)
    return {"predictions": sum(routes.values()), "accepted": accepted, "drawn": max(0, acceptable - accepted)}


def _draws(fitting: Fitting, plan: PlanDocument, one: Promise) -> Labelled | None:
    if one.promise not in _AT_MOST:
        return None
    found = evidence_of(fitting, plan.spec.task(one.task), plan.spec.review.policies[one.task], one)
    return found if len(found) else None


def _chart(one: Promise, draws: Labelled | None) -> str | None:
    """The risk-coverage curve of the draws, with the threshold on it."""
    if draws is None:
        return None
    curve = risk_coverage(draws.ranks, 1.0 - draws.losses)
    chosen = None
    if one.threshold is not None:
        accepted = draws.ranks >= one.threshold
        risk = float(draws.losses[accepted].mean()) if accepted.any() else 0.0
        chosen = Chosen(float(np.mean(accepted)), risk, one.evidence.bound or 0.0)
    # what is promised in expectation counts over all items, not over those that are accepted
    target = None if one.promise == "max_loss" and one.confidence is None else one.target
    risk_name = "share of errors" if one.promise == "max_error" else "mean loss"
    return risk_chart([curve.points(CURVE_POINTS)], target=target, chosen=chosen, risk=risk_name)
