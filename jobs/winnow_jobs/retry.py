"""What is done with a shard whose actor was lost, and when is a fault not the items'? Pure decisions with reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

DEATHS_BEFORE_CARE = 2  # a second death at the same shard is no accident any more
UNREACHED_BEFORE_DEATH = 3  # a node that is lost takes a shard's actor once, not again and again
DEATHS_BEFORE_STOP = 8  # under care an item cannot end its actor: whatever does will not stop by itself
SYSTEMIC_SHARE, SYSTEMIC_ITEMS = 0.05, 50


class Ending(StrEnum):
    """How an attempt at a shard ended without a receipt."""

    DIED = "died"  # the actor's process is gone
    ENDED_ITSELF = "ended_itself"  # it died, and its last words say so: no accident
    STALLED = "stalled"  # it was over the shard's deadline, and was ended
    UNFINISHED = "unfinished"  # of an earlier driver: nobody knows
    NODE_LOST = "node_lost"
    UNREACHABLE = "unreachable"  # nobody says that its process ended: its node is lost, or is only known to be so later
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
    unreached: int = 0

    def after(self, ending: Ending) -> "ShardPast":
        """With one more attempt. A lost node says nothing about the shard, nor does the death that another caused."""
        if ending in (Ending.NODE_LOST, Ending.BESIDE):
            return self
        if ending is Ending.NEEDS_CARE:
            return replace(self, needs_care=True)
        if ending is Ending.UNREACHABLE and self.unreached + 1 < UNREACHED_BEFORE_DEATH:
            return replace(self, unreached=self.unreached + 1)
        return replace(
            self, deaths=self.deaths + 1, needs_care=self.needs_care or ending is Ending.ENDED_ITSELF, unreached=0
        )


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
