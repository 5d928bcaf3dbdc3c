"""Has every usable prediction of a run exactly one route? Two multisets compared in memory of a fixed size.

Predictions and routes are counted into buckets by their digest; only where a bucket's counts or sums part are both
sides read again, to name those that part. Routes of predictions of earlier runs are held against what the run before
left to this one, and what this run leaves against its routes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from winnow_jobs.held import held_key, left_by_the_run_before, read_held
from winnow_jobs.routes import (
    FIRST_ROUND,
    TO_PEOPLE,
    Counts,
    iter_routes,
    nested,
    own_routes,
    question_key,
    routes_key,
)
from winnow_jobs.runs import PlanDocument
from winnow_jobs.verify.findings import Finding, Wrong, named
from winnow_jobs.verify.shard import Usable, usable_of
from winnow_storage.blobs import BlobStore
from winnow_storage.dataset import iter_results
from winnow_storage.errors import BlobMissing, StoreDenied, StoreError, StoreUnavailable
from winnow_storage.schemas import Route

BUCKETS = 4096
BUCKETS_NAMED = 4  # so many buckets that part are read again, to give examples

DAMAGED = "the object was cut off, damaged or replaced after the run was routed"
REPLACED = "the object was written again after the run was routed, not by Winnow"
RESTORE = "restore it from a backup; what people were asked is in Label Studio, and their answers in labels/"
Earlier = tuple[str, str, str, str]  # item_id, version, task, and the run that predicted it


@dataclass(slots=True)
class Predictions:
    """A multiset of predictions, as counts and sums of digests in buckets."""

    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    sums: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def add(self, usable: Usable) -> None:
        """One more."""
        digest = _digest(usable)
        self.counts[digest % BUCKETS] += 1
        self.sums[digest % BUCKETS] += digest

    def parting(self, other: "Predictions") -> list[int]:
        """The buckets that are not the same."""
        ours, theirs = zip(self.counts, self.sums, strict=True), zip(other.counts, other.sums, strict=True)
        return [place for place, (one, two) in enumerate(zip(ours, theirs, strict=True)) if one != two]


@dataclass(frozen=True, slots=True)
class RoutesCheck:
    """What came of checking a run's routes; None for counts where they cannot be read."""

    findings: tuple[Finding, ...]
    counts: Counts | None
    unrouted: int = 0


def check_routes(
    store: BlobStore, plan: PlanDocument, predictions: Predictions | None, *, may_lack: bool = False
) -> RoutesCheck:
    """Check the routes of a run against its predictions, or only by themselves where those are not sound.

    `may_lack` says that predictions without a route are no finding: a worker may commit after its run was abandoned.
    """
    key = routes_key(plan.run_id)
    routed, wrong, counts = Predictions(), Wrong(), Counter[tuple[str, str]]()
    held = _Held(store, plan)
    operators = {task.name: task.kind for task in plan.tasks()}
    try:
        for batch in iter_routes(store, plan.run_id):
            for row in batch.to_pylist():
                counts[row["task"], row["route"]] += 1
                held.see(row)
                if row.get("predicted_run") is None:
                    routed.add((row["item_id"], row["version"], row["task"]))
                for what in _contradictions(row, plan, operators):
                    wrong.add(what, row["key"])
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, BlobMissing) as error:  # neighbours are JSON
        what = f"it cannot be read: {type(error).__name__}: {error}"
        return RoutesCheck((Finding(key, what, DAMAGED, RESTORE),), None)
    findings = [Finding(key, what, REPLACED, RESTORE) for what in wrong.sentences()]
    findings += held.findings()
    unrouted = 0
    if predictions is not None and (buckets := predictions.parting(routed)):
        unrouted = sum(predictions.counts) - sum(routed.counts)
        # those with the fewest unrouted first: what a run may lack must not hide what is too much
        buckets.sort(key=lambda place: predictions.counts[place] - routed.counts[place])
        parted = _name(store, plan, buckets[:BUCKETS_NAMED], may_lack=may_lack)
        findings += [Finding(key, what, REPLACED, RESTORE) for what in parted]
    return RoutesCheck(tuple(findings), nested(counts), unrouted)


