"""What is promised about what a run accepts, and on which evidence? Objects by digest in the output, pinned by runs.

`promises/TASK/DIGEST.json` is a promise with its evidence, or what stood in its way; `runs/RUN/promises.json` pins
those that a run is routed by. They are fitted when a run is first routed, from the labels that are in the bucket then:
the answered draws of purpose `calibrate` of earlier runs by the same model. `promises/TASK/ranks/` keeps how the ranks
of those runs are distributed, so that they are read once.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from winnow_annotation.gate.gold import is_reserved
from winnow_annotation.guarantees.fit import Fitted, Labelled, Shown, fit, shown
from winnow_annotation.guarantees.rank_counts import RankCounts
from winnow_annotation.policies import Policy
from winnow_annotation.ranks import flagged, names_any, ranks, score_of
from winnow_annotation.wishes import Predictions, Thresholds, ruled_by
from winnow_jobs.acceptance import acceptance_of
from winnow_jobs.calibrators import Calibrators
from winnow_jobs.draws import Draw, DrawSet, all_labels, answered_draws, is_harmful
from winnow_jobs.drift_records import DriftRecord, moved_with, newest_drift
from winnow_jobs.kept import read_kept
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ids import canonical_json, digest_value
from winnow_storage.records import Label
from winnow_storage.schemas import Route
from winnow_workers.confidence.calibrator import Calibrator
from winnow_workers.confidence.features import features

# The usable predictions of a run, some at a time: what `review` reads. Given by the caller, which has the calibrators.
ReadPredictions = Callable[[PlanDocument, ResolvedTask, Policy], Iterator[Predictions]]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evidence(_Record):
    """What a promise stands on: of `drawn` uniform draws in `runs`, `labels` were answered and count.

    The threshold accepts `accepted` of them, with a total loss of `loss`; `bound` is the upper bound of what is
    promised, at the stated confidence. `set_aside`: they may have taught or chosen the model (answered before it first
    ran, or gold), or are from before something moved (drift).
    """

    runs: tuple[str, ...]
    drawn: int
    labels: int
    set_aside: int
    accepted: int
    loss: float
    bound: float | None
    coverage: float  # of the predictions drawn from, those that this rule and threshold accept
    tested: int
    method: str
    labels_digest: str


class Promise(_Record):
    """Of one rule of a task's policy; `threshold` null: not supported, for the reason in `why`.

    `missing`: so many more answered draws would do; null if no number would. `reads` is the threshold for people.
    """

    format: Literal[1] = 1
    task: str
    rule: str
    task_digest: str
    promise: Literal["max_error", "max_loss", "min_recall"]
    target: float
    confidence: float | None
    rank: str
    calibrator: str | None
    threshold: float | None
    reads: str
    missing: int | None
    why: str
    evidence: Evidence

    @property
    def digest(self) -> str:
        """Of its content; its name in the store."""
        return digest_value(self.model_dump(mode="json"))

    def record(self) -> dict[str, Any]:
        """As JSON, with its digest and a sentence for people."""
        return self.model_dump(mode="json") | {"digest": self.digest, "text": promise_text(self)}


Promises = Mapping[str, Mapping[str, Promise]]  # by task and rule


@dataclass(frozen=True, slots=True)
class Fitting:
    """Where promises are fitted: over these runs, with these labels, by these calibrators."""

    store: BlobStore
    plans: Sequence[PlanDocument]
    labels: Sequence[Label]
    calibrators: Calibrators
    read: ReadPredictions
    keep: bool = True  # what is derived from rows, so that they are read once
    gold: float = 0.0  # the share of items on which heads are compared: they chose the model, so they promise nothing
    drift: DriftRecord | None = None  # of what was before something moved nothing is evidence of what is now


def pinned_promises(store: BlobStore, plan: PlanDocument, calibrators: Calibrators, read: ReadPredictions) -> Promises:
    """Those that a run is routed by; the first call for a run fits them, keeps them and pins them.

    Raises:
        StoreError: one of them, or a label, is damaged or gone.
    """
    if not any(makes_promise(policy) for policy in plan.spec.review.policies.values()):
        return {}
    key = f"runs/{plan.run_id}/promises.json"
    try:
        pins = json.loads(store.get(key))
    except BlobMissing:
        earlier = [one for one in Runs(store).plans() if int(one.run_id) < int(plan.run_id)]
        drift = newest_drift(store, before=plan.run_id)
        fitting = Fitting(store, earlier, all_labels(store), calibrators, read, gold=plan.spec.learn.gold, drift=drift)
        found = fit_promises(fitting, plan)
        pins = {task: {rule: keep_promise(store, one) for rule, one in of.items()} for task, of in found.items()}
        if not store.put_if_absent(key, canonical_json(pins).encode()):
            pins = json.loads(store.get(key))  # another driver was first
    return {task: {rule: _load(store, task, digest) for rule, digest in of.items()} for task, of in pins.items()}


def kept_promises(store: BlobStore, run_id: str, task: str) -> dict[str, Promise]:
    """Those that a run pinned for a task, by rule; none where it has not pinned any.

    Raises:
        StoreError: one of them is damaged or gone.
    """
    try:
        pins = json.loads(store.get(f"runs/{run_id}/promises.json"))
    except BlobMissing:
        return {}
    return {rule: _load(store, task, digest) for rule, digest in pins.get(task, {}).items()}


def makes_promise(policy: Policy) -> bool:
    """Whether any of its rules has a threshold that is found from labels."""
    return any(rule.is_promise for rule in policy.rules().values())


def fit_promises(fitting: Fitting, plan: PlanDocument) -> Promises:
    """A promise, supported or not, for every rule of the plan's policies that makes one."""
    found: dict[str, dict[str, Promise]] = {}
    for task in plan.tasks():
        policy = plan.spec.review.policies.get(task.name)
        if policy is not None and makes_promise(policy):
            found[task.name] = fit_task(fitting, task, policy)
    return found


