"""Are answers from a tree of labels measured as they are meant, and sets as scikit-learn does?"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from tests.jobs.evaluation.test_truth import label as answered
from winnow_jobs.evaluation.compare import Pair, compare
from winnow_jobs.evaluation.true_items import TrueItem, with_paths
from winnow_jobs.evaluation.truth import read_truth
from winnow_jobs.evaluation.truth_people import from_labels
from winnow_storage.errors import UsageError
from winnow_workers.evaluation.acceptance import Acceptance

TREE = {"animal": None, "dog": "animal", "poodle": "dog", "cat": "animal", "car": None}
POODLE = TrueItem(label="poodle", path=("animal", "dog", "poodle"))


def said(*path: str) -> dict[str, Any]:
    return {
        "label": path[-1] if path else None,
        "path": [{"label": one, "score": 0.9} for one in path],
        "score": 0.9,
        "p_ok": None,
    }


def test_compare__nodes_above_the_truth_are_right() -> None:
    answers = [said("animal", "dog", "poodle"), said("animal"), said("animal", "cat"), said(), None]
    pairs = [Pair(str(at), POODLE, struct) for at, struct in enumerate(answers)]
    record = compare(pairs, "classify", Acceptance())
    found = record["measures"]
    assert record["per_item"]["ok"] == [True, True, False, False, False]
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["exact_accuracy"] == pytest.approx(1 / 5)
    assert found["unsure_share"] == pytest.approx(2 / 5)
    # labels on the paths: 3 + 1 + 2 said, of which 3 + 1 + 1 are true, of 5 * 3
    assert found["hierarchical_precision"] == pytest.approx(5 / 6)
    assert found["hierarchical_recall"] == pytest.approx(5 / 15)
    assert record["tables"]["most_confused"][0] == ("poodle", None, 2)


def test_compare__sets_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    names, true = ["a", "b", "c"], random.random((80, 3)) < 0.4
    scores = random.random((80, 3))
    pairs = []
    for at in range(80):
        struct = {
            "labels": [name for name, score in zip(names, scores[at], strict=True) if score >= 0.5],
            "top": [{"label": name, "score": float(score)} for name, score in zip(names, scores[at], strict=True)],
            "score": 0.5,
        }
        truth = TrueItem(labels=tuple(name for name, there in zip(names, true[at], strict=True) if there))
        pairs.append(Pair(str(at), truth, struct))
    found = compare(pairs, "classify", Acceptance())["measures"]
    assert found["map"] == pytest.approx(metrics.average_precision_score(true, scores, average="macro"), abs=1e-6)
    assert found["micro_f1"] == pytest.approx(metrics.f1_score(true, scores >= 0.5, average="micro"), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(true, scores >= 0.5, average="macro"), abs=1e-6)


def test_truth__paths_from_the_file_and_from_the_tasks_tree(tmp_path: Path) -> None:
    file = tmp_path / "truth.csv"
    file.write_text("key,path\na.png,animal > dog>poodle\n")
    assert read_truth(file, "classify").items["a.png"] == POODLE
    file.write_text("key,label\na.png,poodle\n")
    assert with_paths(read_truth(file, "classify"), TREE).items["a.png"] == POODLE
    file.write_text("key,label\na.png,pudle\n")
    with pytest.raises(UsageError, match=r"'pudle' of a\.png is not in the task's tree"):
        with_paths(read_truth(file, "classify"), TREE)
    file.write_text("key,path\na.png,animal > > poodle\n")
    with pytest.raises(UsageError, match=r"truth\.csv:2: the path has an empty label"):
        read_truth(file, "classify")


def test_truth__what_people_said_of_sets_and_nodes() -> None:
    sets = [
        answered("a", None, annotation=str(at), at=at, value=json.dumps({"labels": labels}))
        for at, labels in enumerate((["x"], ["x", "y"], ["x"]))
    ]
    assert from_labels(sets, "kind", "classify", ()).items["a"].labels == ("x",)
    node = answered("b", None, annotation="9", at=9, value=json.dumps({"label": "dog", "path": ["animal", "dog"]}))
    assert from_labels([node], "kind", "classify", ()).items["b"] == TrueItem(label="dog", path=("animal", "dog"))
