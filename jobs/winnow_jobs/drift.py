"""Are a run's images, scores and labels still what they were? Every test of a run, and one alarm for all of them.

- inputs: the vectors of the run's images beside those of earlier runs by the same `embed` task (`compare_vectors`);
- scores: of each task with a calibrator beside the predictions that it was fitted on, of any other beside those of
  earlier runs (Kolmogorov-Smirnov); and what classifiers say beside what they said (`compare_classes`), which shows a
  change of the mix where scores stay as they were (Lipton, Wang, Smola, ICML 2018);
- labels: the classes that people saw in the uniform draws of the runs since the last test, beside the draws before
  (`compare_classes`).

What is there of the three shares `review.drift.false_alarms` alike, and so do its tests (Bonferroni), so a run where
nothing changed raises an alarm at most that often. `runs/RUN/drift.json` pins the tests with what they compared, and
what the runs after are to be compared with: the first REFERENCE_RUNS runs since the last alarm. An alarm begins anew:
the runs after it are compared with the run that raised it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_annotation.sampling import position
from winnow_jobs.acceptance import acceptance_of
from winnow_jobs.calibrators import Calibrators
from winnow_jobs.draws import Draw, all_labels, answered_draws, class_of
from winnow_jobs.drift_records import (
    DriftRecord,
    DriftTest,
    Kind,
    Reference,
    drift_alarm,
    drift_key,
    newest_drift,
    read_drift,
)
from winnow_jobs.drift_samples import (
    has_scores,
    has_words,
    keep_sample,
    load_sample,
    run_samples,
    together,
    vectors_in,
)
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.routes import iter_routes, own_routes
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore
from winnow_storage.ids import canonical_json
from winnow_storage.schemas import Route
from winnow_workers.confidence.drift import LEAST_ITEMS, Counted, Drift, Watch, sketch
from winnow_workers.confidence.features import Floats
from winnow_workers.confidence.two_samples import compare_classes, compare_vectors

REFERENCE_RUNS = 20  # with them a sample of the usual size hardly changes any more
LEAST_LABELS = 20  # on either side
EXAMPLES = 3
KIND_OF_LABELS: Kind = "labels"


def drift_part(
    store: BlobStore, plan: PlanDocument, calibrators: Calibrators, *, vectors: str | None
) -> dict[str, Any]:
    """What the record of a routed run says of drift; nothing where nothing is watched. The first call pins it.

    `vectors` names the task whose vectors are compared.

    Raises:
        StoreError: as the store says; or what is compared is damaged.
    """
    review = plan.spec.review
    if review.drift.false_alarms == 0 or plan.shards == 0 or not (review.policies or calibrators):
        return {}
    found = read_drift(store, plan.run_id)
    if found is None:
        found = _Testing(store, plan, calibrators, newest_drift(store, before=plan.run_id)).record(vectors)
        if not store.put_if_absent(drift_key(plan.run_id), canonical_json(found.model_dump(mode="json")).encode()):
            found = read_drift(store, plan.run_id) or found  # another driver was first
    return {"drift": [one.model_dump(mode="json") for one in found.tests], "drift_alarm": drift_alarm(found)}


@dataclass(frozen=True, slots=True)
class _Samples:
    """Of one task's vectors or scores: a sample of earlier runs, if there is one to go on from, and of this run."""

    kind: Kind
    task: ResolvedTask
    now: pa.Table
    before: pa.Table | None = None
    runs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.task.name}"

    @property
    def pair(self) -> tuple[pa.Table, pa.Table] | None:
        """Both, if they are enough to compare."""
        if self.before is None or min(self.before.num_rows, self.now.num_rows) < LEAST_ITEMS:
            return None
        return self.before, self.now


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The answered uniform draws of one task: those of the runs tested before, and those of runs since."""

    task: ResolvedTask
    before: Sequence[Draw]
    now: Sequence[Draw]

    @property
    def name(self) -> str:
        return f"labels/{self.task.name}"

    @property
    def is_enough(self) -> bool:
        return len(self.before) >= LEAST_LABELS and len(self.now) >= LEAST_LABELS


class _Testing:
    """All tests of one run."""

    def __init__(
        self, store: BlobStore, plan: PlanDocument, calibrators: Calibrators, earlier: DriftRecord | None
    ) -> None:
        self._store, self._plan, self._calibrators = store, plan, calibrators
        self._references = dict(earlier.references) if earlier else {}
        self._moved = dict(earlier.moved) if earlier else {}

    def record(self, vectors: str | None) -> DriftRecord:
        """Of every test that there is enough for."""
        samples, drawn = self._samples(vectors), self._drawn()
        planned = [(one.kind, test) for one in samples for test in self._tests_of(one)]
        planned += [(KIND_OF_LABELS, partial(self._labels, one)) for one in drawn if one.is_enough]
        counts = Counter(kind for kind, _ in planned)
        counts["scores"] += len(self._calibrators)
        share = self._plan.spec.review.drift.false_alarms / max(1, sum(count > 0 for count in counts.values()))
        tests = self._calibrated(share / max(1, counts["scores"]))
        tests += [test(share / counts[kind]) for kind, test in planned]
        moved = {f"{one.kind}/{one.task}" for one in tests if one.drifted}
        for one in samples:
            self._go_on(one, is_new=one.name in moved)
        for some in drawn:
            self._go_on_with_labels(some, is_new=some.name in moved)
        first = {one.name: _runs_of(one.now)[0] for one in drawn if one.name in moved}
        return DriftRecord(
            run_id=self._plan.run_id,
            tests=tuple(sorted(tests, key=lambda one: (one.kind, one.task, one.of))),
            references=self._references,
            moved=self._moved | dict.fromkeys(moved, self._plan.run_id) | first,
        )

    def _tests_of(self, one: _Samples) -> list[Callable[[float], DriftTest]]:
        """What a task's samples are compared by, each at a limit."""
        if one.pair is None:
            return []
        if one.kind == "inputs":
            return [partial(self._inputs, one, *one.pair)]
        found: list[Callable[[float], DriftTest]] = []
        is_scored, is_said = (all(has(some) for some in one.pair) for has in (has_scores, has_words))
        if is_scored and one.task.name not in self._calibrators:  # a calibrator knows by itself what the scores were
            found.append(partial(self._scores, one, *one.pair))
        return [*found, partial(self._said, one, *one.pair)] if is_said else found

    def _samples(self, vectors: str | None) -> list[_Samples]:
        if vectors not in {task.name for task in self._plan.tasks()}:
            vectors = None  # the run took them from rows of earlier runs
        found = run_samples(self._store, self._plan, vectors=vectors)
        return [
            self._sampled("inputs" if task.name == vectors else "scores", task, found[task.name])
            for task in self._plan.tasks()
            if task.name in found
        ]

    def _sampled(self, kind: Kind, task: ResolvedTask, now: pa.Table) -> _Samples:
        reference = self._references.get(f"{kind}/{task.name}")
        if reference is None or reference.task_digest != task.digest or reference.digest is None:
            return _Samples(kind, task, now)
        return _Samples(kind, task, now, load_sample(self._store, task.name, reference.digest), reference.runs)

    def _go_on(self, one: _Samples, *, is_new: bool) -> None:
        """What the next run is compared with."""
        runs: tuple[str, ...]
        if one.before is None or is_new:
            sample, runs = one.now, (self._plan.run_id,)
        elif len(one.runs) < REFERENCE_RUNS:
            sample, runs = together(self._plan, one.before, one.now), (*one.runs, self._plan.run_id)
        else:
            return
        digest = keep_sample(self._store, one.task.name, sample)
        self._references[one.name] = Reference(task_digest=one.task.digest, runs=runs, digest=digest)

    def _inputs(self, one: _Samples, before: pa.Table, now: pa.Table, limit: float) -> DriftTest:
        found = compare_vectors(vectors_in(before), vectors_in(now), limit=limit, seed=self._seed(one.name))
        most = np.argsort(-found.unlike, kind="stable")[:EXAMPLES]
        return DriftTest(
            kind="inputs",
            task=one.task.name,
            of="vector",
            items=now.num_rows,
            before=before.num_rows,
            since=_runs_text(one.runs),
            distance=round(found.distance, 4),
            threshold=round(found.threshold, 4),
            p_value=found.p_value,
            limit=limit,
            drifted=found.p_value <= limit,
            such_as=tuple(now["key"].take(pa.array(most)).to_pylist()),
        )

    def _calibrated(self, limit: float) -> list[DriftTest]:
        watched = {name: Watch(one.sketches) for name, one in self._calibrators.items()}
        columns = ["task", "score", "p_ok", "predicted_run"]
        for batch in iter_routes(self._store, self._plan.run_id, columns) if watched else ():
            for name, watch in watched.items():
                own = own_routes(batch.filter(pc.equal(batch.column("task"), name)))
                watch.add({of: _with_nan(own.column(of)) for of in ("score", "p_ok")})
        found = []
        for name, watch in watched.items():
            fitted = self._calibrators[name]
            test = _of_scores(name, watch.drift(limit), fitted.sketch.n, f"that {fitted.id} was fitted on", limit)
            found.append(test.model_copy(update={"calibrator": fitted.id}))
        return found

    def _scores(self, one: _Samples, before: pa.Table, now: pa.Table, limit: float) -> DriftTest:
        counted = Counted(sketch(_with_nan(before["score"].combine_chunks())))
        counted.add(_with_nan(now["score"].combine_chunks()))
        return _of_scores(one.task.name, counted.drift(limit, of=1), before.num_rows, _runs_text(one.runs), limit)

    def _said(self, one: _Samples, before: pa.Table, now: pa.Table, limit: float) -> DriftTest:
        counts = [Counter(some["said"].to_pylist()) for some in (before, now)]
        return self._classes("scores", "label", one.task.name, counts, _runs_text(one.runs), limit)

    def _drawn(self) -> list[_Drawn]:
        review = self._plan.spec.review
        tasks = [task for task in self._plan.tasks() if task.name in review.policies]
        labels = all_labels(self._store) if review.calibrate and tasks else []
        if not any(label.purpose == Route.CALIBRATE for label in labels):
            return []
        plans = [one for one in Runs(self._store).plans() if int(one.run_id) < int(self._plan.run_id)]
        found = []
        for task in tasks:
            wanted = acceptance_of(review.policies[task.name])
            draws = answered_draws(self._store, plans, task, labels, Route.CALIBRATE, wanted).draws
            known = self._references.get(f"labels/{task.name}")
            runs = known.runs if known is not None and known.task_digest == task.digest else ("0",)
            first, last = int(runs[0]), int(runs[-1])
            before = [one for one in draws if first <= int(one.run_id) <= last]
            found.append(_Drawn(task, before, [one for one in draws if int(one.run_id) > last]))
        return found

    def _labels(self, drawn: _Drawn, limit: float) -> DriftTest:
        counts = [Counter(class_of(drawn.task.kind, one.truth) for one in some) for some in (drawn.before, drawn.now)]
        since = _runs_text(_runs_of(drawn.before))
        return self._classes(KIND_OF_LABELS, "class", drawn.task.name, counts, since, limit)

    def _classes(
        self, kind: Kind, of: str, task: str, counts: Sequence[Counter[str]], since: str, limit: float
    ) -> DriftTest:
        before, now = counts
        found = compare_classes(before, now, limit=limit, seed=self._seed(f"{kind}/{of}/{task}"))
        shares = {name: (before[name] / before.total(), now[name] / now.total()) for name in before | now}
        most = sorted(shares, key=lambda name: (-abs(shares[name][1] - shares[name][0]), name))[:EXAMPLES]
        return DriftTest(
            kind=kind,
            task=task,
            of=of,
            items=now.total(),
            before=before.total(),
            since=since,
            distance=round(found.distance, 4),
            threshold=round(found.threshold, 4),
            p_value=found.p_value,
            limit=limit,
            drifted=found.p_value <= limit,
            such_as=tuple(f"{name} {shares[name][0]:.0%} to {shares[name][1]:.0%}" for name in most),
        )

    def _go_on_with_labels(self, drawn: _Drawn, *, is_new: bool) -> None:
        """What was tested is part of what the next draws are compared with; so are the first ones, while too few."""
        if not drawn.now or (len(drawn.before) >= LEAST_LABELS and not drawn.is_enough):
            return
        runs = _runs_of(drawn.now if is_new else [*drawn.before, *drawn.now])
        self._references[drawn.name] = Reference(task_digest=drawn.task.digest, runs=runs)

    def _seed(self, name: str) -> int:
        return int(position(f"{self._plan.spec.job}\0{self._plan.run_id}\0drift", name) * 2**32)


def _of_scores(task: str, drift: Drift, before: int, since: str, limit: float) -> DriftTest:
    return DriftTest(
        kind="scores",
        task=task,
        of=drift.of,
        items=drift.n,
        before=before,
        since=since,
        distance=round(drift.distance, 4),
        threshold=round(drift.threshold, 4),
        p_value=drift.p_value,
        limit=limit,
        drifted=drift.has_drifted,
    )


def _runs_of(draws: Sequence[Draw]) -> tuple[str, ...]:
    return tuple(sorted({one.run_id for one in draws}, key=int))


def _runs_text(runs: Sequence[str]) -> str:
    return f"of run {runs[0]}" if len(runs) == 1 else f"of runs {runs[0]} to {runs[-1]}"


def _with_nan(column: pa.Array) -> Floats:
    found: Floats = pc.fill_null(column, float("nan")).to_numpy(zero_copy_only=False).astype(np.float64)
    return found