def fit_task(fitting: Fitting, task: ResolvedTask, policy: Policy) -> dict[str, Promise]:
    """The promises of one task's policy."""
    drawn = promised_on(fitting, task, policy)
    return {
        name: _fit_rule(fitting, task, policy, name, drawn) for name, rule in policy.rules().items() if rule.is_promise
    }


def shown_by(
    drawn: DrawSet,
    task: ResolvedTask,
    policy: Policy,
    said: Promise,
    calibrator: Calibrator | None,
    labels: Sequence[Label],
) -> Shown:
    """Whether these draws by themselves show at its threshold what a promise says; `calibrator` is that of its rank."""
    drawn = _untaught(drawn, calibrator, labels)
    labelled = labelled_draws(task.kind, policy, said.rule, drawn, calibrated_structs(task.kind, drawn, calibrator))
    return shown(policy.rules()[said.rule], labelled, math.inf if said.threshold is None else said.threshold)


def evidence_of(fitting: Fitting, task: ResolvedTask, policy: Policy, said: Promise) -> Labelled:
    """The draws of a promise's runs as its rule sees them: those that it was fitted on, and what was answered since."""
    calibrator = fitting.calibrators.get(task.name) if said.rank == "p_ok" else None
    drawn = _untaught(promised_on(fitting, task, policy), calibrator, fitting.labels)
    drawn = replace(drawn, draws=tuple(one for one in drawn.draws if one.run_id in said.evidence.runs))
    return labelled_draws(task.kind, policy, said.rule, drawn, calibrated_structs(task.kind, drawn, calibrator))


def promised_on(fitting: Fitting, task: ResolvedTask, policy: Policy) -> DrawSet:
    """The answered draws that are evidence: of the runs since something last moved, and where a gate chooses the task's
    model on gold, those that are no gold.
    """
    wanted = acceptance_of(policy)
    drawn = answered_draws(fitting.store, fitting.plans, task, fitting.labels, Route.CALIBRATE, wanted)
    moved = moved_with(fitting.drift, task.name)
    if moved is not None:
        drawn = _of_runs(drawn, [run for run in drawn.runs if int(run) >= int(moved)])
    if task.vectors is None or not fitting.plans:
        return drawn
    job = fitting.plans[-1].spec.job
    return _kept(drawn, [one for one in drawn.draws if not is_reserved(job, task.name, one.key, share=fitting.gold)])


def thresholds_of(promises: Promises) -> dict[str, Thresholds]:
    """The thresholds of those that are supported, by task and rule."""
    return {
        task: {rule: one.threshold for rule, one in of.items() if one.threshold is not None}
        for task, of in promises.items()
    }


