"""Are a run's shards sound, each there once, and nothing else among them? Read eight at a time, then forgotten."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from winnow_jobs.events import Listener, Progress
from winnow_jobs.runs import PlanDocument, plan_key
from winnow_jobs.verify.findings import Finding
from winnow_jobs.verify.plan import EDITED, REMOVED, RESTORE, ShardWork, check_work
from winnow_jobs.verify.routes import Predictions
from winnow_jobs.verify.rows import Expected
from winnow_jobs.verify.shard import REWRITTEN, ShardCheck, check_shard
from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.shards import Receipt, ranges, results_prefix, shard_key

THREADS = 8  # shards that are read at once; each stands in memory while it is checked
OTHER_PLAN = "it was committed for another plan that had this run's number, or plan.json was changed half way"
STRANGER = "it was put here by hand, or by another program"
ASIDE = "move it out of the results folder: a glob over the results reads every Parquet object in it"


@dataclass(slots=True)
class Results:
    """What came of checking a run's shards, and what their receipts add up to."""

    shards: int = 0  # objects that are a shard of the plan, sound or not
    missing: list[int] = field(default_factory=list)  # of those that count
    late: int = 0  # committed after the run was abandoned: they do not count, and are not looked into
    sound: bool = True  # all that stand; whether one is missing is another question
    rows: int = 0
    copied: int = 0
    unproved: int = 0  # copies whose leader's row is not there any more
    replaced: int = 0  # rows of another version than was listed
    bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    predictions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    usable: Predictions = field(default_factory=Predictions)
    findings: list[Finding] = field(default_factory=list)

    def add(self, receipt: Receipt) -> None:
        """Count what a receipt says."""
        self.rows += sum(receipt.outcomes.values())
        self.copied += receipt.copied
        self.bytes += receipt.bytes
        self.outcomes.update(receipt.outcomes)
        self.predictions.update(receipt.predictions)
        self.errors.update(receipt.errors)


def check_results(
    store: BlobStore,
    plan: PlanDocument,
    plan_digest: str,
    listener: Listener,
    *,
    is_open: bool,
    sealed: Collection[int] | None,
) -> Results:
    """Check everything below a run's results; `plan_digest` is that of plan.json as it stands.

    `sealed` are the shards that count; None for all of the plan.

    Raises:
        StoreDenied, StoreUnavailable: the store does not answer.
    """
    found = Results()
    standing = _list(store, plan, found)
    counting = range(plan.shards) if sealed is None else sealed
    found.missing = [shard for shard in sorted(counting) if shard not in standing]
    found.late = len(standing.keys() - set(counting))
    standing = {shard: info for shard, info in standing.items() if shard in counting}
    redo = _redo(plan, is_open=is_open)
    of_other_plans: list[int] = []
    types: tuple[str, ...] = ()
    if plan.shards:
        listener(Progress(0, plan.items, 0, plan.shards, 0, {}))  # rates are told from here on
    for one in _checked(store, plan, standing, found):
        found.shards += 1
        problems = list(one.problems)
        if one.receipt is not None:
            found.add(one.receipt)
            if one.receipt.plan_digest != plan_digest:
                of_other_plans.append(one.shard)
        if not problems:
            types = types or one.types
            if one.types != types:
                problems.append(("its columns have other types than those of the shards before it", REWRITTEN))
        found.unproved += one.unproved
        found.replaced += one.replaced
        for usable in one.usable:
            found.usable.add(usable)
        key = shard_key(plan.run_id, one.shard)
        found.findings += [Finding(key, what, cause, redo) for what, cause in problems]
        found.sound = found.sound and not problems
        listener(Progress(found.rows, plan.items, found.shards, plan.shards, found.rows, dict(found.outcomes)))
    found.findings += _other_plans(plan, plan_digest, of_other_plans, found.shards, redo)
    return found


def missing_shards(plan: PlanDocument, results: Results) -> Iterator[Finding]:
    """That a closed run lacks shards, stretch by stretch."""
    for first, last in ranges(results.missing):
        what = "it is not there" if first == last else f"it is not there, nor are the others up to shard {last}"
        again = "restore it from a backup; else the next winnow run takes its items again"
        yield Finding(shard_key(plan.run_id, first), f"{what}, although the run is closed", REMOVED, again)


def _list(store: BlobStore, plan: PlanDocument, found: Results) -> dict[int, BlobInfo]:
    prefix, standing = results_prefix(plan.run_id), {}
    for info in store.walk(prefix):
        name = info.key.removeprefix(prefix)
        if not name or (name.endswith("/") and info.bytes == 0):
            continue  # what some tools put on S3 to show a folder
        number = re.fullmatch(r"(\d{8})\.parquet", name)
        if number is None:
            found.findings.append(Finding(info.key, "it is no shard of the run", STRANGER, ASIDE))
        elif int(number[1]) >= plan.shards:
            what = f"it is no shard of the run: the plan has {plan.shards}, counted from 0"
            found.findings.append(Finding(info.key, what, STRANGER, ASIDE))
        else:
            standing[int(number[1])] = info
    return standing


def _checked(
    store: BlobStore, plan: PlanDocument, standing: dict[int, BlobInfo], found: Results
) -> Iterator[ShardCheck]:
    models = {task.name: task.model.digest for task in plan.tasks()}

    def check(work: ShardWork) -> ShardCheck:
        expected = Expected(plan.run_id, work.shard, plan.spec.job, models, work.rows)
        return check_shard(store, standing[work.shard], expected)

    def due() -> Iterator[ShardWork]:
        for work in check_work(store, plan):
            found.findings += work.findings
            if work.shard in standing:
                yield work

    with ThreadPoolExecutor(THREADS) as pool:
        yield from mapped_ahead(pool, check, due(), ahead=THREADS)


def _other_plans(plan: PlanDocument, digest: str, shards: list[int], committed: int, redo: str) -> Iterator[Finding]:
    if shards and len(shards) == committed:
        what = f"its digest is {digest[:16]}..., which no receipt of the run's shards carries"
        yield Finding(plan_key(plan.run_id), what, EDITED, RESTORE)
        return
    for shard in shards:
        yield Finding(shard_key(plan.run_id, shard), "its receipt carries the digest of another plan", OTHER_PLAN, redo)


def _redo(plan: PlanDocument, *, is_open: bool) -> str:
    if is_open:
        return f"move it out of the results folder; then winnow resume {plan.run_id} works through that shard again"
    return "restore it from a backup; else move it out of the results folder, and the next winnow run takes its items"
