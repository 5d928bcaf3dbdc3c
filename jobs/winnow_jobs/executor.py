"""How do shards reach actors? Keep every actor busy, watch its deadline, replace the dead, give each shard its care."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, Self

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

from winnow_jobs.cluster import Placement
from winnow_jobs.retry import Action, Ending, ShardPast, next_attempt
from winnow_storage.errors import RayError, RunFailed, WinnowError
from winnow_storage.shards import Receipt
from winnow_workers.actor import CareWanted, ShardActor
from winnow_workers.pipeline import WorkerConfig

POLL_S = 0.5  # how soon an interrupt, or a deadline, is noticed while actors work
OPEN_ATTEMPTS = 3
OPEN_DEADLINE_S = 900.0
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


@dataclass(frozen=True, slots=True)
class _Errand:
    worker: _Worker
    shard: int | None  # None: it loads its models
    since_s: float
    deadline_s: float


class ShardExecutor:
    """The actors of one run, each working on one shard at a time."""

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
        for worker in self._workers:
            if worker.actor is not None:
                ray.kill(worker.actor, no_restart=True)
        self._workers.clear()

    def run(self, shards: Sequence[int], past: Mapping[int, ShardPast]) -> Iterator[Receipt]:
        """The receipt of every shard, as they are committed, in no order; `past` is what earlier drivers left.

        Raises:
            ModelError: a model does not load.
            RayError: actors do not start.
            RunFailed: a shard ends its actors even under care, or our own code fails.
            WinnowError: whatever of ours an actor raised.
        """
        self._waiting, self._past = deque(shards), dict(past)
        self._workers = [_Worker(None) for _ in range(self._placement.actors)]
        for worker in self._workers:
            self._hire(worker)
        while self._busy:
            ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=POLL_S)
            for reference in ready:
                receipt = self._settle(reference, self._busy.pop(reference))
                if receipt is not None:
                    yield receipt
            self._end_stalled()

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
        elif isinstance(answer, CareWanted):
            self._again(errand.shard, Ending.NEEDS_CARE, answer.reason)
        else:
            self._journal.ended(errand.shard)
            self._next(errand.worker)
            receipt: Receipt = answer
            return receipt
        self._next(errand.worker)
        return None

    def _next(self, worker: _Worker) -> None:
        if not self._waiting:
            return
        shard = self._waiting.popleft()
        self._journal.started(shard)
        if next_attempt(self._past.get(shard, ShardPast())) is not Action.AGAIN:  # earlier drivers' deaths stop nobody
            self._say(f"shard {shard}: image by image now, each in a process that may end")
            reference = worker.actor.run_carefully.remote(shard)
            # every image of it may need its own time, three times
            deadline_s = self._shard_deadline_s * 4
        else:
            reference, deadline_s = worker.actor.run_shard.remote(shard), self._shard_deadline_s
        self._busy[reference] = _Errand(worker, shard, time.monotonic(), deadline_s)

    def _hire(self, worker: _Worker) -> None:
        share = {"num_gpus": 1.0} if self._placement.device == "cuda" else {"num_cpus": 1.0}
        worker.actor = ShardActor.options(**share).remote(self._config)
        worker.node_id = None
        worker.opens += 1
        self._busy[worker.actor.open.remote()] = _Errand(worker, None, time.monotonic(), OPEN_DEADLINE_S)

    def _end_stalled(self) -> None:
        now = time.monotonic()
        for reference, errand in list(self._busy.items()):
            if now - errand.since_s <= errand.deadline_s:
                continue
            # a stopped process never answers, so nobody waits for its end; should it wake, its commit is one too many
            del self._busy[reference]
            ray.kill(errand.worker.actor, no_restart=True)
            self._lost(errand, Ending.STALLED, f"no answer within {errand.deadline_s:.0f} s")

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
        if errand.shard is not None:
            self._again(errand.shard, ending, reason)
        elif errand.worker.opens >= OPEN_ATTEMPTS:
            raise RayError(
                f"an actor died {OPEN_ATTEMPTS} times while it loaded its models: {reason}",
                hint="see winnow doctor SPEC; free memory helps",
            )
        errand.worker.node_id = None
        idle = next((worker for worker in self._workers if worker.node_id and not self._is_busy(worker)), None)
        if idle is not None:
            self._next(idle)
        elif self._waiting:
            self._hire(errand.worker)

    def _is_busy(self, worker: _Worker) -> bool:
        return any(errand.worker is worker for errand in self._busy.values())

    def _again(self, shard: int, ending: Ending, reason: str) -> None:
        past = self._past[shard] = self._past.get(shard, ShardPast()).after(ending)
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