def claim_of(one: Promise) -> str:
    """What is promised, with which certainty, whether labels support it or not."""
    what = {
        "max_error": f"at most {one.target:.2%} of the accepted is wrong",
        "max_loss": f"the mean loss of the accepted is at most {one.target:g}"
        if one.confidence is not None
        else f"the expected loss that passes, over all items, is at most {one.target:g}",
        "min_recall": f"at least {one.target:.2%} of what is harmful is not let through",
    }[one.promise]
    return what + (f", with {one.confidence:.0%} certainty" if one.confidence is not None else "")


def promise_text(one: Promise) -> str:
    """A promise, or why there is none, in a sentence."""
    where = f"{one.task}, class {one.rule}" if one.rule else one.task
    claim, seen = claim_of(one), one.evidence
    if one.threshold is None:
        need = "" if one.missing is None else f"; {one.missing:,} more answered draws are needed (review.calibrate)"
        return f"{where}: it cannot be promised that {claim}: {one.why}{need}"
    return (
        f"{where}: {claim}, from {one.reads}; {seen.labels:,} labelled draws, {seen.accepted:,} of them count "
        f"there, {seen.loss:.4g} wrong, upper bound {seen.bound or 0.0:.4f} ({seen.method}); promise {one.digest[:12]}"
    )


def keep_promise(store: BlobStore, one: Promise) -> str:
    """Store it; its digest."""
    store.put_if_absent(_key(one.task, one.digest), canonical_json(one.model_dump(mode="json")).encode())
    return one.digest


def calibrated_structs(operator: str, drawn: DrawSet, calibrator: Calibrator | None) -> pa.StructArray:
    """The drawn predictions, with p_ok by this calibrator."""
    rows = drawn.structs(operator)
    if calibrator is None:
        return rows
    if calibrator.neighbours is None:
        p_ok = pa.array(calibrator.p_ok(features(calibrator.subject.operator, rows)), pa.float32(), from_pandas=True)
    else:  # the vectors that it looks at are not in the routes; what it said when the draw was made is
        said = [one.struct.get("p_ok") if _is_by(one, calibrator) else None for one in drawn.draws]
        p_ok = pa.array(said, pa.float32())
    names = [field.name for field in rows.type]
    return pa.StructArray.from_arrays([p_ok if name == "p_ok" else rows.field(name) for name in names], names=names)


def _fit_rule(fitting: Fitting, task: ResolvedTask, policy: Policy, name: str, drawn: DrawSet) -> Promise:
    rule = policy.rules()[name]
    calibrator = fitting.calibrators.get(task.name) if rule.rank == "p_ok" else None
    drawn = _untaught(drawn, calibrator, fitting.labels)
    rows = calibrated_structs(task.kind, drawn, calibrator)
    labelled = labelled_draws(task.kind, policy, name, drawn, rows)
    counts = RankCounts()
    for run_id in drawn.runs if len(labelled) else ():
        plan = next(one for one in fitting.plans if one.run_id == run_id)
        counts.merge(_rank_counts(fitting, plan, task, policy, name))
    found = fit(rule, labelled, counts)
    moved = moved_with(fitting.drift, task.name) if found.threshold is None else None
    target = {"max_error": rule.max_error, "max_loss": rule.max_loss, "min_recall": rule.min_recall}
    kind = rule.promise or "max_error"
    return Promise(
        task=task.name,
        rule=name,
        task_digest=task.digest,
        promise=kind,  # type: ignore[arg-type]
        target=target[kind] or 0.0,
        confidence=rule.confidence if kind == "max_loss" else rule.certainty,
        rank="harm" if kind == "min_recall" else rule.rank,
        calibrator=None if calibrator is None else calibrator.id,
        threshold=found.threshold,
        reads="" if found.threshold is None else score_of(task.kind, found.threshold, rule),
        missing=found.missing,
        why=found.why if moved is None else f"{found.why} (of run {moved} and later: with it something moved)",
        evidence=_evidence(drawn, found, counts),
    )


def _untaught(drawn: DrawSet, calibrator: Calibrator | None, labels: Sequence[Label]) -> DrawSet:
    """Without the runs that a calibrator was learned on from people's labels: those made the very order of p_ok.

    Of one that heeds labelled items without these as well, and only those draws about which it spoke itself.
    """
    if calibrator is None:
        return drawn
    taught = set(calibrator.fitted_on.runs) if calibrator.fitted_on.source == "labels" else set()
    drawn = _of_runs(drawn, [run for run in drawn.runs if run not in taught])
    if calibrator.neighbours is None:
        return drawn
    known = {one.key for one in labels if one.task == calibrator.subject.task and one.run_id in taught}
    return _kept(drawn, [one for one in drawn.draws if one.key not in known and _is_by(one, calibrator)])


