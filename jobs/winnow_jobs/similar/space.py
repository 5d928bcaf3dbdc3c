"""Which vectors of a job may be compared with each other? Those that a task made with one digest: a space.

A task that was changed makes vectors that have nothing to do with its former ones, even if they are as long. So what is
searched is the space of the newest run that has vectors among the current rows; items without one are counted.
"""

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.words import counted
from winnow_storage.current_view import CurrentView, view_current
from winnow_storage.errors import UsageError
from winnow_storage.schemas import Outcome
from winnow_storage.vector_index import Place, view_digest
from winnow_storage.vectors import Vectors, current_vectors, has_vectors


@dataclass(frozen=True, slots=True)
class Space:
    """The current vectors of one task that may be compared. `task`: as it was pinned when they were made.

    `plan`: of the newest run among `runs`, which made them. `others`: readable items that have none of these vectors,
    counted where the task was changed: theirs are of its former self, or of none.
    """

    task: ResolvedTask
    plan: PlanDocument
    runs: frozenset[str]
    others: int
    view: CurrentView
    store: Runs

    @property
    def vectors(self) -> Vectors:
        """They themselves; every reading gives the same."""
        return current_vectors(self.view, self.task.name, runs=self.runs)

    @property
    def place(self) -> Place:
        """Where their indexes stand."""
        return Place(self.store.store, self.task.name, self.task.digest)

    @property
    def view_digest(self) -> str:
        """Equal digests, equal vectors."""
        return view_digest(self.view.committed, self.runs)

    @property
    def note(self) -> str | None:
        """What a person has to know of the vectors that are left out."""
        if not self.others:
            return None
        return (
            f"{counted(self.others, 'item')} left out: the task {self.task.name!r} as it is in run {self.plan.run_id} "
            "has not embedded them, and what another model or other parameters made cannot be compared. "
            f"{self.command} embeds them"
        )

    @property
    def command(self) -> str:
        """What gives such items a vector: to a model that was rolled back to, what it embedded before is not due."""
        return f"winnow run SPEC (after a rollback: winnow run SPEC --tasks {self.task.name} --since 0001)"


def current_space(runs: Runs, task: str | None) -> Space:
    """The space of a job's current vectors; `task` may be left out if only one has vectors.

    Raises:
        UsageError: there are no vectors yet, or not of this task.
        StoreError: an object is damaged or cannot be read.
    """
    view = view_current(runs.store.root)
    name = _task_with_vectors(view, task)
    plans = {plan.run_id: plan for plan in runs.plans() if any(one.name == name for one in plan.tasks())}
    digests = {run_id: plan.spec.task(name).digest for run_id, plan in plans.items()}
    made, done = _made_by(view, name, digests)
    if not made:
        raise UsageError(
            f"no current item has a vector of the task {name!r} yet", hint="winnow run SPEC, then search again"
        )
    newest = max((run_id for run_id in made if run_id in digests), key=int)
    same = frozenset(run_id for run_id, digest in digests.items() if digest == digests[newest])
    others = 0 if done is None else done - sum(count for run_id, count in made.items() if run_id in same)
    return Space(plans[newest].spec.task(name), plans[newest], same, others, view, runs)


def _task_with_vectors(view: CurrentView, task: str | None) -> str:
    structs = {field.name: field.type for field in view.schema() if pa.types.is_struct(field.type)}
    named = [name for name, struct in structs.items() if has_vectors(struct)]
    if not named:
        raise UsageError(
            f"{view.output} holds no embeddings yet",
            hint="add a task {name: vector, operator: embed, model: ...} to the spec, then: winnow run SPEC",
        )
    if task is None:
        if len(named) > 1:
            raise UsageError("several tasks have vectors", hint=f"add --task: one of {', '.join(named)}")
        return str(named[0])
    if task in structs and task not in named:
        raise UsageError(f"the task {task!r} makes no vectors", hint=f"tasks that do: {', '.join(named)}")
    if task not in named:
        near = difflib.get_close_matches(task, named, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"no run has a task {task!r}", hint=f"{meant}tasks with vectors: {', '.join(named)}")
    return task


def _made_by(view: CurrentView, name: str, digests: Mapping[str, str]) -> tuple[Mapping[str, int], int | None]:
    """(how many current vectors each run made, how many items are done).

    Where all runs have the same digest it is enough to know that there is one: the second number is then None.
    """
    made: Counter[str] = Counter()
    done, is_one = 0, len(set(digests.values())) == 1
    for table in view.tables([f"{name}.run_id", "outcome"]):
        runs = pa.concat_arrays([pa.array([], table[name].type), *table[name].chunks]).field("run_id")
        made.update({one["values"]: one["counts"] for one in runs.drop_null().value_counts().to_pylist()})
        done += pc.sum(pc.equal(table["outcome"], Outcome.DONE)).as_py() or 0
        if made and is_one:
            break
    return made, None if is_one else done
