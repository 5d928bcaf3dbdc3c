"""By which calibrator is a task measured? Rows are final, so what routing makes of them is done to them once more."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow_annotation.policies import Policy
from winnow_jobs.beside import NEEDED, VectorsBeside
from winnow_jobs.calibrators import (
    columns_beside,
    fields_read,
    has_vectors,
    kept_calibrator,
    newest_calibrator,
    tasks_beside,
    with_p_ok,
)
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.current_types import RUN_ID
from winnow_workers.confidence.calibrator import Calibrator
from winnow_workers.evaluation.acceptance import Acceptance


@dataclass(frozen=True, slots=True)
class Applied:
    """A calibrator whose p_ok stands in for that of the rows; `which` says to people why it is this one.

    `plan`: of the one run whose rows they are. `made`, of rows of many runs: by task the runs that performed it as the
    calibrator knows it; a prediction of another run keeps its own p_ok.
    """

    calibrator: Calibrator
    which: str
    store: BlobStore
    plan: PlanDocument | None = None
    made: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """What it looks at, as columns of the rows."""
        task = self.calibrator.subject.task
        own = [f"{task}.{name}" for name in fields_read(self.calibrator)]
        return [*own, *columns_beside({task: self.calibrator}), *(f"{name}.{RUN_ID}" for name in self.made), *NEEDED]

    def __call__(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The tables, which have `columns` as far as there are such, with its p_ok.

        Raises:
            StoreError: vectors beside the rows of a run cannot be read.
        """
        if self.plan is None:
            yield from map(self._with_p_ok, tables)
            return
        beside = tasks_beside({self.calibrator.subject.task: self.calibrator})
        with VectorsBeside(self.store, self.plan) as vectors:
            for rows in tables:
                yield self._with_p_ok(vectors.added(rows, beside))

    def _with_p_ok(self, rows: pa.Table) -> pa.Table:
        task, near = self.calibrator.subject.task, self.calibrator.neighbours
        if not {task, *([] if near is None else [near.task])} <= {*rows.column_names}:
            return rows
        found = with_p_ok(rows, task, self.calibrator)
        if not self.made:
            return found
        is_own = reduce(pc.and_, (_by_runs(rows[name], run_ids) for name, run_ids in self.made.items()))
        both = (one[task].combine_chunks() for one in (found, rows))
        return rows.set_column(rows.column_names.index(task), task, pc.if_else(is_own.combine_chunks(), *both))

    def notes(self, wanted: Acceptance, purposes: Collection[str] | None) -> list[str]:
        """What people must be told; `purposes`: of the answers that are taken for true (none named: all), None of a
        truth that is no answers.
        """
        one, found = self.calibrator, []
        fitted, tau = one.fitted_on, one.subject.mask_iou
        if tau not in (None, wanted.mask_iou):
            found.append(
                f"{one.id} gives the probability of a mask_iou of {tau:g}, and masks are judged here by another"
            )
        is_among = purposes is not None and (not purposes or bool({*purposes} & {*fitted.purposes}))
        if fitted.source == "labels" and is_among:
            found.append(
                f"{one.id} was learned from answers of purpose {' and '.join(fitted.purposes)}, which may be among "
                f"these: on those p_ok looks truer than it is"
            )
        return found

    def record(self) -> dict[str, Any]:
        """As JSON."""
        one = self.calibrator
        return {
            "id": one.id,
            "digest": one.digest,
            "which": self.which,
            "mask_iou": one.subject.mask_iou,
            "fitted_on": one.fitted_on.model_dump(mode="json"),
        }


def applied_to_run(runs: Runs, run_id: str, task: str, policy: Policy | None) -> Applied | None:
    """The one that a run pinned when it was routed; the newest of its model and parameters where it pinned none.

    Raises:
        UsageError: there is no such run. StoreError: a calibrator is damaged or gone.
    """
    plan = runs.plan(run_id)
    found, which = kept_calibrator(runs.store, run_id, task), f"pinned by run {run_id}"
    if found is None:
        found = newest_calibrator(runs.store, plan.spec.task(task), policy)
        which = f"the newest; run {run_id} has pinned none"
    return None if found is None or not has_vectors(plan, found) else Applied(found, which, runs.store, plan)


def applied_to_all(runs: Runs, task: str, policy: Policy | None) -> Applied | None:
    """The newest of the model and parameters with which the task ran last: what the next run would be routed with.

    Raises:
        StoreError: it is damaged or gone, or a plan is of another version.
    """
    if task not in set(runs.store.folders("calibrators/")):
        return None
    plans = runs.plans()
    newest = next((plan for plan in reversed(plans) if task in {one.name for one in plan.tasks()}), None)
    if newest is None:
        return None
    found = newest_calibrator(runs.store, newest.spec.task(task), policy)
    if found is None or not has_vectors(newest, found):
        return None
    near = found.neighbours
    known = {task: found.subject.task_digest} | ({} if near is None else {near.task: near.task_digest})
    made = {name: [plan.run_id for plan in plans if _made(plan, name, digest)] for name, digest in known.items()}
    return Applied(found, "the newest", runs.store, made=made)


def _made(plan: PlanDocument, name: str, digest: str) -> bool:
    return any((one.name, one.digest) == (name, digest) for one in plan.tasks())


def _by_runs(structs: pa.ChunkedArray, run_ids: Collection[str]) -> pa.ChunkedArray:
    """(n,): whether one of these runs made the prediction."""
    return pc.is_in(pc.struct_field(structs, RUN_ID), pa.array(sorted(run_ids), pa.string()))
