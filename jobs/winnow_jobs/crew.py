"""Who works on a run, at what, and how fast? The executor's own notes of its actors."""

import statistics
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from winnow_jobs.scaling import Situation

MEASURED = 16  # a median over the last so many


@dataclass(slots=True, eq=False)
class Worker:
    """One place for an actor; who works there may change."""

    actor: Any = None
    name: str = ""  # by which its last words are asked for
    node_id: str | None = None  # known once it is open
    opens: int = 0  # how often the actor in this place was started without becoming open
    is_placed: bool = False  # the cluster has found room for it
    steps: int = -1
    moved_at_s: float = 0.0  # when it was last known to have made a step
    asked: Any = None  # the reference of a question that is under way
    asked_at_s: float = 0.0
    ended_at_s: float = 0.0  # when it last ended a shard
    errands: "list[Errand]" = field(default_factory=list)  # oldest first

    def renew(self, actor: Any, name: str = "") -> None:
        """Another actor in this place."""
        self.actor, self.name = actor, name or uuid4().hex
        self.node_id = self.asked = None
        self.is_placed = False
        self.opens += 1


@dataclass(slots=True, eq=False)
class Errand:
    """What a worker was asked for and has not answered."""

    worker: Worker
    shard: int | None  # None: it loads its models
    since_s: float
    alone: bool = True  # nothing else is given to the worker meanwhile
    suspect: int | None = None  # the shard that the actor before it died at, kept for its answer


@dataclass(slots=True)
class Pace:
    """How long actors took lately."""

    opens_s: deque[float] = field(default_factory=lambda: deque(maxlen=MEASURED))
    shards_s: deque[float] = field(default_factory=lambda: deque(maxlen=MEASURED))

    def opened(self, errand: Errand, now_s: float) -> None:
        """An actor is open."""
        self.opens_s.append(now_s - errand.since_s)

    def ended(self, errand: Errand, now_s: float) -> None:
        """A shard is committed; the next one of an actor overlaps with the one before."""
        self.shards_s.append(now_s - max(errand.since_s, errand.worker.ended_at_s))
        errand.worker.ended_at_s = now_s

    @property
    def open_s(self) -> float | None:
        """From asking for an actor until it is open."""
        return statistics.median(self.opens_s) if self.opens_s else None

    @property
    def shard_s(self) -> float | None:
        """Of one actor for one shard."""
        return statistics.median(self.shards_s) if self.shards_s else None


def situation(
    workers: Collection[Worker], busy: Collection[Errand], least: int, most: int, pace: Pace, waiting: int
) -> Situation:
    """What `scaling` is asked about, but for the room; a shard that is kept for an actor's answer waits, too."""
    working = sum(worker.node_id is not None for worker in workers)
    return Situation(
        least=least,
        most=most,
        working=working,
        coming=len(workers) - working,
        idle=sum(worker.node_id is not None and not worker.errands for worker in workers),
        waiting=waiting + sum(errand.suspect is not None for errand in busy),
        under_way=sum(errand.shard is not None for errand in busy),
        room=0,
        open_s=pace.open_s,
        shard_s=pace.shard_s,
    )


def without_place(workers: Collection[Worker], before_s: float) -> list[Worker]:
    """Those that were asked for before that, and that the cluster has found no room for."""
    coming = [worker for worker in workers if worker.node_id is None and not worker.is_placed and worker.errands]
    return [worker for worker in coming if worker.errands[0].since_s < before_s]


def reason_of(error: Exception) -> str:
    """The first line of what an actor's end is explained with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
