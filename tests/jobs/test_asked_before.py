"""Of tasks with heads, who was asked because of an earlier run is not asked again; of others that is as it was."""

from pathlib import Path

import numpy as np
import pytest

from tests.jobs.drawn_runs import TASK, commit_run, job
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.review import route_run
from winnow_jobs.routes import iter_routes, iter_sent
from winnow_jobs.runs import Runs
from winnow_jobs.what_if import what_if

CLASSES = ("cat", "dog", "owl")
REVIEW = ReviewSpec(policies={TASK: Policy()}, budget=30)


def sent(runs: Runs, run_id: str) -> set[str]:
    return {row["key"] for row in iter_sent(runs.store, run_id, ["route", "key"])}


@pytest.mark.parametrize("is_head", [True, False])
def test_route_run__asks_about_others_when_a_head_predicts_again(tmp_path: Path, is_head: bool) -> None:
    resolved, runs = job(tmp_path, REVIEW, is_head=is_head)
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 100)
    keys = [f"{number:03d}.jpg" for number in range(100)]
    found = []
    for _ in range(4):
        plan = commit_run(runs, resolved, keys, probabilities, CLASSES)
        route_run(runs.store, plan)
        found.append(sent(runs, plan.run_id))
    if not is_head:
        assert found[0] == found[1] == found[3]
        return
    assert [len(one) for one in found] == [30, 30, 30, 10]
    assert len(set.union(*found)) == 100
    reasons = [row["reason"] for batch in iter_routes(runs.store, "0002") for row in batch.to_pylist()]
    assert reasons.count("asked_before") == 30
    assert reasons.count("over_budget") == 40
    assert what_if(resolved, runs, run_id="0002")["variants"][0]["routes"] == {"hold": 70, "review": 30}


def test_route_run__asks_a_heads_questions_about_near_duplicates_once(tmp_path: Path) -> None:
    review = ReviewSpec(policies={TASK: Policy()}, budget=5)
    resolved, runs = job(tmp_path, review, with_vectors=True, is_head=True)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 8))
    vectors[:20] = vectors[0] * rng.uniform(1, 2, (20, 1))  # copies, of which the head is least sure
    first = np.concatenate([rng.uniform(0.50, 0.55, 20), rng.uniform(0.6, 0.9, 30)])
    probabilities = np.stack([first, 1 - first], axis=1)
    keys = [f"{number:03d}.jpg" for number in range(50)]
    found = []
    for _ in range(4):
        plan = commit_run(runs, resolved, keys, probabilities, CLASSES[:2], vectors)
        route_run(runs.store, plan)
        found.append(sent(runs, plan.run_id))
    assert [len(one) for one in found] == [5, 5, 5, 5]
    asked = set.union(*found)
    assert len(asked) == 20
    assert len(asked & set(keys[:20])) == 1
