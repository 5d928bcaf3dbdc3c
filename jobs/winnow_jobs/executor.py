"""How do shards reach actors? Keep every actor busy, watch its deadline, replace the dead, give each shard its care."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

from winnow_jobs.cluster import Placement
from winnow_jobs.retry import Action, Ending, ShardPast, next_attempt
from winnow_storage.errors import RayError, RunFailed, WinnowError
from winnow_storage.shards import Receipt
from winnow_workers.actor import SHARDS_AT_ONCE, CareWanted, ShardActor
from winnow_workers.pipeline import WorkerConfig

FEW = 16  # answers under way that are quicker taken one by one
POLL_S = 0.5  # how soon an interrupt, or a deadline, is noticed while actors work
OPEN_ATTEMPTS = 3
OPEN_DEADLINE_S = 900.0
ASK_S = 10.0  # how often a worker is asked for its steps, at least; four times in a shard's deadline
LOST = (RayActorError, OutOfMemoryError, WorkerCrashedError)


class Journal(Protocol):
    """Where attempts at shards are written down before they start, so that the next driver knows of them."""

    def started(self, shard: int) -> None:
        """An attempt begins."""
        ...

    def ended(self, shard: int) -> None:
        """The shard is committed."""
        ...


@dataclass(slots=True)
class _Worker:
    actor: Any
    node_id: str | None = None  # known once it is open
    opens: int = 0  # how often the actor in this place was started without becoming open
    steps: int = -1
    moved_at_s: float = 0.0  # when it was last known to have made a step
    asked: Any = None  # the reference of a question that is under way
    asked_at_s: float = 0.0
    errands: "list[_Errand]" = field(default_factory=list)  # oldest first


@dataclass(slots=True)
class _Errand:
    worker: _Worker
    shard: int | None  # None: it loads its models
    since_s: float
    alone: bool = True  # nothing else is given to the worker meanwhile


class ShardExecutor:
    """The actors of one run, each with a shard to work on and, while there are plenty, the next one to fetch.

    A shard that was lost before is worked on alone, so that a death is one shard's.
    """

    def __init__(
        self,
        config: WorkerConfig,
        placement: Placement,
        *,
        shard_deadline_s: float,
        journal: Journal,
        say: Callable[[str], None],
    ) -> None:
        self._config = replace(config, device=placement.device, threads=placement.threads)
        self._placement = placement
        self._shard_deadline_s = shard_deadline_s
        self._journal = journal
        self._say = say
        self._waiting: deque[int] = deque()
        self._past: dict[int, ShardPast] = {}
        self._workers: list[_Worker] = []
        self._busy: dict[Any, _Errand] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for errand in self._busy.values():
            if errand.shard is not None and self._past.get(errand.shard, ShardPast()).deaths == 0:
                self._journal.ended(errand.shard)  # cut off by us: that is no death
        for worker in self._workers:
            if worker.actor is not None:
                ray.kill(worker.actor, no_restart=True)
        self._workers.clear()

    def run(
        self, shards: Sequence[int], past: Mapping[int, ShardPast], *, then: Sequence[int] = ()
    ) -> Iterator[Receipt]:
        """The receipt of every shard, as they are committed, in no order; `past` is what earlier drivers left.

        The shards of `then` are begun when all others are committed.

        Raises:
            ModelError: a model does not load.
            RayError: actors do not start.
            RunFailed: a shard ends its actors even under care, or our own code fails.
            WinnowError: whatever of ours an actor raised.
        """
        self._past = dict(past)
        self._workers = [_Worker(None) for _ in range(self._placement.actors)]
        for stage in filter(None, (shards, then)):
            self._waiting = deque(stage)
            for worker in self._workers:
                if worker.node_id is None and not worker.errands:
                    self._hire(worker)
            self._give_out()
            yield from self._receipts()

    def bare_items_per_s(self, shards: Sequence[int]) -> float | None:
        """What bare loops over these shards make in all actors at once, after `run`; None if one of them ends."""
        free = [worker for worker in self._workers if worker.node_id is not None]
        asked = [worker.actor.bare_loop.remote(shards[at % len(shards)]) for at, worker in enumerate(free)]
        try:
            measured = ray.get(asked)
        except LOST:
            return None
        return sum(items / seconds for items, seconds in measured if seconds > 0) or None

    def _receipts(self) -> Iterator[Receipt]:
        looked_at_s = time.monotonic()
        while self._busy:
            for reference in self._ready():
                errand = self._busy.pop(reference, None)
                if errand is None:
                    continue  # its worker was lost with what came before it
                errand.worker.errands.remove(errand)
                receipt = self._settle(reference, errand)
                if receipt is not None:
                    yield receipt
            if time.monotonic() - looked_at_s >= POLL_S:
                self._end_stalled()
                looked_at_s = time.monotonic()

    def _ready(self) -> list[Any]:
        """What is answered, after at most POLL_S: all of it, since asking costs as much as there is under way."""
        under_way = list(self._busy)
        ready, _ = ray.wait(under_way, num_returns=1, timeout=POLL_S)
        if ready and len(under_way) > FEW:
            ready, _ = ray.wait(under_way, num_returns=len(under_way), timeout=0)
        return list(ready)

    def _settle(self, reference: Any, errand: _Errand) -> Receipt | None:
        try:
            answer = ray.get(reference)
        except LOST as error:
            self._lost(errand, self._ending(errand), _reason(error))
            return None
        except RayTaskError as error:
            if isinstance(error.cause, WinnowError):
                raise error.cause from None
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise RunFailed(
                f"an actor failed: {type(cause).__name__}: {_reason(cause)}",
                hint="what was committed stays; this is a defect: run again with --debug and report what it prints",
            ) from error
        if errand.shard is None:
            errand.worker.node_id, errand.worker.opens = answer, 0
            errand.worker.moved_at_s = time.monotonic()
        elif isinstance(answer, CareWanted):
            self._again(errand.shard, Ending.NEEDS_CARE, answer.reason)
            self._give_out()
        else:
            self._journal.ended(errand.shard)
        for _ in range(SHARDS_AT_ONCE):
            self._give_to(errand.worker)
        return answer if isinstance(answer, Receipt) else None

    def _give_out(self) -> None:
        """Give the waiting shards to the workers that have least to do, in order, as long as they take them."""
        for depth in range(SHARDS_AT_ONCE):
            for worker in self._workers:
                if len(worker.errands) == depth:
                    self._give_to(worker)

    def _give_to(self, worker: _Worker) -> None:
        """Give one waiting shard to a worker, if it takes one.

        The last shards are not heaped on one worker while another has none.
        """
        depth = len(worker.errands)
        if worker.node_id is None or depth >= SHARDS_AT_ONCE or any(errand.alone for errand in worker.errands):
            return
        if self._waiting and (depth == 0 or len(self._waiting) >= len(self._workers)):
            self._start_next(worker, alone_only_if_free=depth == 0)

    def _start_next(self, worker: _Worker, *, alone_only_if_free: bool) -> None:
        shard = self._waiting[0]
        past = self._past.get(shard, ShardPast())
        alone = past != ShardPast()
        if alone and not alone_only_if_free:
            return
        self._waiting.popleft()
        self._journal.started(shard)
        if next_attempt(past) is Action.CAREFULLY:
            why = f"{past.deaths} attempts did not end" if past.deaths else "memory ran out"
            self._say(f"shard {shard}: {why}; image by image now, each in a process that may end")
            reference = worker.actor.run_carefully.remote(shard)
        else:
            reference = worker.actor.run_shard.remote(shard)
        now = time.monotonic()
        if not worker.errands:
            worker.moved_at_s = now
        self._begin(reference, _Errand(worker, shard, now, alone))

    def _begin(self, reference: Any, errand: _Errand) -> None:
        self._busy[reference] = errand
        errand.worker.errands.append(errand)

    def _hire(self, worker: _Worker) -> None:
        share = {"num_gpus": 1.0} if self._placement.device == "cuda" else {"num_cpus": 1.0}
        worker.actor = ShardActor.options(**share).remote(self._config)
        worker.node_id = None
        worker.opens += 1
        self._begin(worker.actor.open.remote(), _Errand(worker, None, time.monotonic()))

    def _end_stalled(self) -> None:
        """End what loads its models for too long, or makes no step for as long as a shard's deadline."""
        now = time.monotonic()
        for worker in self._workers:
            if not worker.errands:
                continue
            errand = worker.errands[0]
            if errand.shard is None:
                if now - errand.since_s > OPEN_DEADLINE_S:
                    self._lost(errand, Ending.STALLED, f"models not loaded within {OPEN_DEADLINE_S:.0f} s")
                continue
            self._ask(worker, now)
            if now - worker.moved_at_s > self._shard_deadline_s:
                # a stopped process never answers, so nobody waits for its end; its commit would be one too many
                reason = f"no step within {self._shard_deadline_s:.0f} s (run.shard_deadline_s)"
                self._lost(errand, Ending.STALLED, reason)

    def _ask(self, worker: _Worker, now: float) -> None:
        if worker.asked is None:
            if now - worker.asked_at_s >= min(ASK_S, self._shard_deadline_s / 4):
                worker.asked, worker.asked_at_s = worker.actor.steps.remote(), now
            return
        ready, _ = ray.wait([worker.asked], timeout=0)
        if not ready:
            return
        try:
            steps = ray.get(worker.asked)
        except LOST:
            steps = worker.steps  # its errands tell of it
        if steps != worker.steps:
            worker.steps, worker.moved_at_s = steps, now
        worker.asked = None

    def _ending(self, errand: _Errand) -> Ending:
        node_id = errand.worker.node_id
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if not alive:
            raise RayError(
                "the Ray cluster has no node left (its raylet was killed, or the machine went away)",
                hint="what was committed stays; the same command starts or joins a cluster again and goes on",
            )
        return Ending.NODE_LOST if node_id is not None and node_id not in alive else Ending.DIED

    def _lost(self, errand: _Errand, ending: Ending, reason: str) -> None:
        worker = errand.worker
        if errand.shard is None and ending is not Ending.NODE_LOST and worker.opens >= OPEN_ATTEMPTS:
            raise RayError(
                f"an actor died {OPEN_ATTEMPTS} times while it loaded its models: {reason}",
                hint="see winnow doctor SPEC; free memory helps",
            )
        ray.kill(worker.actor, no_restart=True)  # it may be unreachable only, and would keep its share of the node
        worker.node_id = worker.asked = None
        others = [other for other in worker.errands if other is not errand]
        worker.errands.clear()
        self._busy = {reference: other for reference, other in self._busy.items() if other.worker is not worker}
        # the shard that came first had the models: one death is one shard's
        lost = sorted([errand, *others], key=lambda one: one.since_s)
        for place, one in reversed(list(enumerate(lost))):
            if one.shard is not None:
                self._again(one.shard, ending if place == 0 else Ending.BESIDE, reason)
        self._give_out()
        if self._waiting:
            self._hire(worker)

    def _again(self, shard: int, ending: Ending, reason: str) -> None:
        past = self._past[shard] = self._past.get(shard, ShardPast()).after(ending)
        if past == ShardPast():
            self._journal.ended(shard)
        if next_attempt(past) is Action.STOP:
            raise RunFailed(
                f"the process that works on shard {shard} was lost {past.deaths} times (last: {reason})",
                hint="what was committed stays; see who ends it (dmesg, the node's log), then run the same command",
            )
        self._say(f"shard {shard}: {ending.replace('_', ' ')} ({reason}); it is worked on again")
        self._waiting.appendleft(shard)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
