"""Calibrators learned from labels, applied while routing, and the warning when scores have drifted."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.histories import DAY_0, add_run, receipt, spec
from winnow_annotation.gate.gold import is_reserved
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_annotation.pull import _put
from winnow_jobs.acceptance import is_accepted
from winnow_jobs.calibrators import newest_calibrator
from winnow_jobs.drift_records import drift_warnings
from winnow_jobs.learn import Learned, learn
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.routes import iter_routes, routes_key
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.ids import item_id
from winnow_storage.records import Label
from winnow_storage.schemas import ROUTES, result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.models.resolve import resolve_model

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
FIELDS = [
    pa.field("label", pa.string()),
    pa.field("margin", pa.float32()),
    pa.field("top", pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))),
    pa.field("entropy", pa.float32()),
]


def job(folder: Path) -> ResolvedSpec:
    model = resolve_model("builtin/fingerprint")
    task = ResolvedTask(name="kind", operator="classify", revision=1, params={}, model=model)
    review = ReviewSpec(policies={"kind": Policy(min_p_ok=0.8)}, budget=60, audit=0.1)
    return spec(folder, task).model_copy(update={"review": review})


def add_scored(
    runs: Runs,
    resolved: ResolvedSpec,
    *,
    n: int,
    low: float,
    seed: int,
    named: int = 0,
    fields: Sequence[pa.Field] = FIELDS,
) -> PlanDocument:
    """A run whose predictions say "a", with scores between `low` and 1; the first item is number `named`.

    Of their fields only these are written.
    """
    plan = add_run(runs, resolved, [None])
    scores = np.random.default_rng(seed).uniform(low, 1, n)
    rows = [_row(f"{i:05d}.jpg", float(s), plan) for i, s in enumerate(scores, named)]
    table = pa.Table.from_pylist(rows, schema=result_schema({"kind": fields}))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    return plan


def _row(key: str, score: float, plan: PlanDocument) -> dict[str, Any]:
    top = [{"label": "a", "score": score}, {"label": "b", "score": 1 - score}]
    struct = {"model": "m", "score": score, "label": "a", "margin": 2 * score - 1, "top": top, "entropy": 1 - score}
    common = {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": "v1", "outcome": "done"}
    return common | {"failed_tasks": [], "run_id": plan.run_id, "shard": 0, "kind": struct}


def label(number: int, said: str, purpose: str, **changes: Any) -> Label:
    key = f"{number:05d}.jpg"
    value = json.dumps({"label": said})
    one = Label(
        label_id=f"{purpose}{number}",
        event="created",
        dedupe_key=f"d{number}",
        job="shelves",
        task="kind",
        operator="classify",
        item_id=item_id("c", key),
        version="v1",
        key=key,
        uri=f"file:///{key}",
        purpose=purpose,
        run_id="0001",
        server="http://ls",
        annotation_id=f"{purpose}{number}",
        project_id=1,
        ls_task_id=number,
        annotator="ann",
        created_at=NOW,
        updated_at=NOW,
        was_cancelled=False,
        lead_time_s=1.0,
        value=value,
        raw="[]",
        config_hash="c",
        model=None,
        shown=None,
    )
    return replace(one, **changes)


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[ResolvedSpec, Runs]:
    """600 predictions, right with the square of their score; 400 drawn, 100 reviewed and 50 audited, all wrong."""
    resolved = job(tmp_path)
    runs = Runs(open_store(parse(resolved.output)))
    add_scored(runs, resolved, n=600, low=0.5, seed=1)
    rng, scores = np.random.default_rng(2), np.random.default_rng(1).uniform(0.5, 1, 600)
    says = ["a" if rng.uniform() < score**2 else "b" for score in scores]
    labels = [label(i, says[i], "calibrate") for i in range(400)] + [label(i, "b", "review") for i in range(400, 500)]
    labels += [label(i, "b", "audit") for i in range(500, 550)]
    labels += [
        label(0, "?", "calibrate", label_id="x0", annotation_id="skipped", was_cancelled=True, value=None),
        replace(label(1, says[1], "calibrate"), label_id="x1", event="updated", updated_at=LATER),
        label(2, "?", "calibrate", label_id="x2", annotation_id="of another version", version="v0", annotator="bob"),
    ]
    _put(labels, runs.store)
    return resolved, runs


def learned(resolved: ResolvedSpec, runs: Runs, truth: Path | None = None) -> Learned:
    found = learn(resolved, runs, tasks=(), truth=truth, at=NOW)["kind"]
    assert isinstance(found, Learned), found
    return found


def routes(runs: Runs, plan: PlanDocument) -> list[dict[str, Any]]:
    return pa.Table.from_batches(iter_routes(runs.store, plan.run_id), schema=ROUTES).to_pylist()


def calibrated_test(runs: Runs, plan: PlanDocument) -> dict[str, Any]:
    """How far a run's scores part from what its calibrator keeps."""
    (found,) = [one for one in route_run(runs.store, plan)["drift"] if one["calibrator"]]
    return dict(found)


