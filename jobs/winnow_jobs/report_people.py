"""What does the report show of people? For each task that somebody answered how good they are, and what is open."""

from typing import Any

from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.runs import Runs


def people_views(spec: ResolvedSpec, runs: Runs) -> list[dict[str, Any]]:
    """The records of `TaskConsensus` of tasks with answers, from what stands now; nothing while nobody answered."""
    if next(iter(runs.store.walk("labels/")), None) is None:
        return []
    from winnow_jobs.consensus.form import form_consensus  # it imports scipy

    found = [one.record() for one in form_consensus(spec, runs, tasks=(), at=runs.plans()[-1].created_at)]
    return [one for one in found if one["items"]]
