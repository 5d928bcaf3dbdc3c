"""What is done with a shard whose actor was lost, and when a fault is not the items'."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow_jobs.retry import (
    DEATHS_BEFORE_CARE,
    DEATHS_BEFORE_STOP,
    UNREACHED_BEFORE_DEATH,
    Action,
    Ending,
    ShardPast,
    Systemic,
    next_attempt,
    systemic_error,
)


def past_of(*endings: Ending) -> ShardPast:
    past = ShardPast()
    for ending in endings:
        past = past.after(ending)
    return past


@pytest.mark.parametrize(
    ("endings", "action"),
    [
        ((), Action.AGAIN),
        ((Ending.DIED,), Action.AGAIN),
        ((Ending.UNFINISHED, Ending.DIED), Action.CAREFULLY),
        ((Ending.STALLED, Ending.STALLED), Action.CAREFULLY),
        ((Ending.NEEDS_CARE,), Action.CAREFULLY),
        ((Ending.ENDED_ITSELF,), Action.CAREFULLY),
        ((Ending.NODE_LOST, Ending.BESIDE) * 20, Action.AGAIN),
        ((Ending.UNREACHABLE,) * (2 * UNREACHED_BEFORE_DEATH - 1), Action.AGAIN),
        ((Ending.UNREACHABLE,) * (2 * UNREACHED_BEFORE_DEATH), Action.CAREFULLY),  # it does not stop by itself
        ((Ending.DIED,) * (DEATHS_BEFORE_STOP - 1), Action.CAREFULLY),
        ((Ending.DIED,) * DEATHS_BEFORE_STOP, Action.STOP),
    ],
)
def test_next_attempt__by_what_happened(endings: Sequence[Ending], action: Action) -> None:
    assert next_attempt(past_of(*endings)) is action


@given(st.lists(st.sampled_from([one for one in Ending if one is not Ending.UNREACHABLE]), max_size=20))
def test_next_attempt__once_careful_never_careless_again(endings: list[Ending]) -> None:
    rank = [Action.AGAIN, Action.CAREFULLY, Action.STOP]
    actions = [rank.index(next_attempt(past_of(*endings[:count]))) for count in range(len(endings) + 1)]
    assert actions == sorted(actions)
    blamed = sum(ending in (Ending.DIED, Ending.STALLED, Ending.UNFINISHED) for ending in endings)
    known = {Ending.NEEDS_CARE, Ending.ENDED_ITSELF} & set(endings)
    assert (actions[-1] > 0) == (blamed >= DEATHS_BEFORE_CARE or bool(known))


@pytest.mark.parametrize(
    ("errors", "seen", "found"),
    [
        ({}, 1000, None),
        ({"a": 49}, 50, None),  # too few to tell
        ({"a": 50}, 1000, None),  # exactly 5 %
        ({"a": 50, "b": 3}, 999, Systemic("a", 50, 999)),
        ({"a": 40, "b": 40}, 100, None),  # different errors do not add up
        ({"b": 60, "a": 60}, 100, Systemic("a", 60, 100)),
    ],
)
def test_systemic_error__over_five_percent_and_at_least_fifty(
    errors: dict[str, int], seen: int, found: Systemic | None
) -> None:
    assert systemic_error(errors, seen) == found
