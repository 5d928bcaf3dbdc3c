"""How is a calibrator learned? From the outcomes of a uniform random draw: people's labels of one, or a given truth.

Only labels of purpose `calibrate` are of such a draw. Those of purpose `review` are of items that were sent to people
for being unsure, those of purpose `audit` of accepted ones: neither says how often the others are right. Within a draw
every item counts once: by majority of the people who labelled it, a tie being wrong.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from winnow_annotation.gate.gold import is_reserved
from winnow_jobs.acceptance import TESTED, acceptance_of, is_accepted
from winnow_jobs.beside import NEEDED, VectorsBeside
from winnow_jobs.calibrators import beside_column, columns_beside, fields_read, keep_calibrator, tasks_beside, with_p_ok
from winnow_jobs.draws import answered_before
from winnow_jobs.given_truth import GivenTruth, Truths
from winnow_jobs.part_verdicts import parts_right
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.verify.labels import read_labels
from winnow_jobs.words import counted
from winnow_storage.dataset import iter_results
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.records import Label
from winnow_storage.schemas import Route
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.features import Features, Floats, features, fields_of, said
from winnow_workers.confidence.neighbours import SAYS, Neighbours, gather
from winnow_workers.confidence.part_curves import PartCurves
from winnow_workers.evaluation.acceptance import Acceptance

_CHOSEN = (Route.REVIEW, Route.AUDIT)  # by what the model said, so that they are no uniform draw


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A prediction: whether it is right, which of its parts are, what is true; the vector and digest of its item."""

    struct: dict[str, Any]
    ok: bool
    parts: list[bool] | None
    truth: str
    vector: Sequence[float] | None
    content: str


@dataclass(frozen=True, slots=True)
class Learned:
    """A calibrator, whether it is new, and by purpose how many labels of no uniform draw were left out.

    `set_aside`: items whose answers may have taught or chosen the model.
    """

    calibrator: Calibrator
    is_new: bool
    left_out: Mapping[str, int]
    set_aside: int = 0

    @property
    def text(self) -> str:
        """A line for people."""
        one, draw = self.calibrator, self.calibrator.fitted_on
        return (
            f"{one.id}{'' if self.is_new else ' (the same as before)'}, {one.form}, from {draw.labels} labels, "
            f"{draw.right} right ({draw.source})"
        )

    def record(self) -> dict[str, Any]:
        """As JSON."""
        one = self.calibrator
        return {
            "calibrator": one.id,
            "digest": one.digest,
            "new": self.is_new,
            "mask_iou": one.subject.mask_iou,
            "form": one.form,
            "log_losses": dict(one.log_losses),
            "parts": None if one.parts is None else _parts_record(one.parts),
            "neighbours": None if one.neighbours is None else one.neighbours.task,
            "fitted_on": one.fitted_on.model_dump(mode="json"),
            "labels_left_out": dict(self.left_out),
            "set_aside": self.set_aside,
        }


def _parts_record(parts: PartCurves) -> dict[str, Any]:
    return parts.model_dump(mode="json", include={"form", "parts", "right", "log_losses"}) | {
        "classes": sorted(parts.by_class)
    }


def learn(
    spec: ResolvedSpec,
    runs: Runs,
    *,
    tasks: Sequence[str],
    truth: Path | None,
    at: datetime,
    neighbours: str | None = None,
) -> dict[str, Learned | UsageError]:
    """Fit and store a calibrator for each of these tasks (of all that have an acceptance test, if none is named).

    `neighbours` names an `embed` task: labelled items whose vectors are near speak for or against a prediction.

    Where one task has too few labels, or the truth says nothing about it that can be read, the others are learned all
    the same; its error stands in its place.

    Raises:
        UsageError: a task is not in the spec or has no acceptance test, or there is no truth.
        StoreError: as the store says, or labels are damaged.
    """
    chosen = _chosen(spec, tasks)
    vectors = None if neighbours is None else _vectors(spec, neighbours)
    given = None if truth is None else GivenTruth(truth)
    labels = _labels(runs) if given is None else []
    found: dict[str, Learned | UsageError] = {}
    for task in chosen:
        set_aside = 0
        try:
            known = given.of(task) if given is not None else _untaught(spec, runs, task, labels)
            set_aside = known.set_aside
            acceptance = acceptance_of(spec.review.policies.get(task.name))
            calibrator = _fit(task, runs, known, vectors, acceptance)
        except UsageError as error:
            found[task.name] = _with_aside(error, set_aside)
        except (KeyError, pa.ArrowInvalid) as error:
            if task.kind == task.operator:
                raise
            found[task.name] = UsageError(  # the others are learned all the same
                f"task {task.name}: the rows of {task.operator} lack a field of {task.kind}: {error}",
                hint=f"give it the fields that {task.kind} has (docs/operators.md); winnow operators check looks at it",
            )
        else:
            is_new = keep_calibrator(runs.store, calibrator, at=at)
            found[task.name] = Learned(calibrator, is_new, known.left_out, set_aside)
    return found


