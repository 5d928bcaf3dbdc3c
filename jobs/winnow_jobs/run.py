"""How does a run get from its plan to its summary? Drive the open shards, add up their receipts, route, close."""

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from winnow_jobs.attempts import LedgerJournal
from winnow_jobs.engine import Engine
from winnow_jobs.events import Listener, Note, Progress
from winnow_jobs.options import Options
from winnow_jobs.profile import profiled, steady_rate
from winnow_jobs.resolved import CODE_VERSION, ResolvedSpec
from winnow_jobs.retry import systemic_error
from winnow_jobs.review import route_run
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.errors import RunFailed, StoreError
from winnow_storage.ledger import Ledger
from winnow_storage.schemas import Outcome
from winnow_storage.shards import Receipt, read_seal
from winnow_workers.pipeline import WorkerConfig

if TYPE_CHECKING:
    from winnow_jobs.cluster import Placement
    from winnow_jobs.executor import ShardExecutor

ABANDONED = "abandoned"
ABANDONED_LOOK_S = 60.0  # how often a driver looks whether another one abandoned its run, at most


@dataclass(slots=True)
class Tally:
    """What a run's receipts add up to so far."""

    shards: int = 0
    items: int = 0
    items_now: int = 0
    copied: int = 0
    from_vectors: int = 0
    bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    predictions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    faults_now: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    seconds_now: dict[str, float] = field(default_factory=dict)
    committed_at_s: list[tuple[float, int]] = field(default_factory=list)  # when this driver saw it, and its items
    profile: dict[str, Any] | None = None

    def add(self, receipt: Receipt, *, now: bool) -> None:
        """Count one committed shard; `now` if this driver saw it committed."""
        count = sum(receipt.outcomes.values())
        self.shards += 1
        self.items += count
        self.items_now += count if now else 0
        self.copied += receipt.copied
        self.from_vectors += receipt.from_vectors
        self.bytes += receipt.bytes
        self.outcomes.update(receipt.outcomes)
        self.predictions.update(receipt.predictions)
        self.errors.update(receipt.errors)
        for stage, value in receipt.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value
            self.seconds_now[stage] = self.seconds_now.get(stage, 0.0) + (value if now else 0.0)
        if now:
            self.faults_now.update(receipt.faults)
            self.committed_at_s.append((time.monotonic(), count))

    def compare(self, bare_items_per_s: float | None, *, actors: int) -> None:
        """Hold what this driver saw against the bare loops of its actors."""
        rate = steady_rate(self.committed_at_s, actors=actors)
        self.profile = profiled(self.seconds_now, items_per_s=rate, bare_items_per_s=bare_items_per_s)

    def progress(self, plan: PlanDocument) -> Progress:
        """As an event."""
        return Progress(self.items, plan.items, self.shards, plan.shards, self.items_now, dict(self.outcomes))


def work_through(
    runs: Runs,
    plan: PlanDocument,
    spec: ResolvedSpec,
    ledger: Ledger,
    listener: Listener,
    options: Options,
    *,
    engine: Engine,
) -> tuple[Tally, float]:
    """Commit every open shard of a run; what all its receipts add up to, and the seconds that this driver took.

    `spec` is today's: it says how the work is done, the plan says what it is. `engine` has the actors.

    Raises:
        RunFailed, RayError, StoreError, ModelError: the work cannot go on, or another driver abandoned the run;
            committed shards stay.
    """
    start = looked_at_s = time.monotonic()
    stop_if_abandoned(runs, plan)
    tally, missing = take_stock(runs, plan)
    copies = sum(shard < plan.first_copy_shard for shard in missing)  # where they begin
    listener(tally.progress(plan))
    if missing:
        placement = _placement(engine, spec, len(missing))
        plural = "" if placement.actors == 1 else "s"
        listener(Note(f"{placement.actors} actor{plural} on {placement.device}, loading models"))
        journal = LedgerJournal(ledger, runs.store.root.uri, plan.run_id, listener)
        config = _worker_config(plan, spec, actors=placement.actors, conditional_puts=runs.store.conditional_puts)
        with (
            closing(journal),
            _executor(config, placement, spec, journal, listener, engine, keep=options.profile) as executor,
        ):
            for receipt in executor.run(missing[:copies], journal.past(), then=missing[copies:]):
                tally.add(receipt, now=True)
                listener(tally.progress(plan))
                stop_if_systemic(plan.run_id, tally)
                if time.monotonic() - looked_at_s >= ABANDONED_LOOK_S:
                    stop_if_abandoned(runs, plan)
                    looked_at_s = time.monotonic()
            if options.profile:
                listener(Note("timing a bare loop over some of the same images"))
                tally.compare(executor.bare_items_per_s(missing), actors=placement.actors)
    return tally, time.monotonic() - start


def take_stock(runs: Runs, plan: PlanDocument) -> tuple[Tally, list[int]]:
    """What the receipts of a run add up to so far, and the shards that have none, in order.

    Raises:
        StoreError: an object among the results is not a shard.
    """
    tally = Tally()
    standing: set[int] = set()
    for shard, receipt in runs.receipts(plan.run_id):
        standing.add(shard)
        tally.add(receipt, now=False)
    return tally, [shard for shard in range(plan.shards) if shard not in standing]


