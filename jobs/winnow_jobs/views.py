"""Which numbers do people see of a job? Every record that the commands, the report and later the service share."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from winnow_annotation.guarantees.binomial import labels_needed
from winnow_annotation.guarantees.bounded import labels_needed_in_expectation
from winnow_jobs.audit import audit_records
from winnow_jobs.draft import Draft
from winnow_jobs.drift_records import drift_view
from winnow_jobs.held import held_view
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.routes import is_routed
from winnow_jobs.runs import REQUEST_THREADS, PlanDocument, Runs
from winnow_jobs.support import newest_promises, support_records
from winnow_jobs.words import counted
from winnow_storage.ledger import Ledger


def plan_record(draft: Draft, standing: PlanDocument | None, runs: Runs) -> dict[str, Any]:
    """What `winnow plan` says: what is due and why, on which models, and how much of it people may have to see."""
    plan, spec = draft.plan, draft.plan.spec
    due, digests = draft.due, _digests_before(runs)
    promised = newest_promises(runs)
    return {
        "job": spec.job,
        "run_id": plan.run_id,
        "open_run": standing.run_id if standing is not None else None,
        "corpus": spec.corpus.uri,
        "corpus_items": plan.corpus_items,
        "other_files": plan.other_files,
        "other_examples": list(draft.other_examples),
        "cold_items": plan.cold_items,
        "cold_examples": list(draft.cold_examples),
        "due_items": plan.items,
        "copies": plan.copies,
        "from_vectors": plan.vectors,
        "bytes": plan.total_bytes,
        "shards": plan.shards,
        "shard_items": plan.shard_items,
        "tasks": [
            {
                "name": task.name,
                "operator": task.operator,
                "model": task.model.name,
                "digest": task.model.digest,
                "due": due.get(task.name, 0),
                "vectors": task.vectors,
                "from_vectors": draft.from_vectors.get(task.name, 0),
                "why": _why(task, due.get(task.name, 0), digests),
                "review": _policy_text(spec, task, promised),
            }
            for task in plan.chosen()
        ],
        "review_estimate": _review_estimate(plan, runs),
    }


def _digests_before(runs: Runs) -> dict[str, str]:
    newest = runs.newest()
    return {} if newest is None else {task.name: task.digest for task in runs.plan(newest).spec.tasks}


def _why(task: ResolvedTask, due: int, before: dict[str, str]) -> str:
    if due == 0:
        return "no item is new, changed or asked for again"
    if task.name not in before:
        return "no run has performed this task"
    if before[task.name] != task.digest:
        return "its model or parameters changed since the last run"
    return "new, changed, unavailable or asked for again"


def _policy_text(spec: ResolvedSpec, task: ResolvedTask, promised: list[dict[str, Any]]) -> str:
    policy = spec.review.policies.get(task.name)
    if policy is None:
        return ""
    return "; ".join(_rule_text(spec, task, name, promised) for name, rule in policy.rules().items() if rule.is_promise)


def _rule_text(spec: ResolvedSpec, task: ResolvedTask, name: str, promised: list[dict[str, Any]]) -> str:
    """What the newest run promised by this rule, or what it takes to promise anything."""
    rule = spec.review.policies[task.name].rules()[name]
    target = getattr(rule, rule.promise or "")
    for one in promised:
        same = (one["task"], one["rule"], one["task_digest"], one["promise"])
        if same == (task.name, name, task.digest, rule.promise) and one["target"] == target:
            return f"as of run {one['run_id']}: {one['text']}"
    needed = (
        labels_needed_in_expectation(target)
        if rule.max_loss is not None and rule.confidence is None
        else labels_needed(1 - target if rule.min_recall is not None else target, rule.certainty)
    )
    draws = "harmful items among the uniform random draws" if rule.min_recall is not None else "uniform random labels"
    meanwhile = "hold all" if rule.uncalibrated == "hold" else "review up to the budget, hold the rest"
    calibrate = spec.review.calibrate
    drawn = f"review.calibrate: {calibrate} a run" if calibrate else "review.calibrate is 0: set it, or none is drawn"
    return (
        f"{rule.promise} {target}{f' for {name}' if name else ''} needs at least {needed} {draws} "
        f"({drawn}); until they are answered nothing is accepted under it: "
        f"{meanwhile}"
    )


def _review_estimate(plan: PlanDocument, runs: Runs) -> str:
    if not plan.spec.review.policies:
        return "nothing: the spec has no review policies"
    budget = plan.spec.review.budget
    share = _share_before(runs)
    if share is None:
        most = min(budget, plan.items * len(plan.spec.review.policies))
        return f"at most {counted(most, 'review task')} (budget {budget}; no earlier run to estimate from)"
    expected = min(budget, round(share * plan.items))
    return f"about {counted(expected, 'review task')} (budget {budget}; the last run sent {share:.2f} an item)"


def _share_before(runs: Runs) -> float | None:
    for run_id in reversed(runs.ids()):
        summary = runs.summary(run_id)
        if summary is not None and summary.get("items"):  # neither abandoned nor without items
            return float(summary["review"]["selected"]) / float(summary["items"])
    return None


def status_record(spec: ResolvedSpec, runs: Runs, ledger: Ledger) -> dict[str, Any]:
    """What `winnow status` says: every run of the job, and where its review tasks stand."""
    states = ledger.review_counts(runs.store.root.uri)
    labels = ledger.label_counts(spec.job)
    every = _all_status(runs)
    return {
        "job": spec.job,
        "output": spec.output,
        "runs": every,
        "review": {
            task.name: {"tasks": states.get(task.name, {}), "labels": labels.get(task.name, 0)}
            for task in spec.tasks
            if task.name in spec.review.policies or task.name in states
        },
        "promises": newest_promises(runs),
        "audit": audit_records(spec, runs),
        "support": support_records(spec, runs),
        "held": held_view(runs.store, next((one["run_id"] for one in reversed(every) if one["routed"]), None)),
        "drift": drift_view(runs.store) if spec.review.policies else None,
    }


def _all_status(runs: Runs) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(REQUEST_THREADS) as pool:
        return list(pool.map(lambda run_id: run_status(runs, run_id), runs.ids()))


def run_status(runs: Runs, run_id: str) -> dict[str, Any]:
    """One run as the bucket shows it now."""
    plan = runs.plan(run_id)
    summary = runs.summary(run_id)
    if summary is not None and "outcomes" in summary:
        outcomes, committed = summary["outcomes"], summary["shards"]  # it is closed only when all are committed
    else:
        counter: Counter[str] = Counter()
        committed = 0
        for _, receipt in runs.receipts(run_id):
            counter.update(receipt.outcomes)
            committed += 1
        outcomes = dict(counter)
    return {
        "run_id": run_id,
        "state": summary["state"] if summary is not None else "open",
        "created_at": plan.created_at.isoformat(),
        "items": plan.items,
        "shards": plan.shards,
        "shards_committed": committed,
        "outcomes": outcomes,
        "routed": is_routed(runs.store, run_id),
    }