def told(left_out: Mapping[str, int]) -> str:
    """Which labels do not count, in words."""
    counts = " and ".join(f"{count:,} of purpose {purpose}" for purpose, count in left_out.items())
    return f"{counts} do not count: they are no uniform draw"


def told_aside(set_aside: int) -> str:
    """Which items do not count though they were drawn, in words, and what does."""
    return (
        f"{counted(set_aside, 'item')} answered before this model first ran do not count: the answers may have taught "
        f"or chosen it; those do that people give to draws of its own runs (review.calibrate), about other items"
    )


def _with_aside(error: UsageError, set_aside: int) -> UsageError:
    return UsageError(f"{error.message}; {told_aside(set_aside)}", hint=error.hint) if set_aside else error


def _chosen(spec: ResolvedSpec, names: Sequence[str]) -> list[ResolvedTask]:
    there = {task.name: task for task in spec.tasks}
    for name in names:
        if name not in there:
            raise UsageError(f"--tasks {name!r}: the spec has no such task", hint=f"it has {', '.join(there)}")
        if there[name].kind not in TESTED:
            raise UsageError(
                f"task {name}: for {there[name].operator} there is no acceptance test yet, so no p_ok",
                hint=f"tasks of {', '.join(TESTED)} can be calibrated",
            )
    chosen = [task for task in spec.tasks if (task.name in names if names else task.kind in TESTED)]
    if not chosen:
        raise UsageError("no task of the spec can be calibrated", hint=f"tasks of {', '.join(TESTED)} can be")
    return chosen


def _vectors(spec: ResolvedSpec, name: str) -> ResolvedTask:
    found = {task.name: task for task in spec.tasks if task.kind == "embed"}
    if name not in found:
        there = f"it has {', '.join(found)}" if found else "add one with operator: embed, and run it"
        raise UsageError(f"--neighbours {name!r}: the spec has no such task of embed", hint=there)
    return found[name]


def _fit(
    task: ResolvedTask, runs: Runs, known: Truths, vectors: ResolvedTask | None, acceptance: Acceptance
) -> Calibrator:
    made = [plan for plan in runs.plans() if _made_both(plan, task, vectors)]
    columns = ["item_id", "key", "version", task.name]
    columns += [] if vectors is None else ["content_sha256", f"{vectors.name}.vector"]
    looked_at = [] if vectors is None else [vectors.name]
    structs: dict[str, _Outcome] = {}
    population: list[Floats] = []
    used: list[PlanDocument] = []  # a run that no label speaks of may have drifted: its scores would hide that
    for plan in made:
        scores: list[Floats] = []
        outcomes: dict[str, _Outcome] = {}
        for rows in _rows(runs, [plan], columns, looked_at):
            usable = _usable(rows, task.name)
            score = pc.struct_field(usable[task.name].combine_chunks(), "score").cast(pa.float64())
            scores.append(score.to_numpy(zero_copy_only=False))  # null: NaN
            labelled = usable.filter(pc.is_in(usable[known.name], pa.array(list(known.values), pa.string())))
            outcomes |= _outcomes(task, labelled, known, vectors, acceptance)
        if outcomes:
            used.append(plan)
            population += scores
            structs |= outcomes  # of a later run: its version of the item stands
    ordered = [structs[name] for name in sorted(structs)]
    subject = Subject(
        task=task.name,
        operator=task.kind,
        model=task.model.digest,
        task_digest=task.digest,
        mask_iou=acceptance.mask_iou if task.kind == "segment" else None,
    )
    if not ordered:
        raise UsageError(
            f"task {task.name}: no label of a uniform random draw belongs to a prediction of its present model and "
            f"parameters" + (f" ({told(known.left_out)})" if known.left_out else ""),
            hint="set review.calibrate and pull labels, or give --truth FILE with the truth of a uniform random sample",
        )
    fields = [name for name in fields_of(task.kind) if name in ordered[0].struct]  # an own operator may lack some
    table = pa.array([{name: one.struct[name] for name in fields} for one in ordered])
    found, beside = _judged(features(task.kind, table), ordered), None
    if vectors is not None:
        found, beside = _beside(found, task, vectors, ordered)
    calibrator = fit_calibrator(
        subject,
        found,
        np.array([one.ok for one in ordered], np.bool_),
        neighbours=beside,
        population=np.concatenate(population),
        fitted_on=FittedOn(
            labels=0, right=0, runs=tuple(one.run_id for one in used), source=known.source, purposes=known.purposes
        ),
    )
    # a labelled item is its own nearest neighbour, which no item of a later run is
    return calibrator.watching(_p_ok_of_all(calibrator, runs, used, without=structs if calibrator.neighbours else ()))


