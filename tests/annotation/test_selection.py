"""Tests of which of too many reviews are chosen."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_annotation.policies import Policy, ReviewSpec, SelectSpec
from winnow_annotation.routing import Choice, Sent
from winnow_annotation.selection import select, shares, stacked
from winnow_annotation.wishes import Predictions

REVIEWS = {"kind": Policy(min_p_ok=1.0)}  # everything without p_ok is unsure


def around(centre: tuple[float, float, float], count: int, seed: int) -> np.ndarray:
    """`count` vectors near one another."""
    return (np.array(centre) + np.random.default_rng(seed).normal(0, 0.1, (count, 3))).astype(np.float32)


THREE = np.concatenate([around((1, 0, 0), 20, 1), around((0, 1, 0), 6, 2), around((0, 0, 1), 4, 3)])


def test_select__takes_the_most_unsure_of_each_group() -> None:
    chosen = select(THREE, 3, seed=0)
    assert [one.place for one in chosen] == [0, 20, 26]
    assert [one.group for one in chosen] == [20, 6, 4]


def test_select__without_scores_takes_the_most_typical_of_each_group() -> None:
    chosen = select(THREE, 3, seed=0, typical=True)
    unit = THREE / np.linalg.norm(THREE, axis=1, keepdims=True)
    for one, (first, last) in zip(
        sorted(chosen, key=lambda one: one.place), [(0, 20), (20, 26), (26, 30)], strict=True
    ):
        distances = np.linalg.norm(unit[first:last] - unit[first:last].mean(axis=0), axis=1)
        assert one.place == first + int(np.argmin(distances))


def test_select__asks_about_near_duplicates_last() -> None:
    same = np.tile(np.float32([[1, 2, 3]]), (8, 1)) * np.arange(1, 9, dtype=np.float32)[:, None]  # a cosine of 1
    vectors = np.concatenate([same, around((0, 1, 0), 3, 5)])
    chosen = [one.place for one in select(vectors, 6, seed=0)]
    assert set(chosen[:4]) == {0, 8, 9, 10}
    assert chosen[4:] == [1, 2]


def test_select__asks_last_about_what_is_like_those_that_were_asked_about() -> None:
    asked = np.stack([2 * THREE[3], THREE[21]])
    chosen = {one.place for one in select(THREE, 3, seed=0, known=asked)}
    unit, known = (some / np.linalg.norm(some, axis=1, keepdims=True) for some in (THREE, asked))
    alike = set(np.flatnonzero((unit @ known.T).max(axis=1) >= 0.995).tolist())
    assert {0, 3, 21} <= alike  # the first is the most unsure of all
    assert len(chosen) == 3
    assert not alike & chosen
    assert select(THREE, 3, seed=0, known=asked[:0]) == select(THREE, 3, seed=0)


def test_select__what_has_no_vector_is_like_nothing() -> None:
    vectors = stacked({"a": THREE[0], "c": THREE[0]}, ["a", "b", "c", "d", "e"])
    assert vectors is not None
    assert {0, 1, 3, 4} == {one.place for one in select(vectors, 4, seed=0)}
    assert stacked({}, ["a"]) is None


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 45), st.integers(0, 2**32 - 1), st.booleans())
def test_select__as_many_as_are_wanted_each_once(n: int, count: int, seed: int, typical: bool) -> None:
    vectors = np.random.default_rng(n).choice([0.0, 0.5, 1.0], (n, 4)).astype(np.float32)  # many are equal
    chosen = select(vectors, count, seed=seed, typical=typical)
    assert len(chosen) == min(n, count) == len({one.place for one in chosen})
    assert all(0 <= one.place < n and one.group >= 1 for one in chosen)
    assert chosen == select(vectors, count, seed=seed, typical=typical)


@given(st.integers(0, 30), st.dictionaries(st.sampled_from("abcd"), st.integers(0, 12)))
def test_shares__are_taken_by_turns(room: int, candidates: dict[str, int]) -> None:
    turns = sorted((turn, task) for task, count in candidates.items() for turn in range(count))
    taken = Counter(task for _, task in turns[:room])
    assert shares(room, candidates) == {task: taken[task] for task in candidates}


def seen(choice: Choice, margins: list[float], batch: int = 7) -> None:
    """Show a classifier's predictions, all of them unsure, the scores ordering them the other way round."""
    for start in range(0, len(margins), batch):
        some = np.float32(margins[start : start + batch])
        names = pa.array([f"i{number:03d}" for number in range(start, start + len(some))])
        scores, p_ok = pa.array(1 - some), pa.nulls(len(some), pa.float32())
        details = pa.StructArray.from_arrays(
            [scores, p_ok, pa.array(some), pa.array(-some)], ["score", "p_ok", "margin", "entropy"]
        )
        choice.see("kind", Predictions(names, names, scores, p_ok, None, "classify", details), place=start)


