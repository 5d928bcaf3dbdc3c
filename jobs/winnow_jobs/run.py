"""How does a run get from its plan to its summary? Drive the open shards, add up their receipts, route, close."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from winnow_jobs.events import Listener, Note, Progress
from winnow_jobs.resolved import CODE_VERSION
from winnow_jobs.review import route_run
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.spec import ExecutionSpec
from winnow_storage.errors import RunFailed, StoreError
from winnow_storage.schemas import Outcome
from winnow_storage.shards import Receipt, committed_shards, read_receipt, shard_key
from winnow_workers.pipeline import WorkerConfig


@dataclass(slots=True)
class Tally:
    """What a run's receipts add up to so far."""

    shards: int = 0
    items: int = 0
    items_now: int = 0
    bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    predictions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, receipt: Receipt, *, now: bool) -> None:
        """Count one committed shard; `now` if this driver saw it committed."""
        count = sum(receipt.outcomes.values())
        self.shards += 1
        self.items += count
        self.items_now += count if now else 0
        self.bytes += receipt.bytes
        self.outcomes.update(receipt.outcomes)
        self.predictions.update(receipt.predictions)
        self.errors.update(receipt.errors)
        for stage, value in receipt.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + value

    def progress(self, plan: PlanDocument) -> Progress:
        """As an event."""
        return Progress(self.items, plan.items, self.shards, plan.shards, self.items_now, dict(self.outcomes))


def work_through(
    runs: Runs, plan: PlanDocument, execution: ExecutionSpec, listener: Listener, *, debug: bool = False
) -> tuple[Tally, float]:
    """Commit every open shard of a run; what all its receipts add up to, and the seconds that this driver took.

    Raises:
        RunFailed, RayError, StoreError, ModelError: the work cannot go on; committed shards stay.
    """
    start = time.monotonic()
    tally = Tally()
    standing = committed_shards(runs.store, plan.run_id)
    for shard in sorted(standing):
        tally.add(read_receipt(runs.store, shard_key(plan.run_id, shard)), now=False)
    missing = [shard for shard in range(plan.shards) if shard not in standing]
    listener(tally.progress(plan))
    if missing:
        from winnow_jobs.executor import Cluster, ShardExecutor  # Ray costs a second to import

        with Cluster(debug=debug) as cluster:
            placement = cluster.placement(execution, len(missing))
            plural = "" if placement.actors == 1 else "s"
            listener(Note(f"{placement.actors} actor{plural} on {placement.device}, loading models"))
            with ShardExecutor(_worker_config(plan), placement) as executor:
                executor.open()
                for receipt in executor.run(missing):
                    tally.add(receipt, now=True)
                    listener(tally.progress(plan))
    return tally, time.monotonic() - start


def _worker_config(plan: PlanDocument) -> WorkerConfig:
    spec = plan.spec
    return WorkerConfig(
        job=spec.job,
        run_id=plan.run_id,
        plan_digest=plan.digest,
        output=spec.output,
        work_key=plan.work_key,
        code_version=CODE_VERSION,
        tasks=tuple(task.config() for task in plan.tasks()),
        limits=spec.limits,
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
    names = [task.name for task in plan.tasks()]
    done = tally.outcomes.get("done", 0)
    summary = {
        "run_id": plan.run_id,
        "job": plan.spec.job,
        "state": "done" if done == plan.items else "partial",
        "items": plan.items,
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
    standing = runs.close(plan.run_id, summary)
    if standing["state"] == "abandoned":
        raise RunFailed(
            f"run {plan.run_id} was abandoned by another driver (winnow run --new) while this one worked on it",
            hint="its committed rows count; winnow status SPEC shows the run that took over",
        )
    return standing