def _made_both(plan: PlanDocument, task: ResolvedTask, vectors: ResolvedTask | None) -> bool:
    """Whether a run made the task's predictions, and made the vectors or found them where they stand."""
    made, there = ({(one.name, one.digest) for one in of} for of in (plan.tasks(), plan.chosen()))
    return (task.name, task.digest) in made and (vectors is None or (vectors.name, vectors.digest) in there)


def _rows(
    runs: Runs, used: Sequence[PlanDocument], columns: Sequence[str], beside: Sequence[str]
) -> Iterator[pa.Table]:
    """Of every shard of these runs, with the vectors of the tasks `beside` that lie in rows of earlier runs."""
    wanted = list(dict.fromkeys([*columns, *(NEEDED if beside else ())]))
    for plan in used:
        with VectorsBeside(runs.store, plan) as vectors:
            for _, rows in iter_results(runs.store, plan.run_id, wanted):
                yield vectors.added(rows, beside)


def _p_ok_of_all(
    calibrator: Calibrator, runs: Runs, used: Sequence[PlanDocument], *, without: Collection[str]
) -> Floats:
    """(m,): NaN where there is none."""
    task, looked_at = calibrator.subject.task, tasks_beside({calibrator.subject.task: calibrator})
    fields = dict.fromkeys(("error", *fields_read(calibrator)))
    columns = ["item_id", *(f"{task}.{name}" for name in fields), *columns_beside({task: calibrator})]
    found = [np.zeros(0)]
    for rows in _rows(runs, used, columns, looked_at):
        if not set(looked_at) <= set(rows.column_names):
            continue
        usable = _usable(rows, task)
        others = usable.filter(pc.invert(pc.is_in(usable["item_id"], pa.array(list(without), pa.string()))))
        p_ok = pc.struct_field(with_p_ok(others, task, calibrator)[task].combine_chunks(), "p_ok")
        found.append(pc.fill_null(p_ok.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False))
    return np.concatenate(found)


def _usable(rows: pa.Table, task: str) -> pa.Table:
    return rows.filter(pc.and_(pc.is_valid(rows[task]), pc.is_null(pc.struct_field(rows[task], "error"))))


def _beside(
    found: Features, task: ResolvedTask, vectors: ResolvedTask, outcomes: Sequence[_Outcome]
) -> tuple[Features, Neighbours]:
    """With what the other labelled items say of each: those of other bytes."""
    lengths = {len(one.vector) for one in outcomes if one.vector is not None}
    if len(lengths) != 1:
        raise UsageError(
            f"task {task.name}: the labelled items have no vectors of {vectors.name}, or of different lengths",
            hint=f"run {vectors.name} over them, or learn without --neighbours",
        )
    missing = [float("nan")] * lengths.pop()
    points = np.array([missing if one.vector is None else one.vector for one in outcomes], np.float64)
    there: npt.NDArray[np.bool_] = np.asarray(np.isfinite(points).all(axis=1), np.bool_)
    truths, right = [one.truth for one in outcomes], np.array([one.ok for one in outcomes], np.bool_)
    known = gather(vectors.name, vectors.digest, points[there], right[there], list(np.array(truths)[there]))
    groups = np.unique([one.content for one in outcomes], return_inverse=True)[1].astype(np.int64)
    says = said(task.kind, pa.array([one.struct for one in outcomes]))
    columns = known.columns(points[there], says[there], groups=groups[there])
    return found.beside({name: _spread(column, there) for name, column in columns.items()}), known