def sent(select_by: SelectSpec, *, budget: int = 3, batch: int = 7, vectors: np.ndarray = THREE) -> list[Sent]:
    """Of thirty predictions whose margin grows with their number."""
    choice = Choice(ReviewSpec(policies=REVIEWS, budget=budget, select=select_by), seed="s")
    seen(choice, np.linspace(0.1, 0.9, len(THREE)).tolist(), batch)
    if pool := choice.pool():
        items = sorted(item for some in pool.values() for item in some)
        choice.compare({item: vectors[int(item[1:])] for item in items})
    return choice.sent()


def test_choice__sends_the_smallest_margin_of_each_group_and_says_so() -> None:
    chosen = sent(SelectSpec())
    assert [one.item_id for one in chosen] == ["i000", "i020", "i026"]
    assert [one.chosen for one in chosen] == [
        "margin: 1 of 30, of a group of 20",
        "margin: 21 of 30, of a group of 6",
        "margin: 27 of 30, of a group of 4",
    ]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("margin", ["i000", "i001"]),
        ("entropy", ["i000", "i001"]),
        ("score", ["i029", "i028"]),
        ("p_ok", ["i029", "i028"]),
    ],
)
def test_choice__goes_by_what_the_spec_says(by: str, expected: list[str]) -> None:
    chosen = sent(SelectSpec.model_validate({"by": by, "diverse": False}), budget=2)
    assert [one.item_id for one in chosen] == expected
    said = "p_ok, score" if by == "p_ok" else by
    assert [one.chosen for one in chosen] == [f"{said}: 1 of 30", f"{said}: 2 of 30"]


def test_choice__says_what_it_went_by_where_there_is_no_margin() -> None:
    choice = Choice(ReviewSpec(policies=REVIEWS, budget=1), seed="s")
    names, scores = pa.array(["a", "b"]), pa.array([0.9, 0.1], pa.float32())
    details = pa.StructArray.from_arrays([scores], ["score"])
    choice.see("kind", Predictions(names, names, scores, pa.nulls(2, pa.float32()), None, "ocr", details), place=0)
    (one,) = choice.sent()
    assert (one.item_id, one.chosen) == ("b", "p_ok, score: 1 of 2")


def test_choice__at_random_looks_at_no_score() -> None:
    first, second = (sent(SelectSpec(by="random", diverse=False), budget=8, batch=size) for size in (7, 30))
    chosen = [one.item_id for one in first]
    assert chosen != sorted(chosen)
    assert chosen == [one.item_id for one in second]


def test_choice__with_room_for_all_nothing_is_compared() -> None:
    choice = Choice(ReviewSpec(policies=REVIEWS, budget=30), seed="s")
    seen(choice, np.linspace(0.1, 0.9, 30).tolist())
    assert not choice.pool()
    assert {one.chosen for one in choice.sent()} == {None}


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_choice__is_the_same_in_whatever_batches(budget: int, batch: int) -> None:
    first, second = (sent(SelectSpec(), budget=budget, batch=size) for size in (7, batch))
    assert [(one.item_id, one.chosen) for one in first] == [(one.item_id, one.chosen) for one in second]
