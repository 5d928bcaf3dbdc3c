"""What is done with a run's predictions, from real shard objects: every route, against the rule in memory."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.annotation import plain_routing
from tests.annotation.plain_routing import Candidate
from tests.jobs.drawn_runs import TASK, commit_run, job
from tests.jobs.histories import add_run, receipt, spec, task
from winnow_annotation.policies import Policy, ReviewSpec, ScoreBelow
from winnow_jobs import review, routes
from winnow_jobs.people import index_run
from winnow_jobs.review import route_run
from winnow_jobs.routes import TO_PEOPLE, count_routes, iter_routes, iter_sent, routes_key
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.verify.routes import Predictions, check_routes
from winnow_jobs.what_if import what_if
from winnow_storage.blobs import open_store
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ids import dedupe_key, item_id
from winnow_storage.ledger import open_ledger
from winnow_storage.schemas import ROUTES, Route, result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse

POLICIES = {"kind": Policy(min_p_ok=0.7), "text": Policy(uncalibrated=ScoreBelow(score_below=0.5))}
TASKS = ("kind", "text", "free")
SHARD_ITEMS = 25


def routed_run(folder: Path, *, items: int = 100, budget: int = 12, audit: float = 0.2) -> tuple[Runs, PlanDocument]:
    """A run with predictions of three tasks, some of which failed or never ran."""
    runs = Runs(open_store(parse(str(folder / "out"))))
    resolved = spec(folder, *(task(name, operator="ocr") for name in TASKS)).model_copy(
        update={"review": ReviewSpec(policies=POLICIES, budget=budget, audit=audit)}
    )
    shards = -(-items // SHARD_ITEMS)
    plan = add_run(runs, resolved, [None] * shards)
    rng = random.Random(7)
    schema = result_schema({"kind": [pa.field("label", pa.string())], "text": [], "free": []})
    for shard in range(shards):
        keys = [f"{number:05d}.jpg" for number in range(shard * SHARD_ITEMS, min((shard + 1) * SHARD_ITEMS, items))]
        rows = [_row(key, shard, plan, rng) for key in keys]
        data = encode_shard(pa.Table.from_pylist(rows, schema=schema), receipt(plan, shard, ()))
        assert runs.store.put_if_absent(shard_key(plan.run_id, shard), data)
    return runs, plan


def _row(key: str, shard: int, plan: PlanDocument, rng: random.Random) -> dict[str, Any]:
    common = {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": "v1", "outcome": "done"}
    common |= {"failed_tasks": [], "run_id": plan.run_id, "shard": shard, "width": 8, "height": 6, "format": "jpeg"}
    return common | {name: _struct(name, key, rng) for name in TASKS}


def _struct(name: str, key: str, rng: random.Random) -> Mapping[str, Any] | None:
    kind = rng.random()
    if kind < 0.1:
        return None
    if kind < 0.2:
        return {"error": "it failed"}
    scores = {"score": rng.choice([None, float("nan"), rng.random()]), "p_ok": rng.choice([None, 0.5, rng.random()])}
    return {"model": "m"} | scores | ({"label": f"l\u00e4bel of {key}"} if name == "kind" else {})


def all_routes(runs: Runs, plan: PlanDocument) -> pa.Table:
    return pa.Table.from_batches(iter_routes(runs.store, plan.run_id), schema=ROUTES)


def committed(runs: Runs, plan: PlanDocument) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of usable predictions, by task and item."""
    from winnow_storage.dataset import read_results

    rows = read_results(runs.store, plan.run_id).to_pylist()
    return {
        (name, row["item_id"]): row
        for row in rows
        for name in TASKS
        if row[name] is not None and row[name]["error"] is None
    }


def test_route_run__every_prediction_as_the_rule_in_memory_says(tmp_path: Path) -> None:
    runs, plan = routed_run(tmp_path)
    record = route_run(runs.store, plan)
    rows = committed(runs, plan)
    candidates = [
        Candidate(item, name, row["version"], row[name]["score"], row[name]["p_ok"])
        for (name, item), row in rows.items()
    ]
    plain = plain_routing.route(candidates, POLICIES, budget=12, audit=0.2, seed=f"shelves\0{plan.run_id}")
    found = all_routes(runs, plan).to_pylist()
    assert {(row["task"], row["item_id"]): (row["route"], row["reason"]) for row in found} == {
        (one.candidate.task, one.candidate.item_id): (str(one.route), str(one.reason)) for one in plain
    }
    assert len(found) == len(plain)
    urgent = sorted((one for one in plain if one.order is not None), key=lambda one: one.order or 0)
    assert [(row["task"], row["item_id"]) for row in found[: len(urgent)]] == [
        (one.candidate.task, one.candidate.item_id) for one in urgent
    ]
    assert {row["route"] for row in found} == {"accept", "review", "audit", "hold"}
    assert record["selected"] == 12 == len(urgent)
    assert record["routes"] == count_routes(runs.store, plan.run_id)


