"""Which item is blamed for processes that die."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow_workers.quarantine import DECODE, Cause, Death, cause_of_exit, guilty_stages, next_trial


def death(item: int, stage: str = "kind", cause: Cause = Cause.CRASHED, *, alone: bool = True) -> Death:
    return Death(item, stage, cause, "SIGSEGV", alone)


@pytest.mark.parametrize(
    ("code", "cause", "how"),
    [
        (-signal.SIGSEGV, Cause.CRASHED, "SIGSEGV"),
        (-signal.SIGABRT, Cause.CRASHED, "SIGABRT"),
        (-signal.SIGKILL, Cause.OUTSIDE, "SIGKILL"),
        (-signal.SIGTERM, Cause.OUTSIDE, "SIGTERM"),
        (0, Cause.CRASHED, "exit 0"),
        (1, Cause.CRASHED, "exit 1"),
        (255, Cause.CRASHED, "exit 255"),
        (-99, Cause.OUTSIDE, "signal 99"),
    ],
)
def test_cause_of_exit__signals_that_a_process_gives_itself(code: int, cause: Cause, how: str) -> None:
    assert cause_of_exit(code) == (cause, how)


def test_next_trial__everything_at_first() -> None:
    trial = next_trial([0, 1, 2], [])
    assert (trial.items, trial.alone, trial.without) == ((0, 1, 2), False, {})


def test_next_trial__the_suspect_alone_then_without_what_it_died_of_twice() -> None:
    in_company = death(1, alone=False)
    assert next_trial([0, 1, 2], [in_company]).items == (1,)
    assert next_trial([0, 1, 2], [in_company, death(1)]).without == {}
    decided = [in_company, death(1), death(1)]
    trial = next_trial([0, 1, 2], decided)  # it goes on with the others
    assert (trial.items, trial.alone, trial.without) == ((0, 1, 2), False, {1: frozenset({"kind"})})
    elsewhere = death(1, "text", alone=False)
    trial = next_trial([0, 1, 2], [*decided, elsewhere])  # until it dies of something else
    assert (trial.items, trial.alone, trial.without) == ((1,), True, {1: frozenset({"kind"})})


def test_guilty_stages__deaths_in_company_from_outside_or_elsewhere_do_not_count() -> None:
    deaths = [death(1, alone=False), death(1, cause=Cause.OUTSIDE), death(1, DECODE), death(1), death(2), death(2)]
    assert guilty_stages(1, deaths) == {}
    assert set(guilty_stages(1, [*deaths, death(1, cause=Cause.HUNG)])) == {"kind"}


@given(
    st.dictionaries(st.integers(0, 14), st.sampled_from(["decode", "kind", "text"]), max_size=6),
    st.integers(1, 15),
    st.lists(st.integers(0, 60), max_size=8, unique=True),
)
def test_next_trial__every_item_is_answered_and_the_guilty_alone_are_quarantined(
    harm: dict[int, str], count: int, killed_at: list[int]
) -> None:
    answered: dict[int, frozenset[str]] = {}
    deaths: list[Death] = []
    children = steps = 0
    while unanswered := [item for item in range(count) if item not in answered]:
        children += 1
        assert children <= 1 + 3 * len(harm) + len(killed_at)
        trial = next_trial(unanswered, deaths)
        for item in trial.items:
            steps += 1
            if steps in killed_at:  # from outside, at any item
                deaths.append(Death(item, "kind", Cause.OUTSIDE, "SIGKILL", trial.alone))
                break
            without = trial.without.get(item, frozenset())
            if item in harm and harm[item] not in without:
                deaths.append(Death(item, harm[item], Cause.CRASHED, "SIGSEGV", trial.alone))
                break
            answered[item] = without
    assert answered == {item: frozenset({harm[item]} if item in harm else ()) for item in range(count)}
