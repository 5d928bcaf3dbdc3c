"""Tests of how sure a prediction is, and which classes it names."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from winnow_annotation import ranks
from winnow_annotation.policies import Policy, Rule
from winnow_annotation.wishes import UNRULED, Code, Predictions, ruled_by, wishes

_BOX = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32()), pa.field("is_output", pa.bool_())])
_TOP = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())])
_TYPE = pa.struct(
    [
        pa.field("score", pa.float32()),
        pa.field("p_ok", pa.float32()),
        pa.field("label", pa.string()),
        pa.field("top", pa.list_(_TOP)),
        pa.field("is_anomalous", pa.bool_()),
        pa.field("boxes", pa.list_(_BOX)),
    ]
)


def rows(*structs: dict[str, Any]) -> pa.StructArray:
    return pa.array(structs, _TYPE)


def box(label: str, score: float, *, is_output: bool = True) -> dict[str, Any]:
    return {"label": label, "score": score, "is_output": is_output}


SEEN = rows(
    {"boxes": [box("cat", 0.9), box("gun", 0.2, is_output=False)]},
    {"boxes": [box("gun", 0.8), box("cat", 0.7)]},
    {"boxes": []},
    {"boxes": None},
)


def test_ranks__order_scores_and_tell_those_near_one_apart() -> None:
    found = ranks.ranks("classify", rows(*({"score": score} for score in (0.0, 0.5, 0.999, 1.0)), {}), Rule())
    assert found[:3] == pytest.approx([0.0, np.log(2), np.log(1000)], rel=1e-4)
    assert found[3] == np.inf
    assert np.isnan(found[4])


def test_ranks__of_an_anomaly_is_the_distance_from_its_threshold_on_either_side() -> None:
    found = ranks.ranks("anomaly", rows(*({"score": score} for score in (1.0, 0.5, 2.0, 0.0))), Rule())
    assert found == pytest.approx([0.0, np.log(2), np.log(2), np.inf])


def test_ranks__of_harm_sum_the_classes_that_are_harmful() -> None:
    top = [{"label": "gore", "score": 0.25}, {"label": "gun", "score": 0.25}, {"label": "cat", "score": 0.5}]
    found = ranks.ranks("classify", rows({"top": top}, {"top": None}), Rule(min_recall=0.9), ["gore", "gun"])
    assert found[0] == pytest.approx(np.log(2))
    assert np.isnan(found[1])
    of_boxes = ranks.ranks("detect", SEEN, Rule(min_recall=0.9), ["gun"])
    assert of_boxes[:3] == pytest.approx([-np.log(0.2), -np.log(0.8), np.inf], rel=1e-5)
    assert np.isnan(of_boxes[3])


def test_names__look_at_what_is_put_out() -> None:
    assert ranks.names_any("detect", SEEN, ["gun"]).tolist() == [False, True, False, False]
    assert ranks.names_only("detect", SEEN, ["cat"]).tolist() == [True, False, False, False]
    assert ranks.classes_of("detect", SEEN) == [("cat",), ("cat", "gun"), (), ()]
    verdicts = rows({"is_anomalous": True}, {"is_anomalous": False}, {})
    assert ranks.flagged("anomaly", verdicts, ()).tolist() == [True, False, False]
    assert ranks.classes_of("anomaly", verdicts) == [("anomalous",), ("normal",), ()]


def test_ranks__of_a_part_of_an_array_are_those_of_its_rows() -> None:
    part = SEEN.slice(1, 2)
    assert ranks.names_any("detect", part, ["gun"]).tolist() == [True, False]
    assert ranks.ranks("detect", part, Rule(min_recall=0.9), ["gun"])[0] == pytest.approx(-np.log(0.8), rel=1e-5)


def test_wishes__lists_stand_above_classes_and_classes_above_the_rest() -> None:
    policy = Policy.model_validate(
        {
            "min_p_ok": 0.5,
            "classes": {"dog": {"min_p_ok": 0.9}},
            "always_review": ["gun"],
            "never_review": ["blank"],
        }
    )
    named = [("cat", 0.6), ("dog", 0.6), ("dog", 0.95), ("gun", 1.0), ("blank", 0.1)]
    structs = rows(*({"label": label, "p_ok": p_ok, "score": 0.5} for label, p_ok in named))
    names = pa.array([str(number) for number in range(len(named))])
    predictions = Predictions(names, names, structs.field("score"), structs.field("p_ok"), None, "classify", structs)
    assert [Code(code) for code in wishes(predictions, policy)] == [
        Code.P_OK_HIGH,
        Code.P_OK_LOW,
        Code.P_OK_HIGH,
        Code.ALWAYS_REVIEW,
        Code.NEVER_REVIEW,
    ]
    assert ruled_by(predictions, policy).tolist() == [0, 1, 1, UNRULED, UNRULED]


def test_wishes__listed_items_stand_above_what_the_model_says_and_always_above_never() -> None:
    policy = Policy.model_validate(
        {
            "min_p_ok": 0.5,
            "always_review": ["gun"],
            "always_review_items": {"items": ["id-3"], "globs": ["legal/*"]},
            "never_review_items": ["Legal/Old/*", "blank-*.jpg"],
        }
    )
    keys = ["legal/a.jpg", "legal/old/b.jpg", "x/blank-1.jpg", "y/c.jpg", "x/BLANK-2.jpg", "z/d.jpg"]
    labels = ["cat", "cat", "cat", "cat", "gun", "cat"]
    structs = rows(*({"label": label, "p_ok": 0.1, "score": 0.5} for label in labels))
    ids = pa.array([f"id-{number}" for number in range(len(keys))])
    numbers = (structs.field("score"), structs.field("p_ok"))
    found = Predictions(ids, ids, *numbers, None, "classify", structs, pa.array(keys))
    assert [Code(code) for code in wishes(found, policy)] == [
        Code.ALWAYS_REVIEW_ITEM,
        Code.ALWAYS_REVIEW_ITEM,  # on both lists
        Code.NEVER_REVIEW_ITEM,
        Code.ALWAYS_REVIEW_ITEM,
        Code.ALWAYS_REVIEW,  # the class says always, the item never
        Code.P_OK_LOW,
    ]
    assert ruled_by(found, policy).tolist() == [UNRULED] * 5 + [0]
    with pytest.raises(ValueError, match="keys were not read"):
        wishes(Predictions(ids, ids, *numbers, None, "classify", structs), policy)


@pytest.mark.parametrize(
    ("lists", "codes"),
    [
        ({}, [Code.SAME_CONTENT, Code.SAME_CONTENT]),
        ({"always_review_items": ["b.jpg"]}, [Code.SAME_CONTENT, Code.ALWAYS_REVIEW_ITEM]),
        # nobody may have been asked about the image that these are copies of
        ({"never_review_items": ["b.jpg"]}, [Code.P_OK_LOW, Code.NEVER_REVIEW_ITEM]),
    ],
)
def test_wishes__copies_of_listed_items(lists: dict[str, Any], codes: list[Code]) -> None:
    structs = rows(*({"p_ok": 0.1, "score": 0.5} for _ in range(2)))
    names = pa.array(["a.jpg", "b.jpg"])
    found = Predictions(
        names, names, structs.field("score"), structs.field("p_ok"), pa.array([True, True]), "ocr", structs, names
    )
    assert [Code(code) for code in wishes(found, Policy.model_validate({"min_p_ok": 0.5} | lists))] == codes