def test_route_run__a_route_carries_what_it_was_decided_from(tmp_path: Path) -> None:
    runs, plan = routed_run(tmp_path)
    route_run(runs.store, plan)
    rows = committed(runs, plan)
    for route in all_routes(runs, plan).to_pylist():
        row = rows[route["task"], route["item_id"]]
        struct = row[route["task"]]
        for name in ("version", "key", "uri", "width", "height", "format"):
            assert route[name] == row[name]
        for name in ("score", "p_ok", "calibrator", "model"):
            assert repr(route[name]) == repr(struct[name])  # a NaN is none that equals itself
        assert (route["job"], route["run_id"], route["operator"]) == ("shelves", "0001", "ocr")
        if route["route"] not in TO_PEOPLE:
            assert (route["dedupe_key"], route["round"], route["prediction"]) == (None, None, None)
            continue
        assert repr(json.loads(route["prediction"])) == repr(struct)
        assert route["round"] == 1
        assert route["dedupe_key"] == dedupe_key(
            job="shelves",
            task=route["task"],
            item=route["item_id"],
            version="v1",
            purpose=route["route"],
            round_number=1,
        )


def test_route_run__again_changes_nothing(tmp_path: Path) -> None:
    runs, plan = routed_run(tmp_path)
    first = route_run(runs.store, plan)
    data = runs.store.get(routes_key(plan.run_id))
    assert route_run(runs.store, plan) == first
    (tmp_path / "out" / routes_key(plan.run_id)).unlink()
    assert route_run(runs.store, plan) == first
    assert runs.store.get(routes_key(plan.run_id)) == data


def test_route_run__a_shard_that_is_committed_between_the_two_passes_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, plan = routed_run(tmp_path)
    last = tmp_path / "out" / shard_key(plan.run_id, plan.shards - 1)
    late = last.rename(tmp_path / "late")
    chosen = review._chosen

    def choose_then_commit(*arguments: Any) -> Any:
        found = chosen(*arguments)
        late.rename(last)
        return found

    monkeypatch.setattr(review, "_chosen", choose_then_commit)
    route_run(runs.store, plan)
    keys = set(all_routes(runs, plan)["key"].to_pylist())
    assert max(keys) < f"{SHARD_ITEMS * (plan.shards - 1):05d}.jpg"


def test_route_run__parts_where_one_object_would_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, plan = routed_run(tmp_path)
    record = route_run(runs.store, plan)
    whole = all_routes(runs, plan)
    (tmp_path / "out" / routes_key(plan.run_id)).unlink()
    monkeypatch.setattr(routes, "GROUP_ROWS", 40)
    monkeypatch.setattr(routes, "FILE_BYTES", 1)
    assert route_run(runs.store, plan) == record
    assert repr(all_routes(runs, plan).to_pylist()) == repr(whole.to_pylist())
    parts = sorted((tmp_path / "out/routes/0001").iterdir())
    assert len(parts) > 2
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert index_run(runs, ledger, plan, None) == record["selected"]
    parts[1].unlink()
    with pytest.raises(BlobMissing, match=r"0001/00002-.* is not there, a part of routes/0001\.parquet"):
        all_routes(runs, plan)
    (finding,) = check_routes(runs.store, plan, None).findings
    assert "it cannot be read: BlobMissing" in finding.what


def test_route_run__no_prediction_at_all(tmp_path: Path) -> None:
    runs = Runs(open_store(parse(str(tmp_path / "out"))))
    plan = add_run(runs, spec(tmp_path), [])
    assert route_run(runs.store, plan) == {"selected": 0, "routes": {}}
    assert all_routes(runs, plan).num_rows == 0
    assert check_routes(runs.store, plan, Predictions()).findings == ()


def test_route_run__without_budget_nobody_is_asked(tmp_path: Path) -> None:
    runs, plan = routed_run(tmp_path, budget=0, audit=1.0)
    assert route_run(runs.store, plan)["selected"] == 0
    assert set(all_routes(runs, plan)["route"].to_pylist()) == {str(Route.ACCEPT), str(Route.HOLD)}


def test_route_run__says_when_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, plan = routed_run(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(routes.RoutesWriter, "add", full)
    with pytest.raises(StoreError, match="has no room for the routes: No space left") as caught:
        route_run(runs.store, plan)
    assert "TMPDIR" in str(caught.value.hint)


def test_route_run__of_more_than_there_is_room_for_it_asks_about_images_that_differ(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    kinds = np.repeat([0, 1, 2], [20, 6, 4])
    vectors = np.eye(3)[kinds] + rng.normal(0, 0.1, (30, 3))
    unsure = np.linspace(0.5, 0.9, 30)  # the further on, the surer
    review = ReviewSpec(policies={TASK: Policy()}, budget=3)
    resolved, runs = job(tmp_path, review, with_vectors=True)
    keys = [f"{number:02d}.jpg" for number in range(30)]
    plan = commit_run(runs, resolved, keys, np.stack([unsure, 1 - unsure], axis=1), ("a", "b"), vectors)
    record = route_run(runs.store, plan)
    assert record["routes"][TASK] == {"hold": 27, "review": 3}
    sent = iter_sent(runs.store, plan.run_id, ["route", "key", "chosen"])
    assert [(row["key"], row["chosen"]) for row in sent] == [
        ("00.jpg", "margin: 1 of 30, of a group of 20"),
        ("20.jpg", "margin: 21 of 30, of a group of 6"),
        ("26.jpg", "margin: 27 of 30, of a group of 4"),
    ]
    # a sweep counts what would be routed by the same choice
    assert what_if(resolved, runs)["variants"][0]["routes"] == record["routes"][TASK]
