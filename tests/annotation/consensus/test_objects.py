"""Boxes, masks and lines of several people: matched, merged, kept or dropped."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_annotation.consensus.clusters import cluster_objects
from winnow_annotation.consensus.kinds import Rules, consensus_of
from winnow_annotation.consensus.opinions import Method, Opinion
from winnow_annotation.consensus.shapes import box_iou
from winnow_annotation.consensus.similarity import similarity
from winnow_annotation.consensus.texts import align, vote_text
from winnow_annotation.kinds import masks
from winnow_storage.errors import SpecError


def box(x: float, y: float, side: float = 40.0, label: str = "coin") -> dict[str, Any]:
    return {"label": label, "box": [x, y, x + side, y + side]}


def boxes(item: str, who: str, *some: dict[str, Any]) -> Opinion:
    return Opinion(item, who, {"boxes": list(some)})


corner = st.integers(0, 60)
drawings = st.dictionaries(
    st.sampled_from(["ann", "bob", "cat"]), st.lists(st.builds(box, corner, corner), max_size=4), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(drawn=drawings)
def test_cluster_objects__every_shape_is_in_one_object(drawn: dict[str, list[dict[str, Any]]]) -> None:
    found = cluster_objects({"it": drawn}, box_iou)
    shapes = [shape for cluster in found.clusters for shape in cluster.shapes.values()]
    assert sorted(map(str, shapes)) == sorted(str(shape) for some in drawn.values() for shape in some)
    assert all(0.0 <= cluster.there <= 1.0 for cluster in found.clusters)
    assert set(found.accuracy) == set(drawn)


@settings(max_examples=30, deadline=None)
@given(drawn=drawings, seed=st.integers(0, 9))
def test_consensus__does_not_depend_on_order(drawn: dict[str, list[dict[str, Any]]], seed: int) -> None:
    opinions = [boxes("it", who, *some) for who, some in drawn.items()]
    mixed = [opinions[place] for place in np.random.default_rng(seed).permutation(len(opinions))]
    assert consensus_of("detect", mixed, Rules()) == consensus_of("detect", opinions, Rules())


def test_boxes__are_merged_and_a_stray_one_is_dropped() -> None:
    opinions = []
    rng = np.random.default_rng(0)
    for number in range(30):
        for who in ("ann", "bob", "cat"):
            jitter = rng.normal(0, 1.5, 2)
            some = [box(10 + jitter[0], 20 + jitter[1]), box(100 + jitter[0], 80, label="rim")]
            if who == "cat" and number % 3 == 0:
                some.append(box(200, 200))
            opinions.append(boxes(f"{number:02d}", who, *some))
    found = consensus_of("detect", opinions, Rules())
    for answer in found.answers.values():
        assert [one["label"] for one in answer.value["boxes"]] == ["coin", "rim"]
        assert answer.value["boxes"][0]["box"] == pytest.approx([10, 20, 50, 60], abs=3.5)
    assert not found.answers["00"].agreed
    assert found.answers["01"].agreed
    assert found.accuracy["cat"] < found.accuracy["ann"]


def test_boxes__one_object_with_two_names_is_one_object() -> None:
    opinions = [boxes("it", who, box(0, 0, label=label)) for who, label in (("ann", "a"), ("bob", "a"), ("cat", "b"))]
    (one,) = consensus_of("detect", opinions, Rules()).answers["it"].value["boxes"]
    assert one["label"] == "a"


def test_boxes__an_image_on_which_nobody_drew_is_empty() -> None:
    one = consensus_of("detect", [boxes("it", "ann")], Rules()).answers["it"]
    both = consensus_of("detect", [boxes("it", "ann"), boxes("it", "bob")], Rules()).answers["it"]
    assert one.value == both.value == {"boxes": []}
    assert 0.5 < one.posterior < 0.95 <= both.posterior + 0.02


def painted(mask: np.ndarray[Any, np.dtype[np.bool_]], label: str = "coin") -> dict[str, Any]:
    return {"label": label, "area_px": int(mask.sum()), "rle": masks.to_coco(mask)}


def test_masks__pixels_by_majority() -> None:
    yy, xx = np.mgrid[:40, :50]
    discs = {who: (xx - 20 - dx) ** 2 + (yy - 20) ** 2 < 100 for who, dx in (("ann", 0), ("bob", 1), ("cat", 4))}
    opinions = [
        Opinion("it", who, {"masks": [painted(disc)], "instances": [painted(disc)]}) for who, disc in discs.items()
    ]
    answer = consensus_of("segment", opinions, Rules()).answers["it"]
    (mask,) = answer.value["masks"]
    merged, _ = masks.from_coco(mask["rle"])
    assert np.array_equal(merged, sum(disc.astype(int) for disc in discs.values()) >= 2)
    assert len(answer.value["instances"]) == 1
    assert mask["area_px"] == int(merged.sum())
    assert similarity("segment", opinions[0].value, answer.value) == 1.0


texts = st.text(alphabet="abc ", max_size=12)


@settings(max_examples=80, deadline=None)
@given(typed=st.dictionaries(st.sampled_from("xyz"), texts, min_size=1))
def test_align__gives_back_what_everybody_typed(typed: dict[str, str]) -> None:
    slots = align(typed, sorted(typed))
    for name, text in typed.items():
        assert "".join(slot.said[name] for slot in slots) == text


@settings(max_examples=60, deadline=None)
@given(text=texts, people=st.integers(1, 4))
def test_vote_text__all_who_agree_are_taken_at_their_word(text: str, people: int) -> None:
    voted = vote_text({str(number): text for number in range(people)})
    assert voted.text == text
    assert 0.0 < voted.posterior <= 1.0


def test_vote_text__each_ones_slip_is_outvoted() -> None:
    voted = vote_text({"ann": "INV-2041", "bob": "INV-204l", "cat": "INV 2041", "dan": "NV-2041"})
    assert voted.text == "INV-2041"
    assert voted.errors == {"ann": 0, "bob": 1, "cat": 1, "dan": 1}
    assert voted.posterior > 0.95


def test_vote_text__the_reliable_one_wins_a_tie() -> None:
    assert vote_text({"ann": "cot", "bob": "cat"}, {"ann": 0.9, "bob": 0.99}).text == "cat"
    assert vote_text({"ann": "cot", "bob": "cat"}, {"ann": 0.99, "bob": 0.9}).posterior < 0.95


def test_lines__are_matched_by_place() -> None:
    def line(y: int, text: str, order: int) -> dict[str, Any]:
        return {"text": text, "polygon": [10, y, 90, y, 90, y + 12, 10, y + 12], "order": order}

    opinions = [
        Opinion("it", "ann", {"lines": [line(10, "total", 0), line(40, "12.50", 1)], "full_text": "total\n12.50"}),
        Opinion("it", "bob", {"lines": [line(41, "12.50", 0), line(11, "totai", 1)], "full_text": "12.50\ntotai"}),
        Opinion("it", "cat", {"lines": [line(9, "total", 0), line(39, "12,50", 1)], "full_text": "total\n12,50"}),
    ]
    answer = consensus_of("ocr", opinions, Rules()).answers["it"]
    assert answer.value["full_text"] == "total\n12.50"
    assert not answer.agreed


def test_anomaly__regions_of_those_who_saw_it() -> None:
    def verdict(who: str, *regions: list[float]) -> Opinion:
        return Opinion("it", who, {"is_anomalous": bool(regions), "regions": [{"box": one} for one in regions]})

    answer = consensus_of(
        "anomaly", [verdict("ann", [10, 10, 30, 30]), verdict("bob", [12, 10, 32, 30]), verdict("cat")], Rules()
    ).answers["it"]
    assert answer.value["is_anomalous"] is True
    assert len(answer.value["regions"]) == 1


def test_consensus__of_what_people_cannot_answer() -> None:
    with pytest.raises(SpecError, match="no consensus"):
        consensus_of("mine:Own", [], Rules())


def compared(who: str, **same: bool | None) -> Opinion:
    """What somebody said of neighbours; their names are in the order in which they are near."""
    neighbours = [
        {"item_id": name, "key": name, "version": "v", "score": 1.0 - ord(name) / 200, "same": said}
        for name, said in same.items()
    ]
    return Opinion("it", who, {"neighbours": neighbours})


def test_neighbours__each_is_a_choice_of_its_own() -> None:
    opinions = [
        compared("ann", a=True, b=True, c=None),
        compared("bob", a=True, b=False, c=None),
        compared("cat", d=True, b=False, a=True),  # was shown others
    ]
    for method in Method:
        answer = consensus_of("embed", opinions, Rules(method)).answers["it"]
        told = {one["key"]: one["same"] for one in answer.value["neighbours"]}
        assert list(told.items()) == [("a", True), ("b", False), ("c", None), ("d", True)], method
        assert not answer.agreed
        assert 0.5 < answer.posterior < 1.0
    assert consensus_of("embed", opinions[:1], Rules()).answers["it"].agreed


def test_neighbours__what_nobody_can_say_is_no_answer() -> None:
    assert consensus_of("embed", [compared("ann", a=None)], Rules()).answers == {}
    assert similarity("embed", compared("ann", a=None).value, compared("bob", a=True).value) is None
    first, second = compared("ann", a=True, b=True, c=True), compared("bob", b=False, c=True, d=True)
    assert similarity("embed", first.value, second.value) == 0.5
