"""How do shards reach actors? Keep every actor busy, watch its deadline, replace the dead, give each shard its care.

How many actors there are is decided in `scaling`, what comes of a shard that was lost in `retry`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

from winnow_jobs.attempts import Journal
from winnow_jobs.calls import Calls
from winnow_jobs.cluster import Placement, living_nodes, room_for
from winnow_jobs.crew import Errand, Pace, Worker, reason_of, situation, without_place
from winnow_jobs.engine import Engine
from winnow_jobs.retry import Action, Ending, ShardPast, next_attempt
from winnow_jobs.scaling import decide
from winnow_storage.errors import RayError, RunFailed, WinnowError
from winnow_storage.shards import Receipt
from winnow_workers.actor import SHARDS_AT_ONCE, CareWanted, Opened, ShardActor
from winnow_workers.pipeline import WorkerConfig

POLL_S = 0.5  # how soon an interrupt, or a deadline, is noticed while actors work
OPEN_ATTEMPTS = 3
OPEN_DEADLINE_S = 900.0
PLACE_S = 30.0  # an actor that the cluster finds no place for is given up after that, if others work
STAFF_S = 1.0  # how often it is looked whether actors should come or go
ASK_S = 10.0  # how often a worker is asked for its steps, at least; four times in a shard's deadline
LOST = (RayActorError, OutOfMemoryError, WorkerCrashedError)
OF_THE_NODE = (Ending.NODE_LOST, Ending.UNREACHABLE)  # where it was there may be no place for another actor


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
        engine: Engine | None = None,
        keep: bool = False,
    ) -> None:
        """`engine` takes the actors that have nothing left to do; `keep` says that none goes before the end."""
        self._config = replace(config, device=placement.device, threads=placement.threads)
        self._placement = placement
        self._least = placement.actors if placement.least is None else placement.least
        self._most = placement.actors if placement.most is None else placement.most
        self._shard_deadline_s = shard_deadline_s
        self._ask_s = min(ASK_S, shard_deadline_s / 4)
        self._journal = journal
        self._say = say
        self._engine = engine
        self._keep = keep
        self._waiting: deque[int] = deque()
        self._later = 0  # shards that are begun when all others are committed
        self._pace = Pace()
        self._modules: tuple[str, ...] = ()  # that models brought, for the children of an actor that has none
        self._staffed_at_s = float("-inf")
        self._is_patient = False  # it was said that actors are waited for
        self._late = 0  # actors that no shard is kept for: they have had no place for long
        self._past: dict[int, ShardPast] = {}
        self._workers: list[Worker] = []
        self._calls = Calls()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for errand in self._calls.errands:
            if errand.shard is not None and not self._deaths(errand.shard):
                self._journal.ended(errand.shard)  # cut off by us: that is no death
        for worker in list(self._workers):
            self._dismiss(worker)

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
        if self._engine is not None:
            for stranger in self._engine.strangers(self._config):
                ray.kill(stranger, no_restart=True)
        for _ in range(self._placement.actors):  # nothing is measured yet: as many as may be
            self._workers.append(Worker())
            self._hire(self._workers[-1])
        stages = [stage for stage in (shards, then) if stage]
        for place, stage in enumerate(stages):
            self._waiting = deque(stage)
            self._later = sum(map(len, stages[place + 1 :]))
            self._staff()
            self._give_out()
            yield from self._receipts()

    def bare_items_per_s(self, shards: Sequence[int]) -> float | None:
        """What bare loops over these shards make in all actors at once, after `run`; None if that of one is unknown."""
        free = [worker for worker in self._workers if worker.node_id is not None]
        asked = [worker.actor.bare_loop.remote(shards[at % len(shards)]) for at, worker in enumerate(free)]
        try:
            measured = ray.get(asked, timeout=self._shard_deadline_s)
        except (*LOST, TimeoutError):
            return None
        rates = [items / seconds for items, seconds in measured if items]
        return sum(rates) if rates and len(rates) == len(measured) else None

    def _receipts(self) -> Iterator[Receipt]:
        looked_at_s = time.monotonic()
        while self._waiting or self._calls.has_shards:
            free: dict[Worker, None] = {}
            for call, errand in self._calls.answered(POLL_S):
                errand.worker.errands.remove(errand)
                receipt = self._settle(call, errand)
                free[errand.worker] = None
                if receipt is not None:
                    yield receipt
            self._give_out(free)  # at once, since every note in the ledger costs a transaction
            if (unseen_s := time.monotonic() - looked_at_s) >= POLL_S:
                self._end_stalled(unseen_s)
                self._journal.flush()
                looked_at_s = time.monotonic()
            if not self._waiting or time.monotonic() - self._staffed_at_s >= STAFF_S:
                self._staff()

    def _staff(self) -> None:
        """Let actors come and go, as `scaling` decides."""
        self._staffed_at_s = time.monotonic()
        room: int | None = None
        while True:
            left = len(self._waiting) + self._later
            now = situation(self._workers, self._calls.errands, self._least, self._most, self._pace, left)
            if room is None and now.waiting and now.working + now.coming < now.most:
                room = room_for(self._placement.device, now.working + now.coming)
            decision = decide(replace(now, room=room or 0))
            for worker in [one for one in self._workers if one.node_id is None][: decision.cancel]:
                if all(errand.suspect is None for errand in worker.errands):
                    self._forget(worker)
                    self._dismiss(worker)
            if not self._keep:
                for worker in [one for one in self._workers if one.node_id and not one.errands][: decision.release]:
                    self._dismiss(worker)
            for _ in range(decision.hire):
                self._workers.append(Worker())
                self._hire(self._workers[-1])
            if not decision.hire:
                return

    def _dismiss(self, worker: Worker) -> None:
        """Its place in the cluster is free, unless the engine keeps it warm for the next run."""
        self._workers.remove(worker)
        node_id, worker.node_id = worker.node_id, None  # it takes no shard any more
        if self._engine is not None and node_id is not None and not worker.errands:
            self._engine.keep(self._config, worker.actor, worker.name)
        elif worker.actor is not None:
            ray.kill(worker.actor, no_restart=True)

    def _forget(self, worker: Worker) -> None:
        """Whatever it answers is of no interest any more."""
        worker.errands.clear()
        self._calls.forget(worker)

    def _settle(self, call: "Future[Any]", errand: Errand) -> Receipt | None:
        try:
            answer = call.result()
        except LOST as error:
            self._lost(errand, self._ending(errand, error), reason_of(error))
            return None
        except RayTaskError as error:
            if isinstance(error.cause, WinnowError):
                raise error.cause from None
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise RunFailed(
                f"an actor failed: {type(cause).__name__}: {reason_of(cause)}",
                hint="what was committed stays; this is a defect: run again with --debug and report what it prints",
            ) from error
        if isinstance(answer, Opened):
            self._opened(errand, answer)
        elif errand.shard is None:
            raise RunFailed(f"an actor answered {answer!r} when it was opened")
        elif isinstance(answer, CareWanted):
            self._again(errand.shard, Ending.NEEDS_CARE, answer.reason)
            self._give_out()
        else:
            self._journal.ended(errand.shard)
            self._pace.ended(errand, time.monotonic())
        return answer if isinstance(answer, Receipt) else None

    def _opened(self, errand: Errand, answer: Opened) -> None:
        worker, now = errand.worker, time.monotonic()
        worker.node_id, worker.opens, worker.moved_at_s = answer.node_id, 0, now
        self._modules = answer.modules or self._modules
        if answer.last_words is None:
            self._pace.opened(errand, now)
        if errand.suspect is not None:
            words = answer.last_words
            self._again(errand.suspect, *((Ending.ENDED_ITSELF, words) if words else (Ending.DIED, "it said nothing")))

    def _give_out(self, workers: Iterable[Worker] | None = None) -> None:
        """Give waiting shards to those of the workers that have least to do; attempts are noted together, before."""
        given = [
            errand
            for depth in range(SHARDS_AT_ONCE)
            for worker in (self._workers if workers is None else workers)
            if len(worker.errands) == depth and (errand := self._next_for(worker)) is not None
        ]
        if given:
            self._journal.started([shard for errand in given if (shard := errand.shard) is not None])
        for errand in given:
            self._calls.begin(self._call(errand), errand)

    def _next_for(self, worker: Worker) -> Errand | None:
        """The next waiting shard, if a worker takes one: a shard that was lost before goes to a free one, alone.

        The last shards are not heaped on one worker while another has none.
        """
        depth = len(worker.errands)
        if worker.node_id is None or depth >= SHARDS_AT_ONCE or any(errand.alone for errand in worker.errands):
            return None
        if not self._waiting or (depth and len(self._waiting) < len(self._workers) - self._late):
            return None
        alone = self._past.get(self._waiting[0], ShardPast()) != ShardPast()
        if alone and depth:
            return None
        errand = Errand(worker, self._waiting.popleft(), time.monotonic(), alone)
        if not depth:
            worker.moved_at_s = errand.since_s
        worker.errands.append(errand)
        return errand

    def _call(self, errand: Errand) -> Any:
        past = ShardPast() if errand.shard is None else self._past.get(errand.shard, ShardPast())
        if next_attempt(past) is not Action.CAREFULLY:
            return errand.worker.actor.run_shard.remote(errand.shard)
        attempts = "attempt" if past.deaths == 1 else "attempts"
        why = f"{past.deaths} {attempts} did not end" if past.deaths else "memory ran out"
        self._say(f"shard {errand.shard}: {why}; image by image now, each in a process that may end")
        return errand.worker.actor.run_carefully.remote(errand.shard)

    def _hire(self, worker: Worker, *, suspect: int | None = None) -> None:
        """Have an actor open in this place; `suspect` is the shard that the one before it died at."""
        before, now = worker.name, time.monotonic()
        warm = None if self._engine is None or suspect is not None else self._engine.take(self._config)
        if warm is not None:
            worker.renew(*warm)
            reference = worker.actor.turn_to.remote(self._config)
        else:
            share = {"num_gpus": 1.0} if self._placement.device == "cuda" else {"num_cpus": 1.0}
            worker.renew(None)
            worker.actor = ShardActor.options(**share).remote(self._config, worker.name)
            after = (before, self._modules) if suspect is not None else ()
            reference = worker.actor.open.remote(*after)
        worker.asked, worker.asked_at_s = worker.actor.steps.remote(), now  # answered once it has its place
        worker.errands.append(Errand(worker, None, now, suspect=suspect))
        self._calls.begin(reference, worker.errands[-1])

    def _end_stalled(self, unseen_s: float) -> None:
        """End what loads its models for too long, or makes no step for as long as a shard's deadline.

        `unseen_s` is how long nobody looked: a driver that was stopped, or waited for, blames no actor for that time.
        """
        now = time.monotonic()
        if unseen_s > self._ask_s:
            for worker in self._workers:
                worker.moved_at_s = min(now, worker.moved_at_s + unseen_s)
        for worker in list(self._workers):
            if not worker.errands:
                continue
            errand = worker.errands[0]
            if errand.shard is None:
                self._look_at_opening(worker, errand, now)
                continue
            self._ask(worker, now)
            if now - worker.moved_at_s > self._shard_deadline_s:
                # a stopped process never answers, so nobody waits for its end; its commit would be one too many
                reason = f"no step within {self._shard_deadline_s:.0f} s (run.shard_deadline_s)"
                self._lost(errand, Ending.STALLED, reason)
        self._look_at_late(without_place(self._workers, now - PLACE_S))

    def _look_at_opening(self, worker: Worker, errand: Errand, now: float) -> None:
        if not worker.is_placed and ray.wait([worker.asked], timeout=0)[0]:
            worker.is_placed, worker.asked, worker.moved_at_s = True, None, now
            if now - errand.since_s > PLACE_S:
                errand.since_s = now  # what a node took to come is no time of opening
        if worker.is_placed and now - worker.moved_at_s > OPEN_DEADLINE_S:
            self._lost(errand, Ending.STALLED, f"models not loaded within {OPEN_DEADLINE_S:.0f} s")

    def _look_at_late(self, late: Sequence[Worker]) -> None:
        """What the cluster has no place for is waited for as far as actors are promised; not if there is no node."""
        if late:
            living_nodes()
        working = sum(worker.node_id is not None for worker in self._workers)
        for worker in late:
            suspect = worker.errands[0].suspect
            # a shard that is kept for the answer of its actor's successor would be kept for ever
            if working >= self._least or (working and suspect is not None):
                self._forget(worker)
                self._dismiss(worker)
                if suspect is not None:
                    self._again(suspect, Ending.DIED, "its successor found no place in the cluster")
                    self._give_out()
        self._late = sum(bool(worker.errands) for worker in late)
        if self._late and not self._is_patient:
            self._is_patient = True
            self._say(
                f"the Ray cluster has had no place for {self._late} of {len(self._workers)} actors for "
                f"{PLACE_S:.0f} s; they join when there is one (winnow doctor SPEC shows what the cluster has)"
            )

    def _ask(self, worker: Worker, now: float) -> None:
        if worker.asked is None:
            if now - worker.asked_at_s >= self._ask_s:
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

    def _ending(self, errand: Errand, error: Exception) -> Ending:
        node_id, alive = errand.worker.node_id, living_nodes()
        if node_id is not None and node_id not in alive:
            return Ending.NODE_LOST
        # an actor ends a second after its raylet, which nobody then reports; that the node is gone is known much later
        is_silent = errand.shard is not None and isinstance(error, ActorUnavailableError)
        return Ending.UNREACHABLE if is_silent else Ending.DIED

    def _lost(self, errand: Errand, ending: Ending, reason: str) -> None:
        worker = errand.worker
        if errand.shard is None and ending not in OF_THE_NODE and worker.opens >= OPEN_ATTEMPTS:
            raise RayError(
                f"an actor died {OPEN_ATTEMPTS} times while it loaded its models: {reason}",
                hint="see winnow doctor SPEC; free memory helps",
            )
        ray.kill(worker.actor, no_restart=True)  # it may be unreachable only, and would keep its share of the node
        worker.node_id = worker.asked = None
        others = [other for other in worker.errands if other is not errand]
        self._forget(worker)
        # the shard that came first had the models: one death is one shard's
        lost = sorted([errand, *others], key=lambda one: one.since_s)
        first = lost[0].shard if lost[0].suspect is None else lost[0].suspect
        for one in reversed(lost[1:]):
            if one.shard is not None:
                self._again(one.shard, Ending.BESIDE, reason)
        # whether it ended itself is asked the first time only: after that the shard gets its care anyhow
        asks = ending is Ending.DIED and first is not None and lost[0].shard == first and not self._deaths(first)
        if first is not None and not asks:
            self._again(first, ending, reason)
        self._give_out()
        if asks:
            self._hire(worker, suspect=first)
        elif self._waiting and ending not in OF_THE_NODE:
            self._hire(worker)
        else:
            self._workers.remove(worker)
            self._staff()

    def _deaths(self, shard: int) -> int:
        return self._past.get(shard, ShardPast()).deaths

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
