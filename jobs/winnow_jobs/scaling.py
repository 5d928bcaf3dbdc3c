"""How many actors does a run have? Pure: what there is and what was measured in, how many come and go out, and why.

It starts with as many as may be, since nothing is measured yet. After that one more is worth its start only if it
works at least as long as it takes to open; what has nothing left to do goes at once. Actors that the cluster has no
room for are asked for only where a least number is promised, and nobody waits for them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why actors come or go, or neither."""

    QUEUE_ENDED = "queue_ended"  # nothing waits: the idle go
    LEAST = "least"  # fewer than are promised
    START = "start"  # nothing is measured yet
    PAYS = "pays"  # one more works for longer than it takes to open
    DOES_NOT_PAY = "does_not_pay"
    ENOUGH = "enough"  # as many as may be, or as there are shards
    NO_ROOM = "no_room"  # the cluster has no place for more


@dataclass(frozen=True, slots=True)
class Situation:
    """A run at one moment. Times are medians of what was measured; None before the first."""

    least: int  # actors that are promised, as long as there is work for them
    most: int
    working: int  # actors that are open, the idle ones too
    coming: int  # actors that are asked for and not open yet
    idle: int  # of those that are open
    waiting: int  # shards that are given to no actor
    under_way: int  # shards that are given to one
    room: int  # actors more that the cluster has a place for
    open_s: float | None  # from asking for an actor until its models are loaded
    shard_s: float | None  # of one actor for one shard


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done: actors more, idle actors fewer, actors that come no more."""

    hire: int
    release: int
    cancel: int
    reason: Reason


def decide(now: Situation) -> Decision:
    """What comes next."""
    if now.waiting == 0:
        return Decision(0, now.idle, now.coming, Reason.QUEUE_ENDED)
    actors, left = now.working + now.coming, now.waiting + now.under_way
    least = min(max(now.least, 1), left)
    if actors < least:
        return Decision(least - actors, 0, 0, Reason.LEAST)
    wanted = min(now.most, left) - actors
    if wanted <= 0:
        return Decision(0, 0, 0, Reason.ENOUGH)
    if now.room <= now.coming:
        return Decision(0, 0, 0, Reason.NO_ROOM)
    wanted = min(wanted, now.room - now.coming)
    if now.open_s is None or now.shard_s is None:
        return Decision(wanted, 0, 0, Reason.START)
    paying = _paying(actors, wanted, left * now.shard_s, now.open_s)
    return Decision(paying, 0, 0, Reason.PAYS if paying else Reason.DOES_NOT_PAY)


def _paying(actors: int, wanted: int, left_s: float, open_s: float) -> int:
    """How many of the wanted actors, one after the other, work at least as long as they take to open.

    `left_s` is what one actor alone would take for all that is left. With one more among n, which begins after
    `open_s`, all end after (left_s + open_s) / (n + 1).
    """
    paying = 0
    while paying < wanted and (left_s + (paying + 1) * open_s) / (actors + paying + 1) >= 2 * open_s:
        paying += 1
    return paying
