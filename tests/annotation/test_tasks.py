"""Tests of review tasks as they are imported."""

import json
from typing import Any

import pytest

from tests.annotation.examples import MODEL, PREDICTIONS, item, neighbours
from winnow_annotation.kinds.embed import NO_PICTURE
from winnow_annotation.tasks import review_task, short_digest, shown_score, value_of


def test_review_task__says_where_it_is_from() -> None:
    task = review_task(item("kind", "s3://bucket/a b.jpg"), image="IMAGE")
    data = task["data"]
    assert (data["image"], data["uri"], data["key"]) == ("IMAGE", "s3://bucket/a b.jpg", "a b.jpg")
    assert (data["reason"], data["purpose"], data["model"]) == ("score_low", "review", MODEL)
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == MODEL[:12]
    assert prediction["score"] == 0.6


@pytest.mark.parametrize("purpose", ["audit", "calibrate"])
def test_review_task__is_blind_where_the_truth_is_measured(purpose: str) -> None:
    assert "predictions" not in review_task(item("kind", "s3://bucket/a.jpg", route=purpose), image="IMAGE")


def test_review_task__shows_no_prediction_that_failed_or_is_absent() -> None:
    failed = json.dumps({**PREDICTIONS["kind"], "error": "out of paper"})
    assert "predictions" not in review_task(item("kind", "s3://b/a.jpg", prediction=failed), image="IMAGE")
    assert "predictions" not in review_task(item("kind", "s3://b/a.jpg", prediction=None), image="IMAGE")


def test_review_task__an_embedding_is_shown_beside_neighbours_that_are_named_in_the_task() -> None:
    beside = neighbours("s3://b/1.jpg", "s3://b/2.tif", "s3://b/3.jpg")
    embedding = item("look", "s3://b/a.jpg", neighbours=beside)
    task = review_task(embedding, image="IMAGE", neighbours=["ONE", None, "THREE"])
    assert "predictions" not in task  # a vector makes no claim, whatever it is asked for
    data = task["data"]
    assert [(one["key"], one["item_id"], one["version"]) for one in data["neighbours"]] == [
        ("1.jpg", "item of s3://b/1.jpg", "v1"),
        ("3.jpg", "item of s3://b/3.jpg", "v1"),
    ]
    assert [data[f"neighbour_{place}"] for place in (1, 2, 3, 4)] == ["ONE", "THREE", NO_PICTURE, NO_PICTURE]


def test_review_task__adjudicators_see_who_called_which_neighbour_the_same() -> None:
    def answer(*keys: str) -> list[dict[str, Any]]:
        return [{"item_id": f"item of s3://b/{key}", "key": key, "same": True} for key in keys]

    said = {
        "answers": [
            {"annotators": ["ann"], "value": {"neighbours": answer("2.jpg")}},
            {"annotators": ["bob"], "value": {"neighbours": answer("9.jpg", "1.jpg")}},  # of neighbours of before
        ]
    }
    beside = neighbours("s3://b/1.jpg", "s3://b/2.jpg")
    embedding = item("look", "s3://b/a.jpg", route="adjudicate", prediction=json.dumps(said), neighbours=beside)
    shown = review_task(embedding, image="x", neighbours=["x", "x"])["predictions"]
    assert [(one["model_version"], [result["from_name"] for result in one["result"]]) for one in shown] == [
        ("ann", ["same_2"]),
        ("bob", ["same_1"]),
    ]


@pytest.mark.parametrize(
    ("p_ok", "score", "shown"),
    [(0.3, 0.9, 0.3), (None, 0.9, 0.9), (None, 3.5, 1.0), (None, -1.0, 0.0), (None, None, None)],
)
def test_shown_score__is_p_ok_or_the_clipped_score(p_ok: float | None, score: float | None, shown: float) -> None:
    assert shown_score(p_ok, score) == shown


def test_short_digest__keeps_names_whole() -> None:
    assert short_digest("random:7") == "random:7"
    assert short_digest(None) == "unknown"


def test_value_of__refuses_a_foreign_result() -> None:
    with pytest.raises(ValueError, match="interface for classify"):
        value_of("classify", [{"type": "choices", "value": {}}])
