"""What did the runs make of an item? Of each run that took it: the shard, its row, and what was decided about it.

A prediction that was held over a budget competes again in later runs, whose routes have it with its `predicted_run`.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from winnow_jobs.explain.finding import planned
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.routes import routes_of_item
from winnow_jobs.runs import REQUEST_THREADS, PlanDocument
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import StoreDenied, StoreError, StoreUnavailable
from winnow_storage.parquet_rows import find_rows
from winnow_storage.schemas import PREDICTION_COMMON, RESULT_COMMON, Route
from winnow_storage.shards import read_receipt, shard_key

# of a struct what people are told, and what rules look at; not what is large, such as vectors and the pixels of masks
SHOWN = {
    "classify": ("label", "labels", "path", "top", "margin", "entropy"),
    "detect": tuple(f"boxes.list.element.{name}" for name in ("label", "score", "is_output")),
    "segment": tuple(f"masks.list.element.{name}" for name in ("label", "score", "is_output")),
    "ocr": ("full_text",),
    "anomaly": ("is_anomalous",),
}


@dataclass(frozen=True, slots=True)
class Ran:
    """One run that took the item. `row` is empty while its shard is not committed; `routes` by task.

    `damaged`: what of the run cannot be read, and what to do. `vectors`: of which run's row the vector of a task was
    taken, where the item's image was not fetched.
    """

    plan: PlanDocument
    tasks: tuple[str, ...]  # that were due for it
    shard: int | None  # None where its work cannot be read
    object: str | None
    row: dict[str, Any]
    table: pa.Table | None
    routes: dict[str, dict[str, Any]]
    code_version: str | None = None
    attempt: str | None = None
    damaged: tuple[str, ...] = ()
    vectors: Mapping[str, str] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """Of the run."""
        return self.plan.run_id

    def has_prediction(self, task: str) -> bool:
        """Whether its row has a usable prediction of the task."""
        struct = self.row.get(task)
        return struct is not None and struct.get("model") is not None and struct.get("error") is None

    def task(self, name: str) -> ResolvedTask:
        """As the run performed it."""
        return self.plan.spec.task(name)


def runs_with(store: BlobStore, plans: Sequence[PlanDocument], key: str) -> list[Ran]:
    """The runs that took the item of this key, oldest first.

    Raises:
        StoreDenied, StoreUnavailable: the store does not answer.
    """
    with ThreadPoolExecutor(REQUEST_THREADS) as pool:
        found = pool.map(lambda plan: _ran(store, plan, key), plans)
        return [one for one in found if one is not None]


def routes_by_run(
    store: BlobStore, plans: Sequence[PlanDocument], ran: Sequence[Ran], key: str
) -> tuple[list[dict[str, Any]], list[str]]:
    """Every route of the item, oldest run first: of runs that took it, and of those in which what was held competed
    again; and what of these cannot be read.

    Raises:
        StoreDenied, StoreUnavailable: the store does not answer.
    """
    took = {one.run_id: list(one.routes.values()) for one in ran}
    held = [int(one.run_id) for one in ran for row in one.routes.values() if row["route"] == Route.HOLD]
    others = [plan for plan in plans if held and plan.run_id not in took and int(plan.run_id) > min(held)]
    damaged: list[str] = []

    def read(plan: PlanDocument) -> list[dict[str, Any]]:
        try:
            return routes_of_item(store, plan.run_id, key)
        except StoreError as error:
            damaged.append(_said(error))
            return []

    with ThreadPoolExecutor(REQUEST_THREADS) as pool:
        took |= dict(zip((plan.run_id for plan in others), pool.map(read, others), strict=True))
    return [row for run_id in sorted(took, key=int) for row in took[run_id]], damaged


def _ran(store: BlobStore, plan: PlanDocument, key: str) -> Ran | None:
    damaged: list[str] = []
    try:
        work = planned(store, plan, key)
    except StoreError as error:
        return Ran(plan, (), None, None, {}, None, {}, damaged=(_said(error),))
    if work is None:
        return None
    name = shard_key(plan.run_id, work["shard"])
    row: dict[str, Any] = {}
    table = receipt = None
    routes: list[dict[str, Any]] = []
    try:
        info = store.info(name)
        if info is not None:
            receipt = read_receipt(store, name, size_bytes=info.bytes)
            table = find_rows(store, info, "key", key, _columns(plan))
            row = next(iter(table.to_pylist()), {})
            if not row:
                damaged.append(f"{store.root}/{name} has no row of this item; next: winnow verify {plan.run_id}")
    except StoreError as error:
        damaged.append(_said(error))
    try:
        routes = routes_of_item(store, plan.run_id, key)
    except StoreError as error:
        damaged.append(_said(error))
    return Ran(
        plan,
        tuple(work["tasks"]),
        work["shard"],
        name,
        row,
        table if row else None,
        {one["task"]: one for one in routes},
        None if receipt is None else receipt.code_version,
        None if receipt is None else receipt.attempt,
        tuple(damaged),
        {one["task"]: one["run_id"] for one in work.get("vectors") or ()},
    )


def _columns(plan: PlanDocument) -> list[str]:
    common = [field.name for field in PREDICTION_COMMON]
    own = [f"{task.name}.{name}" for task in plan.tasks() for name in (*common, *SHOWN.get(task.kind, ()))]
    return [*RESULT_COMMON.names, *own]


def _said(error: StoreError) -> str:
    if isinstance(error, StoreDenied | StoreUnavailable):
        raise error
    return error.message if error.hint is None else f"{error.message}; next: {error.hint}"