def _placement(engine: Engine, spec: ResolvedSpec, shards: int) -> "Placement":
    placement = engine.cluster().placement(spec.run, shards)
    if spec.corpus.max_requests_per_s is None and spec.corpus.max_bytes_per_s is None:
        return placement
    actors = placement.actors  # each has its share of what the store allows, so no more may come
    least = actors if placement.least is None else min(placement.least, actors)
    return replace(placement, least=least, most=actors)


def _executor(
    config: WorkerConfig,
    placement: "Placement",
    spec: ResolvedSpec,
    journal: LedgerJournal,
    listener: Listener,
    engine: Engine,
    *,
    keep: bool,
) -> "ShardExecutor":
    from winnow_jobs.executor import ShardExecutor

    def warn(text: str) -> None:
        listener(Note(text, warning=True))

    return ShardExecutor(
        config,
        placement,
        shard_deadline_s=spec.run.shard_deadline_s,
        journal=journal,
        say=warn,
        engine=engine if engine.is_shared else None,
        keep=keep,
    )


def stop_if_systemic(run_id: str, tally: Tally) -> None:
    """Raises RunFailed if one error hit too many of the images that this driver saw to be theirs."""
    found = systemic_error(tally.faults_now, tally.items_now)
    if found is None:
        return
    outcome = found.error.partition(":")[0]
    again = f"when it is closed, winnow run SPEC --retry {outcome}  takes the images again that ended so"
    if outcome == Outcome.UNAVAILABLE:
        again = "the images that could not be fetched are taken again by the run after it"
    raise RunFailed(
        f"run {run_id} was stopped: {found.items} of the {found.seen} images seen ended the same way, which is "
        f"not the images' fault: {found.error}",
        hint=f"mend the cause, then the same command goes on with this run; {again}",
    )


def _worker_config(
    plan: PlanDocument, spec: ResolvedSpec, *, actors: int, conditional_puts: bool = True
) -> WorkerConfig:
    requests, size_bytes = spec.corpus.max_requests_per_s, spec.corpus.max_bytes_per_s
    return WorkerConfig(
        job=plan.spec.job,
        run_id=plan.run_id,
        plan_digest=plan.digest,
        output=plan.spec.output,
        conditional_puts=conditional_puts,
        work=plan.work,
        code_version=CODE_VERSION,
        tasks=tuple(task.config() for task in plan.tasks()),
        limits=plan.spec.limits,
        decode=plan.spec.decode,
        item_deadline_s=spec.run.item_deadline_s,
        item_memory_bytes=spec.run.item_memory_bytes,
        max_requests_per_s=None if requests is None else requests / actors,
        max_bytes_per_s=None if size_bytes is None else size_bytes / actors,
    )


def finish(runs: Runs, plan: PlanDocument, tally: Tally, seconds: float) -> dict[str, Any]:
    """Route the run's predictions and close it; the summary that stands in the bucket.

    Raises:
        StoreError: the receipts do not add up to the plan.
        RunFailed: another driver abandoned the run meanwhile.
    """
    if tally.shards != plan.shards or tally.items != plan.items:
        raise StoreError(
            f"run {plan.run_id}: {tally.shards} shards with {tally.items} rows are committed, "
            f"but the plan has {plan.shards} shards with {plan.items} items",
            hint="do not close this run; look for objects that were removed from its results folder",
        )
    review = route_run(runs.store, plan)
    stop_if_abandoned(runs, plan)
    names = [task.name for task in plan.tasks()]
    done = tally.outcomes.get("done", 0)
    summary = {
        "run_id": plan.run_id,
        "job": plan.spec.job,
        "state": "done" if done == plan.items else "partial",
        "items": plan.items,
        "copied": tally.copied,
        "from_vectors": tally.from_vectors,
        "outcomes": {str(name): tally.outcomes.get(name, 0) for name in Outcome},
        "shards": plan.shards,
        "predictions": {name: tally.predictions.get(name, 0) for name in names},
        "errors": {name: tally.errors.get(name, 0) for name in names},
        "review": review,
        "bytes": tally.bytes,
        "seconds": round(seconds, 3),
        "items_per_s": round(tally.items_now / seconds, 3) if seconds > 0 else 0.0,
        "stage_seconds": {name: round(value, 3) for name, value in sorted(tally.seconds.items())},
    }
    if tally.profile is not None:
        summary["profile"] = tally.profile
    standing = runs.close(plan.run_id, summary)
    if standing["state"] == ABANDONED:
        raise _abandoned(plan)
    return standing


def stop_if_abandoned(runs: Runs, plan: PlanDocument) -> None:
    """Raises RunFailed if another driver abandoned the run, or began to; it is closed then."""
    if is_abandoned(runs, plan):
        abandon(runs, plan)
        raise _abandoned(plan)


def abandon(runs: Runs, plan: PlanDocument) -> None:
    """Close a run with what is committed now: that is final, so it is routed; what comes later does not count."""
    route_run(runs.store, plan)
    runs.close(plan.run_id, {"run_id": plan.run_id, "job": plan.spec.job, "state": ABANDONED})


def is_abandoned(runs: Runs, plan: PlanDocument) -> bool:
    """Whether a driver began to abandon the run, and sealed it, while shards were open."""
    sealed = read_seal(runs.store, plan.run_id)
    return sealed is not None and len(sealed) < plan.shards


def _abandoned(plan: PlanDocument) -> RunFailed:
    return RunFailed(
        f"run {plan.run_id} was abandoned by another driver (winnow run --new) while this one worked on it",
        hint="what was committed until then counts; winnow status SPEC shows the run that took over",
    )
