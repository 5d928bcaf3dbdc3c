"""How is a calibrator learned? From the outcomes of a uniform random draw: people's labels of one, or a given truth.

Labels of items that were sent to people for being unsure say nothing of the others, so those of purpose `review` are
never taken. Within a draw every item counts once: by majority of the people who labelled it, a tie being wrong.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from winnow_jobs.acceptance import TESTED, is_accepted
from winnow_jobs.calibrators import keep_calibrator
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.runs import Runs
from winnow_jobs.verify.labels import read_labels
from winnow_storage.dataset import iter_results
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.records import Label
from winnow_storage.schemas import Route
from winnow_workers.classifiers.label_tree import path_to
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.features import Floats, features, fields_of

RANDOM_DRAWS = (Route.AUDIT, Route.CALIBRATE)
Values = Mapping[str, Sequence[Mapping[str, Any]]]  # by item: what each person, or the truth, says


@dataclass(frozen=True, slots=True)
class Truths:
    """What is known of items, by `name`: "item_id" or "key"."""

    name: str
    values: Values
    source: str
    purposes: tuple[str, ...] = ()
    refused: int = 0  # labels of purpose `review`
    versions: Mapping[str, str] = field(default_factory=dict)  # of the items that people saw


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
    rows = None if truth is None else _truth_rows(truth)
    labels = _labels(runs) if rows is None else []
    found: dict[str, Learned | UsageError] = {}
    for task in chosen:
        known = _from_truth(task, rows) if rows is not None else _from_labels(spec.job, task.name, labels)
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
    structs: dict[str, tuple[dict[str, Any], bool]] = {}
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
    table = pa.array([{name: struct[name] for name in fields} for struct, _ in ordered])
    return fit_calibrator(
        subject,
        features(task.operator, table),
        np.array([ok for _, ok in ordered], np.bool_),
        population=np.concatenate(population),
        fitted_on=FittedOn(labels=0, right=0, runs=tuple(used), source=known.source, purposes=known.purposes),
    )


def _usable(rows: pa.Table, task: str) -> pa.Table:
    return rows.filter(pc.and_(pc.is_valid(rows[task]), pc.is_null(pc.struct_field(rows[task], "error"))))


def _outcomes(task: ResolvedTask, rows: pa.Table, known: Truths) -> dict[str, tuple[dict[str, Any], bool]]:
    found = {}
    for row in rows.to_pylist():
        struct = row[task.name]
        if known.versions.get(row["item_id"], row["version"]) != row["version"]:
            continue  # people saw another version of it
        said = [is_accepted(task.operator, struct, value) for value in known.values[row[known.name]]]
        verdicts = [one for one in said if one is not None]
        if verdicts:
            found[row["item_id"]] = (struct, 2 * sum(verdicts) > len(verdicts))
    return found


def _labels(runs: Runs) -> list[Label]:
    from winnow_jobs.consensus.answers import with_one_answer

    labels, findings = read_labels(runs.store)
    for finding in findings:
        raise StoreError(f"{runs.store.root}/{finding.key}: {finding.what}", hint=finding.next)
    # where several people answered each is taken to say what they say together, in which the model has no voice
    return with_one_answer(runs.store, labels)


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


def _from_truth(task: ResolvedTask, rows: Sequence[Mapping[str, Any]]) -> Truths:
    return Truths("key", {row["key"]: [_value(task, row)] for row in rows if _is_of(task, row)}, "truth")


def _is_of(task: ResolvedTask, row: Mapping[str, Any]) -> bool:
    return row.get("operator") in (None, task.operator)


def _value(task: ResolvedTask, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a truth table (see `quality`) as a label's value."""
    if task.operator != "segment":
        labels = row.get("labels")
        several = [one.strip() for one in labels.split("|") if one.strip()] if isinstance(labels, str) else labels
        label, tree = row.get("label"), task.params.get("tree") or {}
        path = path_to(label, tree) if label is not None and label in tree else None
        others = {"full_text": row.get("text"), "is_anomalous": row.get("anomalous")}
        return {"label": label, "labels": several, "path": path} | others
    masks = row.get("masks")
    there = None if masks is None else json.loads(masks)
    return {"masks": None if there is None else [{"label": label, "rle": rle} for label, rle in there.items()]}


def _truth_rows(file: Path) -> list[dict[str, Any]]:
    try:
        table = pyarrow.csv.read_csv(file) if file.suffix == ".csv" else pq.read_table(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"the truth {file} cannot be read: {error}", hint="give a Parquet or CSV file") from error
    if "key" not in table.column_names:
        raise UsageError(f"the truth {file} has no column 'key'", hint="give a row per item with its key")
    for name in ("label", "labels", "text", "key"):
        if name in table.column_names and not pa.types.is_nested(table.schema.field(name).type):
            # a CSV with labels such as 7 has them as numbers
            place = table.column_names.index(name)
            table = table.set_column(place, name, table[name].cast(pa.string()))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
