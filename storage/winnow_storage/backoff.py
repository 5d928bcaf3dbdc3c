"""How long does a caller wait before it tries again, and when does it give up? Exponential waits with full jitter.

Full jitter draws every wait evenly from zero to the exponential bound, which spreads callers that failed together
better than any other scheme measured there: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog,
2015, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

from dataclasses import dataclass
from enum import StrEnum

_MOST_DOUBLINGS = 62  # far beyond any bound; keeps the power finite


@dataclass(frozen=True, slots=True)
class Backoff:
    """How patient a caller is.

    `attempts` is the most that are made, the first one included. Attempt n + 1 waits up to `first_wait_s` x 2^(n - 1)
    but never more than `longest_wait_s`. No attempt begins later than `budget_s` after the first one began, except
    that `sure_attempts` are made however long each of them took: one slow upload must not be the only one.
    """

    attempts: int
    first_wait_s: float
    longest_wait_s: float
    budget_s: float
    sure_attempts: int = 2


class Reason(StrEnum):
    """Why a caller waits or gives up."""

    RETRY = "retry"
    OUT_OF_ATTEMPTS = "out of attempts"
    OUT_OF_TIME = "out of time"


@dataclass(frozen=True, slots=True)
class Decision:
    """`wait_s` is None where the caller is to give up."""

    wait_s: float | None
    reason: Reason


def decide(policy: Backoff, *, attempt: int, elapsed_s: float, jitter: float) -> Decision:
    """What to do after attempt number `attempt` (from 1) failed, `elapsed_s` after the first one began.

    `jitter` is a random number in [0, 1).
    """
    if attempt >= policy.attempts:
        return Decision(None, Reason.OUT_OF_ATTEMPTS)
    bound_s = min(policy.longest_wait_s, policy.first_wait_s * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS))
    left_s = policy.budget_s - elapsed_s
    if left_s > 0:
        return Decision(min(jitter * bound_s, left_s), Reason.RETRY)
    if attempt < policy.sure_attempts:
        return Decision(jitter * bound_s, Reason.RETRY)
    return Decision(None, Reason.OUT_OF_TIME)
