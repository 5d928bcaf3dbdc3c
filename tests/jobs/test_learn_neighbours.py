"""A calibrator that heeds labelled items that look alike: learned beside an embed task, applied while routing."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.histories import add_run, receipt, spec
from tests.jobs.test_learn import FIELDS, NOW, routes
from winnow_jobs.learn import Learned, learn
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
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
    model = resolve_model("builtin/fingerprint")
    kind = ResolvedTask(name="kind", operator="classify", revision=1, params={}, model=model)
    resolved = spec(tmp_path, kind, ResolvedTask(name="look", operator="embed", revision=1, params={}, model=model))
    runs = Runs(open_store(parse(resolved.output)))
    add_seen(runs, resolved, 1)
    rows = [{"key": f"{number:05d}.jpg", "label": label} for number, label in enumerate(truths(1)[0])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    return resolved, runs, tmp_path / "t.parquet"


def test_learn__beside_vectors_finds_errors_while_routing(there: tuple[ResolvedSpec, Runs, Path]) -> None:
    resolved, runs, truth = there
    one = learn(resolved, runs, tasks=(), truth=truth, at=NOW, neighbours="look")["kind"]
    assert isinstance(one, Learned)
    assert one.calibrator.neighbours is not None
    assert one.calibrator.fitted_on.labels == COUNT - 1
    plan = add_seen(runs, resolved, 2)
    route_run(runs.store, plan)
    p_ok = {row["key"]: row["p_ok"] for row in routes(runs, plan) if row["task"] == "kind"}
    assert p_ok.pop("00000.jpg") is None  # without a vector nothing is known
    true, said = truths(2)
    found = np.array([p_ok[key] for key in sorted(p_ok)])
    assert risk_coverage(found, (true == said)[1:]).found_by_review(0.1) > 0.9


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