def test_learn__takes_the_last_answers_of_uniform_draws_only(labelled: tuple[ResolvedSpec, Runs]) -> None:
    one = learned(*labelled)
    assert one.left_out == {"review": 100, "audit": 50}
    assert one.is_new
    assert one.calibrator.fitted_on.purposes == ("calibrate",)
    assert one.calibrator.fitted_on.labels in (399, 400)
    assert not learned(*labelled).is_new
    resolved, runs = labelled
    assert newest_calibrator(runs.store, resolved.task("kind"), None) == one.calibrator


def test_route_run__applies_the_newest_and_pins_it(labelled: tuple[ResolvedSpec, Runs], tmp_path: Path) -> None:
    resolved, runs = labelled
    first = learned(resolved, runs).calibrator
    plan = add_scored(runs, resolved, n=500, low=0.5, seed=3)
    record = route_run(runs.store, plan)
    found = routes(runs, plan)
    assert {row["calibrator"] for row in found} == {first.id}
    gaps = [row["p_ok"] - row["score"] ** 2 for row in found]
    assert np.abs(gaps).mean() < 0.06
    assert {row["reason"] for row in found} >= {"p_ok_high", "p_ok_low"}
    assert all((row["p_ok"] >= 0.8) == (row["route"] in ("accept", "audit")) for row in found)
    shown = [json.loads(row["prediction"]) for row in found if row["prediction"]]
    assert shown
    assert {one["calibrator"] for one in shown} == {first.id}
    assert [one["drifted"] for one in record["drift"]] == [False]
    before = runs.store.get(routes_key(plan.run_id))
    truth = tmp_path / "truth.parquet"
    pq.write_table(pa.Table.from_pylist([{"key": f"{i:05d}.jpg", "label": "ab"[i % 2]} for i in range(300)]), truth)
    assert learned(resolved, runs, truth).calibrator.id != first.id
    (tmp_path / "out" / routes_key(plan.run_id)).unlink()  # as if the driver died before it put them
    assert route_run(runs.store, plan) == record
    assert runs.store.get(routes_key(plan.run_id)) == before


def test_route_run__says_when_the_scores_have_drifted(labelled: tuple[ResolvedSpec, Runs]) -> None:
    resolved, runs = labelled
    sketches = learned(resolved, runs).calibrator.sketches
    assert sketches["p_ok"].n == sketches["score"].n  # of all predictions, labelled or not
    record = route_run(runs.store, add_scored(runs, resolved, n=500, low=0.2, seed=4))
    assert record["drift"][0]["drifted"]
    (warning,) = drift_warnings(record)
    assert record["drift"][0]["of"] in ("score", "p_ok")
    assert " of 500 predictions part from those" in warning
    assert "winnow learn SPEC --calibrate" in warning


def test_learn__again_does_not_hide_a_drift_that_nobody_labelled(labelled: tuple[ResolvedSpec, Runs]) -> None:
    """What is sketched is what labels speak of: the run that drifted, with new images, has none."""
    resolved, runs = labelled
    first = learned(resolved, runs).calibrator
    before = calibrated_test(runs, add_scored(runs, resolved, n=900, low=0.2, seed=4, named=1000))
    again = learned(resolved, runs)
    assert (again.calibrator, again.is_new) == (first, False)
    assert again.calibrator.fitted_on.runs == ("0001",)
    assert {one.n for one in again.calibrator.sketches.values()} == {600}
    after = calibrated_test(runs, add_scored(runs, resolved, n=900, low=0.2, seed=4, named=2000))
    assert (before["drifted"], after["drifted"]) == (True, True)
    assert before["distance"] == after["distance"]


