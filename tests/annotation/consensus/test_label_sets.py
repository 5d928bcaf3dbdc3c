"""What several people's sets of labels, and nodes of a tree, together say."""

import pytest

from winnow_annotation.consensus.kinds import Rules, consensus_of
from winnow_annotation.consensus.opinions import Method, Opinion
from winnow_annotation.consensus.similarity import similarity

MAJORITY = Rules(method=Method.MAJORITY)


def says(item: str, **sets: str) -> list[Opinion]:
    """A set per person, as the letters of its labels."""
    return [Opinion(item, who, {"labels": list(labels)}) for who, labels in sets.items()]


@pytest.mark.parametrize("method", list(Method))
def test_sets__label_by_label(method: Method) -> None:
    opinions = [*says("one", ann="ab", bob="a", eve="ab"), *says("two", ann="", bob="", eve="c")]
    found = consensus_of("classify", opinions, Rules(method=method, beliefs={"one": {"c": 0.9}}))
    assert found.answers["one"].value == {"labels": ["a", "b"]}
    assert found.answers["two"].value == {"labels": []}
    assert not found.answers["one"].agreed
    assert set(found.accuracy) == {"ann", "bob", "eve"}


def test_sets__the_least_sure_label_decides_how_sure_it_is() -> None:
    found = consensus_of("classify", says("one", ann="ab", bob="a", eve="ab"), MAJORITY)
    assert found.answers["one"].posterior == pytest.approx(2 / 3, abs=0.05)
    assert consensus_of("classify", says("one", ann="a", bob="a"), MAJORITY).answers["one"].agreed


def test_nodes__the_way_to_them_is_kept() -> None:
    path = ["animal", "cat"]
    opinions = [Opinion("one", who, {"label": "cat", "path": path}) for who in ("ann", "bob")]
    opinions.append(Opinion("one", "eve", {"label": "car", "path": ["car"]}))
    assert consensus_of("classify", opinions, MAJORITY).answers["one"].value == {"label": "cat", "path": path}


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [("ab", "ab", 1.0), ("ab", "a", 2 / 3), ("a", "b", 0.0), ("", "", 1.0), ("", "a", 0.0)],
)
def test_similarity__of_sets(first: str, second: str, alike: float) -> None:
    found = similarity("classify", {"labels": list(first)}, {"labels": list(second)})
    assert found == pytest.approx(alike)
