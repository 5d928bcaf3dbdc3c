"""Does a caller wait within its bounds and give up within its budget, whatever the dice say?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.fake_time import FakeTime
from winnow_storage.backoff import Backoff, Decision, Reason, decide
from winnow_storage.errors import BlobMissing, StoreUnavailable

POLICIES = st.builds(
    Backoff,
    attempts=st.integers(1, 50),
    first_wait_s=st.floats(0.001, 10),
    longest_wait_s=st.floats(0.001, 30),
    budget_s=st.floats(0, 300),
    sure_attempts=st.integers(0, 5),
)
JITTER = st.floats(0, 1, exclude_max=True)


def policy(
    *,
    attempts: int = 10,
    first_wait_s: float = 1.0,
    longest_wait_s: float = 8.0,
    budget_s: float = 60.0,
    sure_attempts: int = 2,
) -> Backoff:
    return Backoff(attempts, first_wait_s, longest_wait_s, budget_s, sure_attempts)


@pytest.mark.parametrize(("attempt", "bound_s"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (9, 8)])
def test_decide__bound_doubles_up_to_the_longest(attempt: int, bound_s: float) -> None:
    for jitter in (0.0, 0.25, 0.999):
        decision = decide(policy(), attempt=attempt, elapsed_s=0, jitter=jitter)
        assert decision == Decision(jitter * bound_s, Reason.RETRY)


def test_decide__out_of_attempts() -> None:
    assert decide(policy(attempts=3), attempt=2, elapsed_s=0, jitter=0.5).wait_s == 1
    assert decide(policy(attempts=3), attempt=3, elapsed_s=0, jitter=0.5) == Decision(None, Reason.OUT_OF_ATTEMPTS)


def test_decide__the_last_attempt_begins_at_the_end_of_the_budget() -> None:
    assert decide(policy(), attempt=5, elapsed_s=59, jitter=0.5) == Decision(1.0, Reason.RETRY)
    assert decide(policy(), attempt=6, elapsed_s=60, jitter=0.5) == Decision(None, Reason.OUT_OF_TIME)


def test_decide__sure_attempts_are_made_however_long_each_took() -> None:
    slow = policy(sure_attempts=3)
    assert decide(slow, attempt=1, elapsed_s=500, jitter=0.5).reason is Reason.RETRY
    assert decide(slow, attempt=2, elapsed_s=1000, jitter=0.5).reason is Reason.RETRY
    assert decide(slow, attempt=3, elapsed_s=1500, jitter=0.5).reason is Reason.OUT_OF_TIME


def test_decide__an_attempt_beyond_counting() -> None:
    endless = policy(attempts=10**9)
    assert decide(endless, attempt=10**6, elapsed_s=0, jitter=0.5) == Decision(4.0, Reason.RETRY)


@given(given_policy=POLICIES, jitters=st.lists(JITTER, min_size=60, max_size=60), took_s=st.floats(0, 100))
def test_decide__any_policy_ends_within_its_bounds(given_policy: Backoff, jitters: list[float], took_s: float) -> None:
    elapsed_s, attempt, begun = 0.0, 1, [0.0]
    while True:
        elapsed_s += took_s
        decision = decide(given_policy, attempt=attempt, elapsed_s=elapsed_s, jitter=jitters[attempt])
        if decision.wait_s is None:
            break
        assert 0 <= decision.wait_s <= given_policy.longest_wait_s
        elapsed_s += decision.wait_s
        attempt += 1
        begun.append(elapsed_s)
    assert attempt <= given_policy.attempts
    late = [at for number, at in enumerate(begun, start=1) if at > given_policy.budget_s * (1 + 1e-9)]
    assert len(late) <= max(0, given_policy.sure_attempts - 1)


class Failing:
    """Fails `times`, each time after `took_s`, then says "done"."""

    def __init__(self, time: FakeTime, times: int, took_s: float = 0.0) -> None:
        self.time, self.left, self.took_s, self.tries = time, times, took_s, 0

    def __call__(self) -> str:
        self.tries += 1
        self.time.now_s += self.took_s
        if self.left == 0:
            return "done"
        self.left -= 1
        raise StoreUnavailable("the store sleeps", hint="wake it")


def test_retrying__goes_on_until_it_succeeds() -> None:
    time = FakeTime()
    once = Failing(time, 3)
    assert time.retrying().call(once, lambda _: policy()) == "done"
    assert time.waits_s == [0.5, 1.0, 2.0]


def test_retrying__gives_up_and_says_how_long_it_tried() -> None:
    time = FakeTime()
    with pytest.raises(StoreUnavailable) as caught:
        time.retrying().call(Failing(time, 99, took_s=20), lambda _: policy())
    assert caught.value.message == "the store sleeps (tried 3 times in 62 s)"
    assert caught.value.hint == "wake it"


def test_retrying__rounds_of_tries_say_once_how_long_they_tried() -> None:
    time = FakeTime()
    once = Failing(time, 99)
    with pytest.raises(StoreUnavailable) as caught:
        time.retrying().call(
            lambda: time.retrying().call(once, lambda _: policy(attempts=3)), lambda _: policy(attempts=2)
        )
    assert caught.value.message == f"the store sleeps (tried 2 times in {time.now_s:.0f} s)"
    assert once.tries == 6


def test_retrying__policy_may_differ_from_error_to_error() -> None:
    time = FakeTime()
    patience = iter([policy(), policy(), policy(attempts=3)])
    once = Failing(time, 99)
    with pytest.raises(StoreUnavailable, match="tried 3 times"):
        time.retrying().call(once, lambda _: next(patience))
    assert once.tries == 3


def test_retrying__other_errors_pass_at_once() -> None:
    time = FakeTime()

    def once() -> None:
        raise BlobMissing("not there")

    with pytest.raises(BlobMissing, match=r"^not there$"):
        time.retrying().call(once, lambda _: policy())
    assert time.waits_s == []
