"""How many actors a run has: as many as may be at first, more while that pays, none without work."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow_jobs.scaling import Decision, Reason, Situation, decide


def situation(**changes: object) -> Situation:
    """Two of up to four actors at work, a long queue, and room."""
    usual = Situation(
        least=1, most=4, working=2, coming=0, idle=0, waiting=100, under_way=4, room=8, open_s=3.0, shard_s=10.0
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "hire", "reason"),
    [
        (situation(), 2, Reason.PAYS),
        (situation(most=3), 1, Reason.PAYS),
        (situation(room=1), 1, Reason.PAYS),
        (situation(coming=2), 0, Reason.ENOUGH),
        (situation(room=0), 0, Reason.NO_ROOM),
        (situation(coming=1, room=1), 0, Reason.NO_ROOM),  # that place is for the one that comes
        (situation(waiting=1, under_way=1), 0, Reason.ENOUGH),  # two shards for two actors
        (situation(waiting=2, under_way=2, shard_s=1.0), 0, Reason.DOES_NOT_PAY),
        (situation(waiting=2, under_way=2, shard_s=3.75), 1, Reason.PAYS),  # ends after 6 s, of which it works 3
        (situation(waiting=2, under_way=2, shard_s=3.74), 0, Reason.DOES_NOT_PAY),
        (situation(open_s=None), 2, Reason.START),
        (situation(shard_s=None), 2, Reason.START),
        (situation(working=0, room=0), 1, Reason.LEAST),  # asked for, room or not
        (situation(working=1, least=3, room=0, shard_s=0.1), 2, Reason.LEAST),
    ],
)
def test_decide__hires(now: Situation, hire: int, reason: Reason) -> None:
    assert decide(now) == Decision(hire, 0, 0, reason)


def test_decide__who_has_nothing_left_goes_at_once_and_nobody_comes_any_more() -> None:
    ended = situation(waiting=0, under_way=1, working=3, idle=2, coming=1, least=4)
    assert decide(ended) == Decision(0, 2, 1, Reason.QUEUE_ENDED)


SITUATIONS = st.builds(
    Situation,
    least=st.integers(0, 4),
    most=st.integers(4, 40),
    working=st.integers(0, 40),
    coming=st.integers(0, 8),
    idle=st.just(0),
    waiting=st.integers(0, 500),
    under_way=st.integers(0, 80),
    room=st.integers(0, 40),
    open_s=st.none() | st.floats(0.01, 100),
    shard_s=st.none() | st.floats(0.01, 100),
)


@given(SITUATIONS)
def test_decide__never_more_than_there_is_work_limit_or_room_for(now: Situation) -> None:
    decision = decide(now)
    actors = now.working + now.coming + decision.hire
    if decision.hire:
        assert now.waiting
        assert actors <= now.waiting + now.under_way
        assert actors <= now.most
        if decision.reason is not Reason.LEAST:
            assert now.coming + decision.hire <= now.room
    if now.waiting:
        assert actors >= min(max(now.least, 1), now.waiting + now.under_way)
        assert decision.release == decision.cancel == 0


@given(SITUATIONS, st.integers(1, 100))
def test_decide__more_work_never_wants_fewer(now: Situation, more: int) -> None:
    if now.waiting:
        assert decide(replace(now, waiting=now.waiting + more)).hire >= decide(now).hire


@given(SITUATIONS)
def test_decide__who_is_hired_works_as_long_as_it_opens_and_the_run_ends_sooner(now: Situation) -> None:
    decision = decide(now)
    if decision.reason is not Reason.PAYS or now.open_s is None or now.shard_s is None:
        return
    actors, left_s = now.working + now.coming, (now.waiting + now.under_way) * now.shard_s
    ends_s = (left_s + decision.hire * now.open_s) / (actors + decision.hire)
    assert ends_s - now.open_s >= now.open_s * (1 - 1e-9)
    assert ends_s <= left_s / actors * (1 + 1e-9)
