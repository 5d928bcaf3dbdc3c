"""What is done with a shard whose actor was lost, and when is a fault not the items'? Pure decisions with reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

DEATHS_BEFORE_CARE = 2  # a second death at the same shard is no accident any more
DEATHS_BEFORE_STOP = 8  # under care an item cannot end its actor: whatever does will not stop by itself
SYSTEMIC_SHARE, SYSTEMIC_ITEMS = 0.05, 50


class Ending(StrEnum):
    """How an attempt at a shard ended without a receipt."""

    DIED = "died"  # the actor's process is gone
    ENDED_ITSELF = "ended_itself"  # it died, and its last words say so: no accident
    STALLED = "stalled"  # it was over the shard's deadline, and was ended
    UNFINISHED = "unfinished"  # of an earlier driver: nobody knows
    NODE_LOST = "node_lost"
    BESIDE = "beside"  # the actor was lost while an earlier shard of it was worked on
    NEEDS_CARE = "needs_care"  # the actor lives, but cannot tell in company which item is too much for it


class Action(StrEnum):
    """What comes next for the shard."""

    AGAIN = "again"
    CAREFULLY = "carefully"  # item by item, in children that may die
    STOP = "stop"  # the run cannot go on


@dataclass(frozen=True, slots=True)
class ShardPast:
    """What happened to a shard so far."""

    deaths: int = 0  # died, ended itself, stalled, unfinished
    needs_care: bool = False

    def after(self, ending: Ending) -> "ShardPast":
        """With one more attempt. A lost node says nothing about the shard, nor does the death that another caused."""
        if ending in (Ending.NODE_LOST, Ending.BESIDE):
            return self
        if ending is Ending.NEEDS_CARE:
            return ShardPast(self.deaths, needs_care=True)
        return ShardPast(self.deaths + 1, self.needs_care or ending is Ending.ENDED_ITSELF)


def next_attempt(past: ShardPast) -> Action:
    """How the shard is attempted next."""
    if past.deaths >= DEATHS_BEFORE_STOP:
        return Action.STOP
    careful = past.needs_care or past.deaths >= DEATHS_BEFORE_CARE
    return Action.CAREFULLY if careful else Action.AGAIN


@dataclass(frozen=True, slots=True)
class Systemic:
    """An error that hit too many items to be theirs."""

    error: str
    items: int
    seen: int


def systemic_error(errors: Mapping[str, int], seen: int) -> Systemic | None:
    """The most frequent error if it hit over 5 % of the items seen, and at least 50; None otherwise."""
    if not errors:
        return None
    error = max(sorted(errors), key=lambda one: errors[one])
    count = errors[error]
    return Systemic(error, count, seen) if count >= SYSTEMIC_ITEMS and count > SYSTEMIC_SHARE * seen else None
