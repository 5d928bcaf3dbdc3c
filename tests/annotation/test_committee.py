"""How much models differ: by hand, and whatever they say."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow_annotation.committee import disagreement
from winnow_annotation.policies import SelectSpec

TOP = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))


def says(*images: dict[str, float] | None) -> pa.ListArray:
    lists = [
        None if image is None else [{"label": name, "score": score} for name, score in image.items()]
        for image in images
    ]
    return pa.array(lists, TOP)


def test_disagreement__is_what_bald_says() -> None:
    one = says({"a": 1.0}, {"a": 0.5, "b": 0.5}, {"a": 0.9, "b": 0.1}, {"a": 1.0}, {"a": 0.6})
    other = says({"b": 1.0}, {"b": 0.5, "a": 0.5}, {"a": 0.1, "b": 0.9}, None, {"c": 0.6})
    found = disagreement([one, other])
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert found[:3] == pytest.approx([math.log(2), 0.0, math.log(2) - entropy], abs=1e-6)
    assert np.isnan(found[3])  # one member alone
    mean = -2 * 0.3 * math.log(0.3) - 0.4 * math.log(0.4)
    own = -0.6 * math.log(0.6) - 0.4 * math.log(0.4)
    assert found[4] == pytest.approx(mean - own, abs=1e-6)  # what is left of 1 is the same class to both


def test_disagreement__of_a_third_that_says_nothing_is_that_of_the_two() -> None:
    one, other = says({"a": 0.8, "b": 0.2}), says({"a": 0.3, "b": 0.7})
    assert disagreement([one, other, says(None)]) == pytest.approx(disagreement([one, other]))
    assert np.isnan(disagreement([says({}), says(None)]))[0]


CHANCES = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(
    lambda some: {name: value / sum(some) for name, value in zip("abc", some, strict=True)}
)


@given(st.lists(CHANCES, min_size=2, max_size=4))
def test_disagreement__has_its_bounds_and_no_order(members: list[dict[str, float]]) -> None:
    (found,) = disagreement([says(one) for one in members])
    assert 0.0 <= found <= math.log(len(members)) + 1e-6
    assert disagreement([says(one) for one in reversed(members)])[0] == pytest.approx(found, abs=1e-9)
    assert disagreement([says(members[0])] * 3)[0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    "given", [{"by": "disagreement"}, {"committee": ["a", "b"]}, {"by": "disagreement", "committee": ["a", "a"]}]
)
def test_select__a_committee_and_its_rule_belong_together(given: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="committee"):
        SelectSpec.model_validate(given)


def test_select__without_a_committee_leaves_no_trace() -> None:
    assert "committee" not in SelectSpec().model_dump(mode="json")
    assert SelectSpec(by="disagreement", committee=("a", "b")).model_dump(mode="json")["committee"] == ["a", "b"]
