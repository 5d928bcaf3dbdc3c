"""Which predictions of earlier runs compete again? Those that were held over a budget, as long as they stand.

`runs/RUN/held.parquet` has what a run leaves to the next one: of each task at most POOL times its budget, the most
unsure, each with the run and shard that holds its row. The next run decides them afresh, under its own policies,
promises and budget, and lists them in its routes with their `predicted_run`. An item that is gone from the corpus, or
has another version, another model or a newer prediction, competes no more.
"""

import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow_annotation.routing import Waiting
from winnow_jobs.routes import is_routed
from winnow_jobs.runs import PlanDocument
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.parquet_rows import read_groups_with
from winnow_storage.parts import Part
from winnow_storage.shards import shard_key

HELD = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("task", "task_digest")),
        *(pa.field(name, pa.string(), nullable=False) for name in ("item_id", "version", "key", "run_id")),
        pa.field("shard", pa.int32(), nullable=False),
    ]
)
_LEFT_OUT = b"winnow.left_out"  # in the footer: JSON, by task
_THREADS = 16
Left = tuple[pa.Table, dict[tuple[str, str], int]]  # rows of schema HELD; by task and digest how many were left out


class HeldOver:
    """What may compete again in a run, by the place where its rows are read: after those of the run's own shards.

    `left_out` has by task how many others were held as well, and are more than are kept. `later`: rows that wait for a
    run that performs their task, or has a budget.
    """

    def __init__(self, plan: PlanDocument, rows: pa.Table, left_out: Mapping[str, int], *, later: pa.Table) -> None:
        self.left_out = dict(left_out)
        self.later = later
        self.places: dict[int, BlobInfo] = {}
        self._sources: dict[int, tuple[str, int]] = {}
        self._items: dict[tuple[int, str], set[str]] = defaultdict(set)
        self._known: dict[tuple[str, int], int] = {}
        self._first = plan.shards
        for row in rows.to_pylist():
            self._items[self._place(row["run_id"], row["shard"]), row["task"]].add(row["item_id"])

    def _place(self, run_id: str, shard: int) -> int:
        place = self._known.setdefault((run_id, shard), self._first + len(self._known))
        self._sources[place] = (run_id, shard)
        return place

    def locate(self, store: BlobStore) -> "HeldOver":
        """Find the objects; what is gone competes no more."""
        with ThreadPoolExecutor(_THREADS) as pool:
            keys = [shard_key(*source) for source in self._sources.values()]
            found = dict(zip(self._sources, pool.map(store.info, keys), strict=True))
        self.places = {place: info for place, info in found.items() if info is not None}
        return self

    def items(self, place: int, task: str) -> Collection[str]:
        """Of which items the predictions at a place compete again."""
        return self._items.get((place, task), ())

    def is_part(self, task: str) -> bool:
        """Whether more were held than these."""
        return self.left_out.get(task, 0) > 0

    def predicted_anew(self, task: str, items: pa.StringArray) -> None:
        """The run has predictions of these items itself: the older ones compete no more."""
        for (_, name), own in self._items.items():
            if name == task and own:
                own -= set(items.filter(pc.is_in(items, pa.array(list(own), pa.string()))).to_pylist())

    def source(self, place: int, run_id: str) -> tuple[str, int]:
        """The run and shard of a place; those of `run_id` come first."""
        return self._sources.get(place, (run_id, place))


class Leaving:
    """Collects what a run leaves to the next one, while its routes are written."""

    def __init__(self, plan: PlanDocument, before: HeldOver, waiting: Mapping[str, Waiting]) -> None:
        self._plan = plan
        self._before = before
        self._waiting = {task: pa.array(one.items, pa.string()) for task, one in waiting.items() if one.items}
        self._digests = {task.name: task.digest for task in plan.spec.tasks}
        self._tables = [before.later]
        # where nothing of what was held waits any longer, what is held from now on is whole again
        still = {*self._waiting, *before.later["task"].to_pylist()}
        self._left_out = {task: count for task, count in before.left_out.items() if task in still}
        for task, one in waiting.items():
            self._left_out[task] = self._left_out.get(task, 0) + one.left_out

    def note(self, place: int, task: str, routes: pa.Table) -> None:
        """Some routes of a task, schema ROUTES, of the predictions at a place."""
        if task not in self._waiting or routes.num_rows == 0:
            return
        rows = routes.filter(pc.is_in(routes["item_id"], self._waiting[task]))
        run_id, shard = self._before.source(place, self._plan.run_id)
        told = {"task": task, "task_digest": self._digests[task], "run_id": run_id}
        columns = {name: pa.repeat(value, rows.num_rows) for name, value in told.items()}
        columns["shard"] = pa.array([shard] * rows.num_rows, pa.int32())
        columns |= {name: rows[name] for name in ("item_id", "version", "key")}
        self._tables.append(pa.table([columns[name] for name in HELD.names], schema=HELD))

    def put(self, store: BlobStore) -> None:
        """Put it, if there is anything."""
        rows = pa.concat_tables(self._tables).sort_by([("task", "ascending"), ("key", "ascending")])
        left_out = [[task, self._digests[task], count] for task, count in sorted(self._left_out.items()) if count]
        if rows.num_rows == 0 and not left_out:
            return
        buffer = io.BytesIO()
        table = rows.combine_chunks().replace_schema_metadata({_LEFT_OUT: json.dumps(left_out).encode()})
        pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
        store.put_if_absent(held_key(self._plan.run_id), buffer.getvalue())


