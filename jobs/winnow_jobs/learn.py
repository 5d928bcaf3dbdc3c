"""How is a calibrator learned? From the outcomes of a uniform random draw: people's labels of one, or a given truth.

Labels of items that were sent to people for being unsure say nothing of the others, so those of purpose `review` are
never taken. Within a draw every item counts once: by majority of the people who labelled it, a tie being wrong.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from winnow_jobs.acceptance import TESTED, is_accepted
from winnow_jobs.calibrators import keep_calibrator
from winnow_jobs.given_truth import GivenTruth, Truths
from winnow_jobs.part_verdicts import parts_right
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.runs import Runs
from winnow_jobs.verify.labels import read_labels
from winnow_storage.dataset import iter_results
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.records import Label
from winnow_storage.schemas import Route
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.features import Features, Floats, features, fields_of

RANDOM_DRAWS = (Route.AUDIT, Route.CALIBRATE)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A prediction, whether it is right, and which of its parts are."""

    struct: dict[str, Any]
    ok: bool
    parts: list[bool] | None


@dataclass(frozen=True, slots=True)
class Learned:
    """A calibrator, whether it is new, and how many labels of purpose `review` were left out."""

    calibrator: Calibrator
    is_new: bool
    refused: int


def learn(
    spec: ResolvedSpec, runs: Runs, *, tasks: Sequence[str], truth: Path | None, at: datetime
) -> dict[str, Learned | UsageError]:
    """Fit and store a calibrator for each of these tasks (of all that have an acceptance test, if none is named).

    Where one task has too few labels the others are learned all the same; its error stands in its place.

    Raises:
        UsageError: a task is not in the spec or has no acceptance test, or the truth cannot be read.
        StoreError: as the store says, or labels are damaged.
    """
    chosen = _chosen(spec, tasks)
    given = None if truth is None else GivenTruth(truth)
    labels = _labels(runs) if given is None else []
    found: dict[str, Learned | UsageError] = {}
    for task in chosen:
        known = given.of(task) if given is not None else _from_labels(spec.job, task.name, labels)
        try:
            calibrator = _fit(task, runs, known)
        except UsageError as error:
            found[task.name] = error
        else:
            found[task.name] = Learned(calibrator, keep_calibrator(runs.store, calibrator, at=at), known.refused)
    return found


def _chosen(spec: ResolvedSpec, names: Sequence[str]) -> list[ResolvedTask]:
    there = {task.name: task for task in spec.tasks}
    for name in names:
        if name not in there:
            raise UsageError(f"--tasks {name!r}: the spec has no such task", hint=f"it has {', '.join(there)}")
        if there[name].operator not in TESTED:
            raise UsageError(
                f"task {name}: for {there[name].operator} there is no acceptance test yet, so no p_ok",
                hint=f"tasks of {', '.join(TESTED)} can be calibrated",
            )
    chosen = [task for task in spec.tasks if (task.name in names if names else task.operator in TESTED)]
    if not chosen:
        raise UsageError("no task of the spec can be calibrated", hint=f"tasks of {', '.join(TESTED)} can be")
    return chosen


def _fit(task: ResolvedTask, runs: Runs, known: Truths) -> Calibrator:
    wanted = (task.name, task.digest)
    used = [plan.run_id for plan in runs.plans() if wanted in [(one.name, one.digest) for one in plan.tasks()]]
    structs: dict[str, _Outcome] = {}
    population: list[Floats] = []
    for run in used:
        for _, rows in iter_results(runs.store, run, ["item_id", "key", "version", task.name]):
            usable = _usable(rows, task.name)
            population.append(features(task.operator, usable[task.name].combine_chunks()).score)
            labelled = usable.filter(pc.is_in(usable[known.name], pa.array(list(known.values), pa.string())))
            structs |= _outcomes(task, labelled, known)  # of a later run: its version of the item stands
    ordered = [structs[name] for name in sorted(structs)]
    subject = Subject(task=task.name, operator=task.operator, model=task.model.digest, task_digest=task.digest)
    if not ordered:
        raise UsageError(
            f"task {task.name}: no label of a uniform random draw belongs to a prediction of its present model and "
            f"parameters" + (f" ({known.refused} of purpose review do not count)" if known.refused else ""),
            hint="set review.audit and pull labels, or give --truth FILE with the truth of a uniform random sample",
        )
    fields = fields_of(task.operator)
    table = pa.array([{name: one.struct[name] for name in fields} for one in ordered])
    return fit_calibrator(
        subject,
        _judged(features(task.operator, table), ordered),
        np.array([one.ok for one in ordered], np.bool_),
        population=np.concatenate(population),
        fitted_on=FittedOn(labels=0, right=0, runs=tuple(used), source=known.source, purposes=known.purposes),
    )


def _usable(rows: pa.Table, task: str) -> pa.Table:
    return rows.filter(pc.and_(pc.is_valid(rows[task]), pc.is_null(pc.struct_field(rows[task], "error"))))


def _judged(found: Features, outcomes: Sequence[_Outcome]) -> Features:
    """With what is known of the single boxes, masks or lines, if it is known of every prediction."""
    if found.parts is None or any(one.parts is None for one in outcomes):
        return found
    ok = np.array([verdict for one in outcomes for verdict in one.parts or ()], np.bool_)
    return replace(found, parts=replace(found.parts, ok=ok))


def _outcomes(task: ResolvedTask, rows: pa.Table, known: Truths) -> dict[str, _Outcome]:
    found = {}
    for row in rows.to_pylist():
        struct = row[task.name]
        if known.versions.get(row["item_id"], row["version"]) != row["version"]:
            continue  # people saw another version of it
        said = [is_accepted(task.operator, struct, value) for value in known.values[row[known.name]]]
        verdicts = [one for one in said if one is not None]
        if verdicts:
            parts = _majority([parts_right(task.operator, struct, value) for value in known.values[row[known.name]]])
            found[row["item_id"]] = _Outcome(struct, 2 * sum(verdicts) > len(verdicts), parts)
    return found


def _majority(verdicts: Sequence[Sequence[bool] | None]) -> list[bool] | None:
    """Of each part; a tie is wrong."""
    said = [one for one in verdicts if one is not None]
    return [2 * sum(votes) > len(said) for votes in zip(*said, strict=True)] if said else None


def _labels(runs: Runs) -> list[Label]:
    labels, findings = read_labels(runs.store)
    for finding in findings:
        raise StoreError(f"{runs.store.root}/{finding.key}: {finding.what}", hint=finding.next)
    return labels


def _from_labels(job: str, task: str, labels: Iterable[Label]) -> Truths:
    """The last answer of each person about each item, of random draws; skipped and deleted answers are none."""
    annotations: dict[tuple[str, str], Label] = {}
    for label in labels:  # as they happened
        if (label.job, label.task) == (job, task):
            annotations[label.server, label.annotation_id] = label
    live = [one for one in annotations.values() if one.event != "deleted" and not one.was_cancelled and one.value]
    purposes = Counter(one.purpose for one in live)
    random = [one for one in live if one.purpose in RANDOM_DRAWS]
    versions = {one.item_id: one.version for one in random}  # the last one
    last = {(one.item_id, one.annotator): one for one in random if one.version == versions[one.item_id]}
    values: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (item, _), label in sorted(last.items(), key=lambda pair: (pair[0][0], pair[0][1] or "")):
        values[item].append(json.loads(label.value or "{}"))
    drawn = tuple(sorted(name for name in purposes if name in RANDOM_DRAWS))
    return Truths("item_id", values, "labels", drawn, purposes[Route.REVIEW], versions)