def _of_runs(drawn: DrawSet, runs: Sequence[str]) -> DrawSet:
    return replace(_kept(drawn, [one for one in drawn.draws if one.run_id in runs]), runs=tuple(runs))


def _kept(drawn: DrawSet, draws: Sequence[Draw]) -> DrawSet:
    return replace(drawn, draws=tuple(draws), set_aside=drawn.set_aside + len(drawn.draws) - len(draws))


def _is_by(draw: Draw, calibrator: Calibrator) -> bool:
    return draw.struct.get("calibrator") == calibrator.id


def labelled_draws(operator: str, policy: Policy, name: str, drawn: DrawSet, rows: pa.StructArray) -> Labelled:
    """What a rule of a policy decides of the draws, whose structs are `rows`, with ranks and losses."""
    rule = policy.rules()[name]
    place = list(policy.rules()).index(name)
    predictions = drawn.predictions(operator, rows)
    by = ruled_by(predictions, policy)
    values = ranks(operator, rows, rule, policy.harmful)
    losses = np.array([one.loss if rule.max_loss is not None else float(not one.ok) for one in drawn.draws])
    if rule.min_recall is None:
        own = by == place
        return Labelled(values[own], losses[own], len(drawn.draws))
    # caught whatever the threshold: flagged ones that people see, or that are taken for harmful; let through: the lists
    caught = flagged(operator, rows, policy.harmful) | names_any(operator, rows, policy.always_review)
    caught |= predictions.listed(policy.always_review_items)
    values = np.where(by == place, values, np.where(caught, np.nan, np.inf))
    harmful = np.array([is_harmful(operator, one.truth, policy.harmful) for one in drawn.draws], np.bool_)
    return Labelled(values[harmful], losses[harmful], len(drawn.draws))


def _evidence(drawn: DrawSet, found: Fitted, counts: RankCounts) -> Evidence:
    said = [[one.run_id, one.key, one.ok, round(one.loss, 9)] for one in drawn.draws]
    return Evidence(
        runs=drawn.runs,
        drawn=drawn.drawn,
        labels=found.labels,
        set_aside=drawn.set_aside,
        accepted=found.accepted,
        loss=found.loss,
        bound=found.bound,
        coverage=0.0 if found.threshold is None else counts.share_from(found.threshold),
        tested=found.tested,
        method=found.method,
        labels_digest=digest_value(said),
    )


def _rank_counts(fitting: Fitting, plan: PlanDocument, task: ResolvedTask, policy: Policy, name: str) -> RankCounts:
    """How the ranks of a run's predictions under a rule are distributed; kept, since rows are final."""
    rule = policy.rules()[name]
    calibrator = fitting.calibrators.get(task.name) if rule.rank == "p_ok" else None
    about = [task.digest, rule.rank, rule.min_recall is not None, sorted(policy.harmful), list(policy.classes), name]
    about += [sorted(policy.always_review), sorted(policy.never_review), calibrator and calibrator.digest]
    if policy.names_items:
        about += [one.model_dump(mode="json") for one in (policy.always_review_items, policy.never_review_items)]
    key = f"promises/{task.name}/ranks/{plan.run_id}-{digest_value(about)[:32]}.json"
    try:
        return RankCounts.from_sparse(json.loads(fitting.store.get(key)))
    except BlobMissing:
        pass
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _damaged(fitting.store, key) from error
    counts = RankCounts()
    place = list(policy.rules()).index(name)
    for some in fitting.read(plan, task, policy):
        by = ruled_by(some, policy)
        counts.add(ranks(task.kind, some.rows, rule, policy.harmful)[by == place])
    if fitting.keep:
        fitting.store.put_if_absent(key, canonical_json(counts.sparse()).encode())
    return counts


def _load(store: BlobStore, task: str, digest: str) -> Promise:
    key = _key(task, digest)
    return read_kept(store, key, Promise, digest=digest, damaged=_damaged(store, key))


def _damaged(store: BlobStore, key: str) -> StoreError:
    return StoreError(
        f"{store.root}/{key} is missing or not what was written there when a run was routed",
        hint="restore it from a backup; what is below ranks/ may be removed, it is derived",
    )


def _key(task: str, digest: str) -> str:
    return f"promises/{task}/{digest}.json"