def held_over(store: BlobStore, plan: PlanDocument, *, budget: int) -> HeldOver:
    """What may compete again in a run, under this budget; without one all of it waits for the next run.

    Rows of the snapshot are read, where it may hold their keys.

    Raises:
        StoreError: as the store says; or what the run before left is damaged.
    """
    rows, left_out = left_by_the_run_before(store, plan.run_id)
    own = {(task.name, task.digest) for task in plan.spec.tasks}
    now = {(task.name, task.digest) for task in plan.tasks()} if budget else set()
    of = list(zip(rows["task"].to_pylist(), rows["task_digest"].to_pylist(), strict=True))
    later = rows.filter(pa.array([one in own - now for one in of], pa.bool_()))
    rows = rows.filter(pa.array([one in now for one in of], pa.bool_()))
    rows = rows.filter(_stand(store, plan.snapshot, rows))
    counts = {task: count for (task, digest), count in left_out.items() if (task, digest) in own}
    return HeldOver(plan, rows, counts, later=later).locate(store)


def left_by_the_run_before(store: BlobStore, run_id: str) -> Left:
    """What the newest routed run before this one left.

    Raises:
        StoreError: it is damaged.
    """
    numbers = (int(name) for name in store.folders("runs/") if name.isdecimal())
    for number in sorted(numbers, reverse=True):
        if number < int(run_id) and is_routed(store, f"{number:04d}"):
            return read_held(store, f"{number:04d}")
    return HELD.empty_table(), {}


def read_held(store: BlobStore, run_id: str) -> Left:
    """What a run left to the next one; nothing if it left nothing.

    Raises:
        StoreError: it is damaged.
    """
    key = held_key(run_id)
    try:
        table = pq.read_table(pa.BufferReader(store.get(key)), use_threads=False, page_checksum_verification=True)
        left_out = json.loads((table.schema.metadata or {}).get(_LEFT_OUT, b"[]"))
        rows = table.select(HELD.names).cast(HELD).replace_schema_metadata(None)
        return rows, {(task, digest): count for task, digest, count in left_out}
    except BlobMissing:
        return HELD.empty_table(), {}
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{store.root}/{key} cannot be read: {error}",
            hint="restore it from a backup; or remove it: what it names is not offered to people again",
        ) from error


def held_view(store: BlobStore, run_id: str | None) -> dict[str, Any] | None:
    """What competes again after a run: by task how many predictions wait, and how many others were left out.

    None where there is neither.
    """
    if run_id is None:
        return None
    rows, left_out = read_held(store, run_id)
    counts = {one["values"]: one["counts"] for one in rows["task"].value_counts().to_pylist()}
    if not counts and not left_out:
        return None
    return {"waiting": dict(sorted(counts.items())), "left_out": {task: count for (task, _), count in left_out.items()}}


def held_key(run_id: str) -> str:
    """Where it stands what a run leaves to the next one."""
    return f"runs/{run_id}/held.parquet"


def _stand(store: BlobStore, snapshot: Collection[Part], rows: pa.Table) -> pa.Array:
    """Which of the rows are of an item's version in the snapshot."""
    if rows.num_rows == 0:
        return pa.array([], pa.bool_())
    keys = sorted(set(rows["key"].to_pylist()))
    there = set(_versions(store, snapshot, keys))
    return pa.array([(row["key"], row["version"]) in there for row in rows.to_pylist()])


def _versions(store: BlobStore, snapshot: Collection[Part], keys: list[str]) -> Iterator[tuple[str, str]]:
    wanted = pa.array(keys, pa.string())
    for part in snapshot:
        for rows in read_groups_with(store, BlobInfo(part.key, part.bytes, ""), keys, ["key", "version"]):
            found = rows.filter(pc.is_in(rows["key"], wanted))
            yield from zip(found["key"].to_pylist(), found["version"].to_pylist(), strict=True)