def test_learn__a_head_is_not_calibrated_on_what_taught_it(tmp_path: Path) -> None:
    """Answers from before it first ran count only where they are gold."""
    before = job(tmp_path)
    (kind,) = before.tasks
    before = before.model_copy(update={"tasks": (kind.model_copy(update={"params": {"vectors": {"task": "look"}}}),)})
    runs = Runs(open_store(parse(before.output)))
    add_scored(runs, before, n=600, low=0.5, seed=1)
    taught_at, rng = DAY_0 + timedelta(days=1.5), np.random.default_rng(2)
    says = ["a" if rng.uniform() < 0.8 else "b" for _ in range(600)]
    _put([label(i, says[i], "calibrate", created_at=taught_at) for i in range(600)], runs.store)
    after = before.model_copy(update={"tasks": (before.tasks[0].model_copy(update={"revision": 2}),)})
    add_scored(runs, after, n=600, low=0.5, seed=1)
    gold = [i for i in range(600) if is_reserved("shelves", "kind", f"{i:05d}.jpg", share=0.2)]
    assert learned(after, runs).calibrator.fitted_on.labels == len(gold)
    assert learned(before, runs).calibrator.fitted_on.labels == 600


def test_learn__a_retrained_model_is_not_calibrated_on_what_may_have_taught_it(tmp_path: Path) -> None:
    """Answers from before it first ran do not count, whatever stands among them; of the first model all do."""
    before = job(tmp_path)
    runs = Runs(open_store(parse(before.output)))
    add_scored(runs, before, n=600, low=0.5, seed=1)
    taught_at, rng = DAY_0 + timedelta(days=1.5), np.random.default_rng(2)
    says = ["a" if rng.uniform() < 0.8 else "b" for _ in range(600)]
    _put([label(i, says[i], "calibrate", created_at=taught_at) for i in range(400)], runs.store)
    assert (learned(before, runs).calibrator.fitted_on.labels, learned(before, runs).set_aside) == (400, 0)
    after = before.model_copy(update={"tasks": (before.tasks[0].model_copy(update={"revision": 2}),)})
    add_scored(runs, after, n=600, low=0.5, seed=1)
    refused = learn(after, runs, tasks=(), truth=None, at=NOW)["kind"]
    assert isinstance(refused, UsageError)
    assert "; 400 items answered before this model first ran do not count: " in refused.message
    _put([label(i, says[i], "calibrate") for i in range(400, 600)], runs.store)  # its own draws, answered later
    one = learned(after, runs)
    assert (one.calibrator.fitted_on.labels, one.set_aside, one.record()["set_aside"]) == (200, 400, 400)
    assert learned(before, runs).calibrator.fitted_on.labels == 600


def test_learn__labels_of_no_uniform_draw_are_refused(tmp_path: Path) -> None:
    resolved = job(tmp_path)
    runs = Runs(open_store(parse(resolved.output)))
    add_scored(runs, resolved, n=200, low=0.5, seed=1)
    _put([label(i, "ab"[i % 2], "audit" if i < 150 else "review") for i in range(200)], runs.store)
    found = learn(resolved, runs, tasks=["kind"], truth=None, at=NOW)["kind"]
    assert isinstance(found, UsageError)
    assert "50 of purpose review and 150 of purpose audit do not count" in found.message
    assert found.hint is not None
    assert "review.calibrate" in found.hint


def test_learn__an_operator_of_somebodys_own_that_says_no_more_than_a_label_and_a_score(tmp_path: Path) -> None:
    resolved = job(tmp_path)
    own = resolved.task("kind").model_copy(update={"operator": "own.package:Judges", "reviewed_as": "classify"})
    resolved = resolved.model_copy(update={"tasks": (own,)})
    runs = Runs(open_store(parse(resolved.output)))
    plans = [add_scored(runs, resolved, n=400, low=0.5, seed=seed, fields=FIELDS[:1]) for seed in (1, 2)]
    scores = [np.random.default_rng(seed).uniform(0.5, 1, 400) for seed in (1, 2)]
    chance = np.random.default_rng(3).uniform(size=400)
    _put([label(i, "a" if chance[i] < scores[1][i] ** 2 else "b", "calibrate") for i in range(400)], runs.store)
    one = learned(resolved, runs).calibrator
    assert one.inputs in (("score",), ("log_score", "log_rest"))
    route_run(runs.store, plans[1])
    found = {row["key"]: row["p_ok"] for row in routes(runs, plans[1])}
    gaps = [p_ok - scores[1][int(key[:5])] ** 2 for key, p_ok in found.items()]
    assert np.abs(gaps).mean() < 0.06


