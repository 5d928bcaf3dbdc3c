"""Is an answer sure enough, or is somebody else to be asked? Pure: what is known in, state and reason out."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where the consensus on an item stands."""

    SETTLED = "settled"  # sure enough
    ASKING = "asking"  # another person is to answer
    DISPUTED = "disputed"  # as many as may answer did, and they differ
    UNSURE = "unsure"  # as many as may answer did; they agree, but not surely enough
    ADJUDICATED = "adjudicated"  # an adjudicator's answer stands
    WITHDRAWN = "withdrawn"  # nobody's answer stands any more


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of an item: how sure the answer is, and who gave it."""

    posterior: float
    agreed: bool
    votes: int
    is_adjudicated: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """`overlap` people answer in any case, `max_overlap` at most; `sure` is the posterior that is enough."""

    overlap: int = 1
    max_overlap: int = 1
    sure: float = 0.95


def decide(standing: Standing, limits: Limits) -> State:
    """The state of an item's consensus."""
    if standing.is_adjudicated:
        return State.ADJUDICATED
    if standing.votes < limits.overlap:
        return State.ASKING
    if standing.posterior >= limits.sure:
        return State.SETTLED
    if standing.votes < limits.max_overlap:
        return State.ASKING
    return State.UNSURE if standing.agreed else State.DISPUTED


def votes_wanted(standing: Standing, limits: Limits) -> int:
    """How many people are to have answered: one more than now where another one is asked, else as many as did."""
    if decide(standing, limits) is not State.ASKING:
        return standing.votes
    return max(limits.overlap, standing.votes + 1)