class _Held:
    """What competes again: the run's routes of earlier predictions, and what it leaves to the next run."""

    def __init__(self, store: BlobStore, plan: PlanDocument) -> None:
        self._plan = plan
        self._wrong, self._left_wrong = Wrong(), Wrong()
        self._again: Counter[Earlier] = Counter()
        self._offered: Counter[Earlier] | None = None
        self._damage: list[Finding] = []
        try:
            self._offered = Counter(map(_earlier, left_by_the_run_before(store, plan.run_id)[0].to_pylist()))
        except (StoreDenied, StoreUnavailable):
            raise
        except StoreError:
            pass  # it is a finding of that run
        self._left: set[Earlier] = set()
        try:
            self._left = set(map(_earlier, read_held(store, plan.run_id)[0].to_pylist()))
        except (StoreDenied, StoreUnavailable):
            raise
        except StoreError as error:
            self._damage.append(Finding(held_key(plan.run_id), error.message, DAMAGED, error.hint or RESTORE))

    def see(self, row: dict[str, Any]) -> None:
        """One of the run's routes."""
        run_id = row.get("predicted_run") or self._plan.run_id
        one = (row["item_id"], row["version"], row["task"], run_id)
        if run_id != self._plan.run_id:
            self._again[one] += 1
            if self._offered is not None and self._again[one] > self._offered[one]:
                self._wrong.add("routes of earlier predictions that were not left to it, or twice", row["key"])
        if one in self._left and row["route"] in (Route.ACCEPT, *TO_PEOPLE):
            self._left_wrong.add("predictions that compete again and were not held", row["key"])

    def findings(self) -> list[Finding]:
        """What is wrong with them."""
        key, left_key = routes_key(self._plan.run_id), held_key(self._plan.run_id)
        found = [Finding(key, what, REPLACED, RESTORE) for what in self._wrong.sentences()]
        return (
            found + [Finding(left_key, what, REPLACED, RESTORE) for what in self._left_wrong.sentences()] + self._damage
        )


def _earlier(row: dict[str, Any]) -> Earlier:
    return row["item_id"], row["version"], row["task"], row["run_id"]


def _contradictions(row: dict[str, Any], plan: PlanDocument, operators: dict[str, str]) -> Iterator[str]:
    if (row["run_id"], row["job"]) != (plan.run_id, plan.spec.job):
        yield "routes that name another run or job"
    if row["route"] not in tuple(Route):
        yield f"routes {row['route']!r}, which is none"
    if row["operator"] != operators.get(row["task"]):
        yield "routes of a task that the run does not have, or of another operator"
    if row["route"] not in TO_PEOPLE:
        if row["dedupe_key"] is not None:
            yield "routes that go to nobody and have a dedupe_key"
        return
    round_number = FIRST_ROUND if row["round"] is None else row["round"]
    if row["dedupe_key"] != question_key(row, purpose=row["route"], round_number=round_number):
        yield "routes to people with a dedupe_key that is not theirs"
    if row["prediction"] is None:
        yield "routes to people without the prediction"


def _name(store: BlobStore, plan: PlanDocument, buckets: Iterable[int], *, may_lack: bool) -> Iterator[str]:
    """What parts, by reading both sides again and keeping what falls into these buckets."""
    chosen = set(buckets)
    predictions = Counter(one for one in _predictions(store, plan) if _digest(one) % BUCKETS in chosen)
    routes = Counter(one for one in _routed(store, plan) if _digest(one) % BUCKETS in chosen)
    if (lacking := _names(predictions - routes)) and not may_lack:
        yield f"predictions without their route, such as {lacking}"
    if surplus := _names(routes - predictions):
        yield f"routes of no prediction, or the second of one, such as {surplus}"


def _names(usable: Counter[Usable]) -> str:
    return named([f"{task} of {item}" for item, _, task in usable.elements()])


def _predictions(store: BlobStore, plan: PlanDocument) -> Iterator[Usable]:
    tasks = tuple(task.name for task in plan.tasks())
    for _, rows in iter_results(store, plan.run_id, ["item_id", "version", *(f"{task}.error" for task in tasks)]):
        yield from usable_of(rows, tasks)


def _routed(store: BlobStore, plan: PlanDocument) -> Iterator[Usable]:
    for batch in map(own_routes, iter_routes(store, plan.run_id)):
        columns = (batch.column(name).to_pylist() for name in ("item_id", "version", "task"))
        yield from zip(*columns, strict=True)


def _digest(usable: Usable) -> int:
    return int.from_bytes(blake2b("\0".join(usable).encode(), digest_size=8).digest(), "big")
