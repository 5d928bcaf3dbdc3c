"""Which items need nothing but committed vectors: the rule, over what is due and what stands in memory."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs.heads import head_task, job, selected
from tests.jobs.histories import task
from winnow_jobs.backfill import Backfill, backfilled
from winnow_jobs.from_vectors import Links, links_of, places_of, settle
from winnow_jobs.plan import Selection
from winnow_jobs.standing import SAYS, SILENT, Standing
from winnow_storage.errors import UsageError
from winnow_storage.schemas import Outcome

DONE, FAILED = SAYS[Outcome.DONE], SAYS[Outcome.FAILED]


def standing_of(*says: list[int]) -> Standing:
    found = Standing(len(says), len(says[0]))
    found.says[:] = np.array(says, np.int8)
    return found


LOOK_AND_KIND = Links({1: 0}, np.array([True, True]))


def settled(
    due: list[list[int]], standing: Standing, links: Links = LOOK_AND_KIND
) -> tuple[list[object], list[object]]:
    left, taken = settle(np.array(due, np.bool_), standing, links)
    return left.astype(int).tolist(), taken.astype(int).tolist()


def test_settle__a_head_alone_takes_the_vector_that_stands() -> None:
    # done; look failed; look never ran; look is due as well; nothing is due
    standing = standing_of([DONE, FAILED, SILENT, SILENT, DONE], [SILENT] * 4 + [DONE])
    left, taken = settled([[0, 0, 0, 1, 0], [1, 1, 1, 1, 0]], standing)
    assert taken == [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert left == [[0, 1, 1, 1, 0], [1, 1, 1, 1, 0]]


def test_settle__beside_a_task_of_pixels_the_vector_is_made_of_the_same_bytes() -> None:
    links = Links({1: 0}, np.array([True, True, True]))
    standing = standing_of([DONE, DONE], [SILENT, SILENT], [SILENT, DONE])
    left, taken = settled([[0, 0], [1, 1], [1, 0]], standing, links)
    assert taken == [[0, 1], [0, 0], [0, 0]]
    assert left == [[1, 0], [1, 1], [1, 0]]


def test_settle__a_task_that_was_not_asked_for_runs_only_where_a_head_needs_it() -> None:
    links = Links({1: 0}, np.array([False, True]))
    left, taken = settled([[1, 1, 0], [0, 1, 1]], standing_of([SILENT, SILENT, DONE], [DONE, SILENT, SILENT]), links)
    assert left == [[0, 1, 0], [0, 1, 1]]
    assert taken == [[0, 0, 1], [0, 0, 0]]


def test_settle__of_two_tasks_of_vectors_both_stand_or_both_are_made() -> None:
    links = Links({2: 0, 3: 1}, np.ones(4, np.bool_))
    standing = standing_of([DONE, DONE], [DONE, SILENT], [SILENT, SILENT], [SILENT, SILENT])
    left, taken = settled([[0, 0], [0, 0], [1, 1], [1, 1]], standing, links)
    assert taken == [[1, 0], [1, 0], [0, 0], [0, 0]]
    assert left == [[0, 1], [0, 1], [1, 1], [1, 1]]


@given(st.lists(st.tuples(*[st.booleans()] * 4, st.sampled_from([SILENT, DONE, FAILED])), min_size=1, max_size=20))
def test_settle__nobody_is_left_without_what_a_head_needs(items: list[tuple[bool, bool, bool, bool, int]]) -> None:
    """Two heads on one task of vectors, and a task of pixels beside them."""
    due = np.array([item[:4] for item in items]).T
    standing = standing_of([item[4] for item in items], *[[SILENT] * len(items)] * 3)
    left, taken = settle(due, standing, Links({1: 0, 2: 0}, np.ones(4, np.bool_)))
    heads = left[1] | left[2]
    assert (left[1:] == due[1:]).all()
    assert (heads == (left[0] | taken[0]) & heads).all()
    assert not (left[0] & taken[0]).any()
    assert not (taken[0] & (left[0] | left[3])).any()  # of what is taken nothing is read
    assert (standing.says[0][taken[0]] == DONE).all()


def test_links_of__say_which_tasks_were_asked_for(tmp_path: Path) -> None:
    resolved = job(tmp_path, head_task(tmp_path, 1))
    assert links_of(resolved.tasks, ()).sources == {1: 0}
    assert links_of(resolved.tasks, ("kind",)).asked.tolist() == [False, True]
    assert links_of([task("a"), task("b")], ()).sources == {}


def test_places_of__name_the_rows() -> None:
    standing = Standing(2, 3)
    standing.runs[0], standing.places[0] = [1, 0, 0], [(7 << 32) + 3, 0, 9]
    taken = np.array([[True, False, True], [False] * 3])
    found = places_of(taken, standing, names=["look", "kind"], run_ids=["0001", "0004"])
    assert found.to_pylist() == [
        [{"task": "look", "run_id": "0004", "shard": 7, "row": 3}],
        None,
        [{"task": "look", "run_id": "0001", "shard": 0, "row": 9}],
    ]


def test_backfilled__says_what_is_selected(tmp_path: Path) -> None:
    resolved = job(tmp_path, head_task(tmp_path, 1), head_task(tmp_path, 2, name="mood"))
    assert selected(resolved, Backfill.PREDICTIONS) == {"tasks": ("kind", "mood")}
    assert selected(resolved, Backfill.DECISIONS) == {"tasks": ("kind", "mood"), "since": "0001"}
    assert selected(resolved, Backfill.ALL) == {"since": "0001"}
    mood = backfilled(Selection(tasks=("mood", "look")), resolved, Backfill.PREDICTIONS)
    assert mood.tasks == ("mood",)
    assert backfilled(mood, resolved, None) == mood
    with pytest.raises(UsageError, match="no task of pets does"):
        backfilled(Selection(), job(tmp_path, out="plain"), Backfill.DECISIONS)
    with pytest.raises(UsageError, match="none of look does"):
        backfilled(Selection(tasks=("look",)), resolved, Backfill.PREDICTIONS)
    with pytest.raises(UsageError, match="and --since both"):
        backfilled(Selection(since="0003"), resolved, Backfill.ALL)
