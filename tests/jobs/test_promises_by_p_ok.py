"""Promises whose order is a learned p_ok, and what other policies would route by it, for every operator with one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.jobs.drawn_runs import answer
from tests.jobs.every_task import COUNT, KINDS, TASK, Kind, commit_run, job, truth_file
from tests.jobs.test_learn import NOW, routes
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.calibrators import with_p_ok
from winnow_jobs.draws import DrawSet, all_labels
from winnow_jobs.learn import Learned, learn
from winnow_jobs.promises import Fitting, calibrated_structs, promised_on
from winnow_jobs.review import reader, route_run
from winnow_jobs.what_if import what_if
from winnow_storage.dataset import read_results
from winnow_workers.confidence.features import fields_of
from winnow_workers.confidence.parts import LISTS

POLICY = Policy(max_error=0.3, confidence=0.9, rank="p_ok")
DRAWN = 150


def review(policy: Policy = POLICY) -> ReviewSpec:
    return ReviewSpec(policies={TASK: policy}, calibrate=DRAWN, budget=DRAWN)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_promise__by_p_ok_of_a_learned_calibrator(kind: Kind, tmp_path: Path) -> None:
    resolved, runs = job(tmp_path, kind, review())
    first, truth = commit_run(runs, resolved, kind, 1)
    route_run(runs.store, first)
    assert answer(runs, first.run_id, truth, ["calibrate"], operator=kind.operator) == DRAWN
    learned = learn(resolved, runs, tasks=(), truth=truth_file(tmp_path / "t.parquet", truth), at=NOW)[TASK]
    assert isinstance(learned, Learned), learned
    calibrator = learned.calibrator
    assert (calibrator.parts is not None) is (kind.operator in LISTS)

    # of a draw the routes say the same as the row
    fitting = Fitting(runs.store, runs.plans(), all_labels(runs.store), {}, reader(runs.store, {}))
    drawn = promised_on(fitting, resolved.task(TASK), POLICY)
    rows = with_p_ok(read_results(runs.store, first.run_id), TASK, calibrator)
    by_key = dict(zip(rows["key"].to_pylist(), rows[TASK].combine_chunks().field("p_ok").to_pylist(), strict=True))
    said = calibrated_structs(kind.operator, drawn, calibrator).field("p_ok").to_pylist()
    assert said == pytest.approx([by_key[one.key] for one in drawn.draws])
    assert len(set(said)) > 10

    second, more = commit_run(runs, resolved, kind, 2)
    own, other, chosen = what_if(resolved, runs, sweep={"max_error": [0.4], "min_p_ok": [0.7]})["variants"]
    assert own["labels"] == other["labels"] == chosen["labels"] == DRAWN
    assert 0 < chosen["expected_error"] < np.mean([not one.ok for one in drawn.draws])
    record = route_run(runs.store, second)
    (promise,) = record["promises"]
    assert (promise["calibrator"], promise["evidence"]["labels"]) == (calibrator.id, DRAWN)
    assert promise["threshold"] is not None, promise["why"]
    assert (promise["digest"], record["routes"][TASK]) == (own["promises"][0]["digest"], own["routes"])
    accepted = [row["key"] for row in routes(runs, second) if row["reason"] == "promised"]
    assert len(accepted) > COUNT / 20
    assert np.mean([more[key] != kind.true(True) for key in accepted]) < 0.3


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_promise__by_p_ok_before_anyone_answered(kind: Kind, tmp_path: Path) -> None:
    resolved, runs = job(tmp_path, kind, review(Policy(min_p_ok=0.8)))
    first, truth = commit_run(runs, resolved, kind, 1)
    route_run(runs.store, first)
    learn(resolved, runs, tasks=(), truth=truth_file(tmp_path / "t.parquet", truth), at=NOW)
    asking = resolved.model_copy(update={"review": review()})
    (promise,) = route_run(runs.store, commit_run(runs, asking, kind, 2)[0])["promises"]
    assert (promise["threshold"], promise["evidence"]["labels"]) == (None, 0)
    assert [one["labels"] for one in what_if(resolved, runs)["variants"]] == [0] * 7


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_draws__have_all_that_calibrators_look_at(kind: Kind) -> None:
    structs = DrawSet().structs(kind.operator)
    assert {*fields_of(kind.operator)} <= {field.name for field in structs.type}
    name, entries = LISTS.get(kind.operator, ("", ()))
    assert not name or {*entries} <= {field.name for field in structs.field(name).type.value_type}


def test_draws__further_fields_may_be_named_as_those_of_another_operator(tmp_path: Path) -> None:
    """As rows of somebody's own operator may be, which is reviewed as this one."""
    plain = KINDS["classify"]
    fields = [*plain.fields, pa.field("lines", pa.int32()), pa.field("boundary_entropy", pa.string())]
    kind = replace(
        plain, fields=fields, struct=lambda p, noise: plain.struct(p, noise) | {"lines": 3, "boundary_entropy": "high"}
    )
    resolved, runs = job(tmp_path, kind, review(Policy(max_error=0.9, confidence=0.9)))
    first, truth = commit_run(runs, resolved, kind, 1)
    route_run(runs.store, first)
    assert answer(runs, first.run_id, truth, ["calibrate"], operator=kind.operator) == DRAWN
    (promise,) = route_run(runs.store, commit_run(runs, resolved, kind, 2)[0])["promises"]
    assert promise["evidence"]["labels"] == DRAWN