def _spread(column: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    whole = np.full(len(there), np.nan)
    whole[there] = column
    return whole


def _judged(found: Features, outcomes: Sequence[_Outcome]) -> Features:
    """With what is known of the single boxes, masks or lines, if it is known of every prediction."""
    if found.parts is None or any(one.parts is None for one in outcomes):
        return found
    ok = np.array([verdict for one in outcomes for verdict in one.parts or ()], np.bool_)
    return replace(found, parts=replace(found.parts, ok=ok))


def _outcomes(
    task: ResolvedTask, rows: pa.Table, known: Truths, vectors: ResolvedTask | None, acceptance: Acceptance
) -> dict[str, _Outcome]:
    found = {}
    for row in rows.to_pylist():
        struct = row[task.name]
        if known.versions.get(row["item_id"], row["version"]) != row["version"]:
            continue  # people saw another version of it
        values = known.values[row[known.name]]
        try:
            said = [is_accepted(task.kind, struct, value, acceptance) for value in values]
            parts = _majority([parts_right(task.kind, struct, value, acceptance) for value in values])
        except ValueError as error:
            raise known.unfit(row["key"], error) from error
        verdicts = [one for one in said if one is not None]
        if verdicts:
            beside = None if vectors is None else _vector(row, vectors.name)
            truth = _word(task.kind, values)
            ok = 2 * sum(verdicts) > len(verdicts)
            found[row["item_id"]] = _Outcome(struct, ok, parts, truth, beside, row.get("content_sha256") or "")
    return found


def _vector(row: Mapping[str, Any], task: str) -> Sequence[float] | None:
    """Of an `embed` task; where rows have all vectors in a column beside, its struct has only this run's own."""
    name = beside_column(task)
    found: Sequence[float] | None = row[name] if name in row else (row.get(task) or {}).get("vector")
    return found


def _word(operator: str, values: Sequence[Mapping[str, Any]]) -> str:
    """What most people say is true, as `said` writes it; empty where that is no single word."""
    name = SAYS.get(operator)
    words = [str(one[name]) for one in values if name is not None and one.get(name) is not None]
    words = [word.lower() for word in words] if operator == "anomaly" else words  # as Arrow writes true and false
    return Counter(words).most_common(1)[0][0] if words else ""


def _majority(verdicts: Sequence[Sequence[bool] | None]) -> list[bool] | None:
    """Of each part; a tie is wrong."""
    said = [one for one in verdicts if one is not None]
    return [2 * sum(votes) > len(said) for votes in zip(*said, strict=True)] if said else None


def _labels(runs: Runs) -> list[Label]:
    from winnow_jobs.consensus.answers import with_one_answer

    labels, findings = read_labels(runs.store)
    for finding in findings:
        raise StoreError(f"{runs.store.root}/{finding.key}: {finding.what}", hint=finding.next)
    # where several people answered each is taken to say what they say together, in which the model has no voice
    return with_one_answer(runs.store, labels)


def _untaught(spec: ResolvedSpec, runs: Runs, task: ResolvedTask, labels: Sequence[Label]) -> Truths:
    """What people say, without the items that may have taught the model: it is surer of those than of others.

    Gold teaches no head. Other models learn outside, from all labels that `winnow export labels` writes.
    """
    known = _from_labels(spec.job, task.name, labels)
    early = answered_before(labels, task, runs.plans())
    gold = 0.0 if task.vectors is None else spec.learn.gold
    taught = {
        one.item_id for one in labels if one.key in early and not is_reserved(spec.job, task.name, one.key, share=gold)
    }
    values = {item: said for item, said in known.values.items() if item not in taught}
    return replace(known, values=values, set_aside=len(known.values) - len(values))


def _from_labels(job: str, task: str, labels: Iterable[Label]) -> Truths:
    """The last answer of each person about each item, of uniform draws; skipped and deleted answers are none."""
    annotations: dict[tuple[str, str], Label] = {}
    for label in labels:  # as they happened
        if (label.job, label.task) == (job, task):
            annotations[label.server, label.annotation_id] = label
    live = [one for one in annotations.values() if one.event != "deleted" and not one.was_cancelled and one.value]
    purposes = Counter(one.purpose for one in live)
    random = [one for one in live if one.purpose == Route.CALIBRATE]
    versions = {one.item_id: one.version for one in random}  # the last one
    last = {(one.item_id, one.annotator): one for one in random if one.version == versions[one.item_id]}
    values: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (item, _), label in sorted(last.items(), key=lambda pair: (pair[0][0], pair[0][1] or "")):
        values[item].append(json.loads(label.value or "{}"))
    left_out = {str(purpose): purposes[purpose] for purpose in _CHOSEN if purposes[purpose]}
    return Truths("item_id", values, "labels", (str(Route.CALIBRATE),), left_out, versions)
