"""What was already predicted? The final (item, version) pairs of each task over the committed rows of all runs."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.dataset import iter_results
from winnow_storage.schemas import Outcome

Pair = tuple[str, str]  # item_id, version


def final_pairs(runs: Runs, spec: ResolvedSpec, retry: Iterable[Outcome]) -> dict[str, set[Pair]]:
    """For each task of the spec, the pairs that need no work: predicted by the same task digest, not to be retried.

    An `unavailable` item is never final. Rows of runs that were abandoned half way count like any others.
    """
    again = {*retry, Outcome.UNAVAILABLE}
    final: dict[str, set[Pair]] = {task.name: set() for task in spec.tasks}
    for run_id in runs.ids():
        plan = runs.plan(run_id)
        if plan.spec.corpus.id != spec.corpus.id:
            continue
        same = _same_tasks(plan, spec)
        if not same:
            continue
        columns = [
            "item_id",
            "version",
            "outcome",
            *(f"{name}.error" for name in same),
            *(f"{name}.model" for name in same),
        ]
        for _, rows in iter_results(runs.store, run_id, columns):
            for name in same:
                final[name] |= _final_of(rows, name, again)
    return final


def _same_tasks(plan: PlanDocument, spec: ResolvedSpec) -> list[str]:
    theirs = {task.name: task.digest for task in plan.tasks()}
    return [task.name for task in spec.tasks if theirs.get(task.name) == task.digest]


def _final_of(rows: pa.Table, task: str, again: AbstractSet[Outcome]) -> set[Pair]:
    ended = pc.invert(pc.is_in(rows["outcome"], pa.array([str(one) for one in again], pa.string())))
    struct = rows[task]
    predicted = pc.and_(
        pc.is_in(rows["outcome"], pa.array([str(Outcome.DONE), str(Outcome.FAILED)])),
        pc.and_(pc.is_valid(pc.struct_field(struct, "model")), pc.is_null(pc.struct_field(struct, "error"))),
    )
    # a failed item's other tasks are final; the failed task is final too, unless failed ones are asked for again
    no_prediction = pc.is_in(
        rows["outcome"], pa.array([str(Outcome.UNREADABLE), str(Outcome.MISSING), str(Outcome.REJECTED)])
    )
    has_error = pc.is_valid(pc.struct_field(struct, "error"))
    final = pc.or_(predicted, pc.and_(ended, pc.or_(no_prediction, has_error)))
    kept = rows.filter(final)
    return set(zip(kept["item_id"].to_pylist(), kept["version"].to_pylist(), strict=True))
