"""A calibrator that heeds labelled items that look alike: learned beside an embed task, applied while routing."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.drawn_runs import answer
from tests.jobs.heads import head_task, job, photographs, selected
from tests.jobs.histories import add_run, receipt, spec
from tests.jobs.test_learn import FIELDS, NOW, routes
from tests.jobs.whole_nights import night, rows, runs_of
from tests.workers.pipelines import save_image
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.backfill import Backfill
from winnow_jobs.learn import Learned, learn
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.routes import iter_routes
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.ids import item_id
from winnow_storage.schemas import result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.evaluation.risk_coverage import risk_coverage
from winnow_workers.models.resolve import resolve_model

COUNT = 300
VECTOR = [pa.field("vector", pa.list_(pa.float16(), 4))]


def truths(seed: int) -> tuple[Any, Any]:
    """What is true of every item, and what the model says: wrong in a fifth, which its score does not tell."""
    rng = np.random.default_rng(seed)
    true = rng.choice(["a", "b"], COUNT)
    return true, np.where(rng.uniform(size=COUNT) < 0.2, np.where(true == "a", "b", "a"), true)


def add_seen(runs: Runs, resolved: ResolvedSpec, seed: int) -> PlanDocument:
    """A run of both tasks; vectors say what is true. The first item has none."""
    plan = add_run(runs, resolved, [None])
    true, said = truths(seed)
    rng = np.random.default_rng(seed + 100)
    rows = []
    for number in range(COUNT):
        score = float(rng.uniform(0.5, 1.0))
        top = [{"label": said[number], "score": score}]
        kind = {"model": "m", "score": score, "label": said[number], "margin": score, "top": top, "entropy": 0.1}
        vector = rng.normal(size=4) + (5 if true[number] == "a" else -5)
        key = f"{number:05d}.jpg"
        common = {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": "v1", "outcome": "done"}
        common |= {"failed_tasks": [], "run_id": plan.run_id, "shard": 0, "content_sha256": f"{seed}-{number}"}
        rows.append(common | {"kind": kind, "look": {"model": "m", "vector": vector.astype(np.float16)}})
    rows[0]["look"] = None
    table = pa.Table.from_pylist(rows, schema=result_schema({"kind": FIELDS, "look": VECTOR}))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    return plan


@pytest.fixture
def there(tmp_path: Path) -> tuple[ResolvedSpec, Runs, Path]:
    """A spec of both tasks, a run, and the truth of its items."""
    return seen(tmp_path)


def seen(folder: Path, *, own: bool = False) -> tuple[ResolvedSpec, Runs, Path]:
    """`own`: the operators are somebody's own, reviewed as classify and embed."""
    model = resolve_model("builtin/fingerprint")
    kind, look = (
        ResolvedTask(
            name=name,
            operator=f"own.package:{name.title()}" if own else operator,
            revision=1,
            params={},
            model=model,
            reviewed_as=operator if own else None,
        )
        for name, operator in (("kind", "classify"), ("look", "embed"))
    )
    resolved = spec(folder, kind, look)
    runs = Runs(open_store(parse(resolved.output)))
    add_seen(runs, resolved, 1)
    rows = [{"key": f"{number:05d}.jpg", "label": label} for number, label in enumerate(truths(1)[0])]
    pq.write_table(pa.Table.from_pylist(rows), folder / "t.parquet")
    return resolved, runs, folder / "t.parquet"


@pytest.mark.parametrize("own", [False, True])
def test_learn__beside_vectors_finds_errors_while_routing(tmp_path: Path, own: bool) -> None:
    resolved, runs, truth = seen(tmp_path, own=own)
    one = learn(resolved, runs, tasks=(), truth=truth, at=NOW, neighbours="look")["kind"]
    assert isinstance(one, Learned)
    assert one.calibrator.neighbours is not None
    assert one.calibrator.subject.operator == "classify"
    assert one.calibrator.fitted_on.labels == COUNT - 1
    plan = add_seen(runs, resolved, 2)
    route_run(runs.store, plan)
    p_ok = {row["key"]: row["p_ok"] for row in routes(runs, plan) if row["task"] == "kind"}
    assert p_ok.pop("00000.jpg") is None  # without a vector nothing is known
    true, said = truths(2)
    found = np.array([p_ok[key] for key in sorted(p_ok)])
    assert risk_coverage(found, (true == said)[1:]).found_by_review(0.1) > 0.9


