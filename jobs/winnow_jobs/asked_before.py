"""About which items were people asked because of earlier runs? So that a head that predicts again asks about others.

A head is learned, and decides about every item, again and again. Of other tasks nothing is read: a night must not cost
as much as all nights before it.
"""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.routes import iter_sent
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import BlobStore

Asked = Mapping[str, pa.StringArray]  # by task, items and versions


def asked_before(store: BlobStore, plan: PlanDocument) -> Asked:
    """Of the tasks with heads, what runs before this one sent to people.

    Raises:
        StoreError: as the store says. ArrowException, OSError: an object is no Parquet, or is damaged.
    """
    heads = {task.name for task in plan.tasks() if task.vectors is not None}
    found: dict[str, set[str]] = {}
    for run_id in Runs(store).ids() if heads else ():
        if int(run_id) >= int(plan.run_id):
            continue
        for row in iter_sent(store, run_id, ["route", "task", "item_id", "version"]):
            if row["task"] in heads:
                found.setdefault(row["task"], set()).add(f"{row['item_id']}\0{row['version']}")
    return {task: pa.array(sorted(some), pa.string()) for task, some in found.items()}


def are_asked(asked: Asked, task: str, items: pa.StringArray, versions: pa.StringArray) -> pa.BooleanArray | None:
    """(n,) which of these are among them; None where nobody was asked."""
    known = asked.get(task)
    return None if known is None else pc.is_in(pc.binary_join_element_wise(items, versions, "\0"), known)
