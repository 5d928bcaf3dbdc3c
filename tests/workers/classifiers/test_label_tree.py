"""Are trees of labels read, refused where they are none, and descended as far as a model is sure?"""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow_workers.classifiers.label_tree import LabelTree, leaves, path_to, read_tree

NESTED = {"animal": {"dog": ["poodle", "terrier"], "cat": None}, "car": None}
FLAT = {"animal": None, "dog": "animal", "poodle": "dog", "terrier": "dog", "cat": "animal", "car": None}
LABELS = ("poodle", "terrier", "cat", "car")


def test_read_tree__nested_and_flat_are_the_same() -> None:
    assert read_tree(NESTED) == read_tree(FLAT) == FLAT
    assert leaves(FLAT) == LABELS
    assert path_to("poodle", FLAT) == ("animal", "dog", "poodle")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"dog": "animl", "animal": None}, "the parent 'animl' of 'dog' is unknown.*did you mean 'animal'"),
        ({"a": "b", "b": "c", "c": "a"}, "goes in a circle: a -> b -> c -> a"),
        ({"a": "a"}, "goes in a circle: a -> a"),
        ({"animal": ["cat", "dog"], "pet": ["cat"]}, "'cat' stands in the tree twice"),
        ({"animal": [" "]}, "a label of the tree is empty"),
        ({"animal": 3}, "below 'animal' stands 3"),
        ({"animal": [["cat"]]}, "write labels"),
        ({"dog": "animal", "animal": ["cat"]}, "write all labels nested, or none"),
        ([], "write a tree"),
    ],
)
def test_read_tree__refused(tree: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tree(tree)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("poodle", "terrier", "cat", "car", "bus"), "lacks 'bus' of the model's 5 labels"),
        (("poodle", "terier", "cat", "car"), "lacks 'terier'"),
        (("poodle", "terrier", "car"), "ends in 'cat', which is no label of the model"),
    ],
)
def test_over__a_label_set_that_does_not_fit(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelTree.over(FLAT, labels)


@pytest.mark.parametrize(
    ("scores", "sure", "path"),
    [
        ((0.9, 0.05, 0.03, 0.02), 0.8, ["animal", "dog", "poodle"]),
        ((0.5, 0.4, 0.08, 0.02), 0.8, ["animal", "dog"]),
        ((0.4, 0.1, 0.4, 0.1), 0.8, ["animal"]),
        ((0.3, 0.1, 0.2, 0.4), 0.8, []),
        ((0.0, 0.0, 0.0, 1.0), 1.0, ["car"]),
    ],
)
def test_descend__stops_where_it_is_sure(scores: tuple[float, ...], sure: float, path: list[str]) -> None:
    tree = LabelTree.over(FLAT, LABELS)
    assert [tree.nodes[node] for node in tree.descend(tree.summed(np.array(scores)), sure)] == path


def test_over__an_inner_node_may_be_an_output_too() -> None:
    tree = LabelTree.over(FLAT, (*LABELS, "dog"))
    sums = dict(zip(tree.nodes, tree.summed(np.array([0.3, 0.1, 0.1, 0.1, 0.4])), strict=True))
    assert sums["dog"] == pytest.approx(0.8)
    assert sums["animal"] == pytest.approx(0.9)


@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4).filter(lambda some: sum(some) > 0), st.floats(0.5, 1.0))
def test_descend__the_deepest_node_that_passes(raw: list[float], sure: float) -> None:
    tree = LabelTree.over(FLAT, LABELS)
    sums = tree.summed(np.array(raw) / sum(raw))
    path = tree.descend(sums, sure)
    passing = [node for node in range(len(tree.nodes)) if sums[node] >= sure]
    depth = {node: len(path_to(tree.nodes[node], FLAT)) for node in passing}
    if sure > 0.5:
        assert sorted(path) == sorted(passing)
        assert not path or depth[path[-1]] == max(depth.values())
    assert all(sums[one] >= sums[other] for one, other in itertools.pairwise(path))