def test_promise__by_the_p_ok_of_such_a_calibrator(there: tuple[ResolvedSpec, Runs, Path]) -> None:
    resolved, runs, truth = there
    learn(resolved, runs, tasks=(), truth=truth, at=NOW, neighbours="look")
    policy = Policy(max_error=0.05, confidence=0.9, rank="p_ok")
    review = ReviewSpec(policies={"kind": policy}, calibrate=150, budget=150)
    asking = resolved.model_copy(update={"review": review})
    first = add_seen(runs, asking, 2)
    assert not route_run(runs.store, first)["promises"][0]["evidence"]["labels"]
    answer(runs, first.run_id, {f"{place:05d}.jpg": label for place, label in enumerate(truths(2)[0])}, ["calibrate"])
    second = add_seen(runs, asking, 3)
    (promise,) = route_run(runs.store, second)["promises"]
    assert promise["threshold"] is not None
    assert promise["evidence"]["labels"] in (149, 150)  # the item without a vector may have been drawn
    routed = [row for row in routes(runs, second) if row["task"] == "kind"]
    true, said = truths(3)
    wrong = [bool(true[int(row["key"][:5])] != said[int(row["key"][:5])]) for row in routed if row["route"] == "accept"]
    assert len(wrong) > 50
    assert np.mean(wrong) <= 0.05  # of all of them a fifth is wrong, which scores do not tell


def test_learn__from_a_run_whose_vectors_stand_in_an_earlier_one(tmp_path: Path) -> None:
    photographs(tmp_path, 160)
    night(job(tmp_path, head_task(tmp_path, 1)))
    resolved = job(tmp_path, head_task(tmp_path, 4))
    assert night(resolved)["from_vectors"] == 160
    vectors = np.array([row["look"]["vector"] for row in rows(resolved, "0001")], np.float64)
    first_axis = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)[0][:, 0]
    labels = ["cat" if one > np.median(first_axis) else "owl" for one in first_axis]
    keys = [row["key"] for row in rows(resolved, "0001")]
    pq.write_table(pa.table({"key": keys, "label": labels}), tmp_path / "t.parquet")
    found = learn(resolved, runs_of(resolved), tasks=("kind",), truth=tmp_path / "t.parquet", at=NOW, neighbours="look")
    one = found["kind"]
    assert isinstance(one, Learned), one
    assert (one.calibrator.fitted_on.runs, one.calibrator.fitted_on.labels) == (("0002",), 160)
    assert one.calibrator.neighbours is not None
    night(resolved, **selected(resolved, Backfill.DECISIONS))
    p_ok = [row["p_ok"] for some in iter_routes(runs_of(resolved).store, "0003") for row in some.to_pylist()]
    assert len(p_ok) == 160
    assert None not in p_ok
    save_image(tmp_path / "corpus/200.png", seed=200)  # it is embedded in the shard of those whose vectors lie beside
    mixed = night(resolved, **selected(resolved, Backfill.DECISIONS))
    assert (mixed["from_vectors"], mixed["predictions"]) == (160, {"look": 1, "kind": 161})
    routed = [row for some in iter_routes(runs_of(resolved).store, "0004") for row in some.to_pylist()]
    assert [row["key"] for row in routed if row["task"] == "look"] == ["200.png"]
    assert None not in [row["p_ok"] for row in routed if row["task"] == "kind"]
    found = learn(resolved, runs_of(resolved), tasks=("kind",), truth=tmp_path / "t.parquet", at=NOW, neighbours="look")
    again = found["kind"]
    assert isinstance(again, Learned), again
    fitted_on = again.calibrator.fitted_on
    assert (fitted_on.runs, fitted_on.labels) == (("0002", "0003", "0004"), 160)


def test_learn__without_the_vectors_task_p_ok_stays_null(there: tuple[ResolvedSpec, Runs, Path]) -> None:
    resolved, runs, truth = there
    learn(resolved, runs, tasks=(), truth=truth, at=NOW, neighbours="look")
    alone = resolved.model_copy(update={"tasks": resolved.tasks[:1]})
    plan = add_seen(runs, alone, 2)
    route_run(runs.store, plan)
    assert {row["p_ok"] for row in routes(runs, plan)} == {None}


def test_learn__neighbours_must_be_an_embed_task(there: tuple[ResolvedSpec, Runs, Path]) -> None:
    resolved, runs, truth = there
    with pytest.raises(UsageError, match="no such task of embed"):
        learn(resolved, runs, tasks=(), truth=truth, at=NOW, neighbours="kind")
