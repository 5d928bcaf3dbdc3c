"""Which numbers do people see of a job? Every record that the commands, the report and later the service share."""

from collections import Counter
from typing import Any

from winnow_annotation.routing import labels_needed
from winnow_jobs.draft import Draft
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import read_routes
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.ledger import Ledger
from winnow_storage.shards import committed_shards


def plan_record(draft: Draft, standing: PlanDocument | None, runs: Runs) -> dict[str, Any]:
    """What `winnow plan` says: what is due and why, on which models, and how much of it people may have to see."""
    plan, spec = draft.plan, draft.plan.spec
    due, digests = draft.due, _digests_before(runs)
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
                "why": _why(task, due.get(task.name, 0), digests),
                "review": _policy_text(spec, task),
            }
            for task in plan.tasks()
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


def _policy_text(spec: ResolvedSpec, task: ResolvedTask) -> str:
    policy = spec.review.policies.get(task.name)
    if policy is None:
        return ""
    if policy.max_error is not None:
        needed = labels_needed(policy.max_error, policy.confidence)
        return (
            f"max_error {policy.max_error} with confidence {policy.confidence} needs at least {needed} uniform random "
            f"labels; there are none yet, so nothing is accepted under it: review up to the budget, hold the rest"
        )
    return ""


def _review_estimate(plan: PlanDocument, runs: Runs) -> str:
    if not plan.spec.review.policies:
        return "nothing: the spec has no review policies"
    budget = plan.spec.review.budget
    share = _share_before(runs)
    if share is None:
        most = min(budget, plan.items * len(plan.spec.review.policies))
        return f"at most {most} review tasks (budget {budget}; no earlier run to estimate from)"
    expected = min(budget, round(share * plan.items))
    return f"about {expected} review tasks (budget {budget}; the last run sent {share:.2f} an item)"


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
    return {
        "job": spec.job,
        "output": spec.output,
        "runs": [run_status(runs, run_id) for run_id in runs.ids()],
        "review": {
            task.name: {"tasks": states.get(task.name, {}), "labels": labels.get(task.name, 0)}
            for task in spec.tasks
            if task.name in spec.review.policies or task.name in states
        },
    }


def run_status(runs: Runs, run_id: str) -> dict[str, Any]:
    """One run as the bucket shows it now."""
    plan = runs.plan(run_id)
    summary = runs.summary(run_id)
    if summary is not None and "outcomes" in summary:
        outcomes, committed = summary["outcomes"], len(committed_shards(runs.store, run_id))
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
        "routed": read_routes(runs.store, run_id) is not None,
    }