def test_learn__an_operator_of_somebodys_own_without_a_field_that_is_judged(tmp_path: Path) -> None:
    resolved = job(tmp_path)
    own = resolved.task("kind").model_copy(update={"operator": "own.package:Judges", "reviewed_as": "classify"})
    resolved = resolved.model_copy(update={"tasks": (own,)})
    runs = Runs(open_store(parse(resolved.output)))
    add_scored(runs, resolved, n=4, low=0.5, seed=1, fields=FIELDS[1:])
    _put([label(i, "a", "calibrate") for i in range(4)], runs.store)
    found = learn(resolved, runs, tasks=(), truth=None, at=NOW)["kind"]
    assert isinstance(found, UsageError)
    assert "task kind: the rows of own.package:Judges lack a field of classify: 'label'" in found.message


def test_learn__unknown_task_and_unreadable_truth(tmp_path: Path) -> None:
    resolved = job(tmp_path)
    runs = Runs(open_store(parse(resolved.output)))
    with pytest.raises(UsageError, match="no such task"):
        learn(resolved, runs, tasks=["knd"], truth=None, at=NOW)
    with pytest.raises(UsageError, match="there is no truth at"):
        learn(resolved, runs, tasks=(), truth=tmp_path / "t.csv", at=NOW)
    (tmp_path / "t.csv").write_text("name\na\n")
    found = learn(resolved, runs, tasks=(), truth=tmp_path / "t.csv", at=NOW)["kind"]
    assert isinstance(found, UsageError)
    assert "t.csv:1: the columns are name" in found.message


def test_calibrator__a_damaged_one_is_named(labelled: tuple[ResolvedSpec, Runs], tmp_path: Path) -> None:
    resolved, runs = labelled
    one = learned(resolved, runs).calibrator
    key = f"calibrators/kind/{one.digest}.json"
    (tmp_path / "out" / key).write_text(one.model_dump_json().replace('"labels":', '"labels":1'))
    with pytest.raises(StoreError, match=one.digest):
        newest_calibrator(runs.store, resolved.task("kind"), None)


@pytest.mark.parametrize(
    ("operator", "prediction", "true", "is_right"),
    [
        ("classify", {"label": "a"}, {"label": "a"}, True),
        ("classify", {"label": "a"}, {"label": None}, None),
        ("classify", {"labels": ["b", "a"], "label": None}, {"labels": ["a", "b"]}, True),
        ("classify", {"labels": ["a"]}, {"labels": ["a", "b"]}, False),
        ("classify", {"labels": []}, {"labels": []}, True),
        ("classify", {"labels": ["a"]}, {"label": "a"}, None),
        ("classify", {"label": "dog", "path": [{"label": "dog"}]}, {"label": "pug", "path": ["dog", "pug"]}, True),
        ("classify", {"label": "cat", "path": [{"label": "cat"}]}, {"label": "pug", "path": ["dog", "pug"]}, False),
        ("classify", {"label": None, "path": []}, {"label": "pug", "path": ["dog", "pug"]}, False),
        ("ocr", {"full_text": "a  b\n"}, {"full_text": "a b"}, True),
        ("ocr", {"full_text": "a b"}, {"full_text": "ab"}, False),
        ("anomaly", {"is_anomalous": True}, {"is_anomalous": False}, False),
        ("anomaly", {"is_anomalous": True}, {"is_anomalous": None}, None),
        ("segment", {"masks": []}, {"masks": []}, True),
        ("segment", {"masks": None}, {"masks": [{"label": "a", "rle": {"size": [2, 2], "counts": "04"}}]}, False),
    ],
)
def test_is_accepted(operator: str, prediction: dict[str, Any], true: dict[str, Any], is_right: bool | None) -> None:
    assert is_accepted(operator, prediction, true) is is_right
