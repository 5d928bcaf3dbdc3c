"""Which item is to blame for processes that die? Pure: the deaths so far in, the next trial or the guilty stage out.

A shard whose process died is worked through in a child, one item after the other, each stage announced before it is
entered. The item at which a child dies is tried alone, in a fresh child; it is quarantined only if it dies there
twice, and then goes on in line with the others, without what it died of. Deaths that come from outside (a signal that
the child cannot have given itself) never count.
"""

import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

ALONE_DEATHS = 2  # one could be chance
OUTSIDE_DEATHS = 32  # of one shard's children; whoever kills that many will not let the work end
OPEN, FETCH, DECODE = "<open>", "<fetch>", "<decode>"  # the stages that are not tasks: no task can have such a name

# Signals that a process gives itself: by a fault, an abort, or a limit that it ran into.
_OWN_SIGNALS = frozenset(
    {
        signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP,
        signal.SIGXCPU, signal.SIGXFSZ, signal.SIGPIPE, signal.SIGALRM,
    }
)  # fmt: skip


class Cause(StrEnum):
    """Why a child ended before its work did."""

    CRASHED = "crashed"
    HUNG = "hung"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Death:
    """A child that ended before its work did: the item it was at, the stage it had entered, and how it ended."""

    item: int
    stage: str  # FETCH, DECODE or a task's name
    cause: Cause
    how: str  # such as "SIGSEGV", "no answer within 300 s"
    alone: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What the next child does: these items, and for each the tasks that it must leave out."""

    items: tuple[int, ...]
    alone: bool
    without: Mapping[int, frozenset[str]]


def cause_of_exit(code: int) -> tuple[Cause, str]:
    """Why a child with this exit code (negative: a signal's number) died, if nobody here killed it."""
    if code >= 0:
        return Cause.CRASHED, f"exit {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return (Cause.CRASHED if -code in _OWN_SIGNALS else Cause.OUTSIDE), name


def guilty_stages(item: int, deaths: Sequence[Death]) -> dict[str, Death]:
    """The stages at which an item is quarantined, each with the death that decided it."""
    guilty: dict[str, Death] = {}
    counts: dict[str, int] = {}
    for death in deaths:
        if death.item == item and death.alone and death.cause is not Cause.OUTSIDE:
            counts[death.stage] = counts.get(death.stage, 0) + 1
            if counts[death.stage] == ALONE_DEATHS:
                guilty[death.stage] = death
    return guilty


def next_trial(unanswered: Sequence[int], deaths: Sequence[Death]) -> Trial:
    """What the next child does, given the items that have no row yet: the first suspect alone, else all of them."""
    suspects = _suspects(unanswered, deaths)
    items = tuple(suspects[:1] or unanswered)
    without = {item: frozenset(guilty_stages(item, deaths)) for item in items}
    return Trial(items, alone=len(items) == 1, without={item: names for item, names in without.items() if names})


def _suspects(unanswered: Collection[int], deaths: Sequence[Death]) -> list[int]:
    """Those that died at a stage at which nothing is decided about them."""
    blamed: dict[int, set[str]] = {}
    for death in deaths:
        if death.cause is not Cause.OUTSIDE:
            blamed.setdefault(death.item, set()).add(death.stage)
    return [item for item in unanswered if blamed.get(item, set()) - guilty_stages(item, deaths).keys()]
