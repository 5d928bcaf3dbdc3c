"""Whom a run asks about where its models differ: two classifiers over the same images, from real shard objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.jobs.histories import add_run, receipt, spec
from winnow_annotation.policies import Policy, ReviewSpec, SelectSpec
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.routes import iter_sent
from winnow_jobs.runs import Runs
from winnow_storage.blobs import open_store
from winnow_storage.ids import item_id
from winnow_storage.schemas import result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.models.resolve import resolve_model

ITEMS, BUDGET = 40, 6
FIELDS = [
    pa.field("label", pa.string()),
    pa.field("margin", pa.float32()),
    pa.field("top", pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))),
]


def struct(first: float) -> dict[str, Any]:
    top = sorted([("a", first), ("b", 1 - first)], key=lambda pair: -pair[1])
    said = [{"label": name, "score": score} for name, score in top]
    return {"model": "m", "label": said[0]["label"], "score": said[0]["score"], "margin": 0.5, "top": said}


def asked(folder: Path, first: np.ndarray, second: np.ndarray | None) -> list[tuple[str, str]]:
    """(key, why) of the reviews of `kind`, most urgent first; `second` is what the other member says."""
    runs = Runs(open_store(parse(str(folder / "out"))))
    model = resolve_model("builtin/fingerprint")
    tasks = [
        ResolvedTask(name=name, operator="classify", revision=1, params={}, model=model) for name in ("kind", "other")
    ]
    select = SelectSpec(by="disagreement", committee=("kind", "other"), diverse=False)
    review = ReviewSpec(policies={"kind": Policy(uncalibrated="review")}, budget=BUDGET, select=select)
    resolved = spec(folder, *tasks).model_copy(update={"review": review})
    plan = add_run(runs, resolved, [None])
    common = {"version": "v1", "outcome": "done", "failed_tasks": [], "run_id": plan.run_id, "shard": 0}
    rows = [
        common
        | {"item_id": item_id("c", f"{number:02d}.jpg"), "key": f"{number:02d}.jpg", "uri": "file:///x"}
        | {"kind": struct(float(first[number])), "other": None if second is None else struct(float(second[number]))}
        for number in range(ITEMS)
    ]
    schema = result_schema({"kind": FIELDS, "other": FIELDS})
    data = encode_shard(pa.Table.from_pylist(rows, schema=schema), receipt(plan, 0, ()))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), data)
    route_run(runs.store, plan)
    found = iter_sent(runs.store, plan.run_id, ["task", "route", "key", "chosen"])
    return [(row["key"], row["chosen"]) for row in found if (row["task"], row["route"]) == ("kind", "review")]


def test_review__goes_where_the_committee_differs_most(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    first, second = rng.uniform(0.5, 1.0, ITEMS), rng.uniform(0.0, 1.0, ITEMS)

    def entropy(chance: np.ndarray) -> np.ndarray:
        return -chance * np.log(chance) - (1 - chance) * np.log(1 - chance)

    differs = entropy((first + second) / 2) - (entropy(first) + entropy(second)) / 2
    most = np.argsort(-differs)[:BUDGET]
    assert asked(tmp_path, first, second) == [
        (f"{number:02d}.jpg", f"disagreement: {place} of {ITEMS}") for place, number in enumerate(most, 1)
    ]


def test_review__by_score_where_the_other_member_says_nothing(tmp_path: Path) -> None:
    first = np.linspace(0.99, 0.6, ITEMS)
    found = asked(tmp_path, first, None)
    assert [key for key, _ in found] == [f"{ITEMS - 1 - place:02d}.jpg" for place in range(BUDGET)]
