"""What is committed below an output, at one moment? Its runs, their shard objects, and the newest snapshot."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ids import digest_bytes
from winnow_storage.parquet_rows import read_groups
from winnow_storage.parts import Part
from winnow_storage.schemas import SNAPSHOT
from winnow_storage.shards import committed_shards

_THREADS = 16


@dataclass(frozen=True, slots=True)
class CommittedRun:
    """A run that has a plan: how many shards that plans, and the objects of those that are committed, in order.

    Of `objects` the first `leaders` are sorted by key from one to the next, and so are those after them, which hold
    copies.
    """

    run_id: str
    plan: str  # the digest of its plan
    planned: int
    objects: tuple[BlobInfo, ...]
    leaders: int

    @property
    def sorted_streams(self) -> tuple[tuple[BlobInfo, ...], ...]:
        """The objects, in stretches whose rows are sorted by key."""
        return self.objects[: self.leaders], self.objects[self.leaders :]

    @property
    def number(self) -> int:
        """Runs are newer by number, not by the text of their id."""
        return int(self.run_id)


@dataclass(frozen=True, slots=True)
class Committed:
    """The runs below an output, oldest first, and the parts of the newest run's snapshot."""

    runs: tuple[CommittedRun, ...]
    snapshot: tuple[BlobInfo, ...]

    @property
    def newest(self) -> CommittedRun | None:
        """The run whose snapshot is the newest complete one: a plan is put after its snapshot."""
        return self.runs[-1] if self.runs else None


def look(store: BlobStore) -> Committed:
    """What is committed now. A plan and a listing are read for every run; no rows.

    Raises:
        StoreError: a plan that cannot be read, or a stranger among the results.
    """
    numbered = sorted((name for name in store.folders("runs/") if name.isdecimal()), key=int)
    with ThreadPoolExecutor(_THREADS) as pool:
        plans = list(pool.map(lambda run_id: _plan(store, run_id), numbered))
        begun = [(run_id, plan) for run_id, plan in zip(numbered, plans, strict=True) if plan is not None]
        listed = pool.map(lambda one: committed_shards(store, one[0]), begun)
        runs = tuple(
            CommittedRun(
                run_id,
                plan.digest,
                plan.shards,
                tuple(objects.values()),
                sum(shard < plan.shards - plan.copy_shards for shard in objects),
            )
            for (run_id, plan), objects in zip(begun, listed, strict=True)
        )
    if not begun:
        return Committed((), ())
    return Committed(runs, begun[-1][1].snapshot)


def snapshot_rows(store: BlobStore, committed: Committed) -> Iterator[pa.Table]:
    """The newest snapshot, sorted by the UTF-8 bytes of the key, with the columns of `schemas.SNAPSHOT`.

    Raises:
        StoreError: a part of it is not Parquet.
    """
    for info in committed.snapshot:
        for rows in read_groups(store, info, SNAPSHOT.names):
            yield rows.select(SNAPSHOT.names)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What readers need of `runs/<run_id>/plan.json`."""

    digest: str
    shards: int
    copy_shards: int  # the last of them
    snapshot: tuple[BlobInfo, ...]


def _plan(store: BlobStore, run_id: str) -> _Plan | None:
    key = f"runs/{run_id}/plan.json"
    try:
        data = store.get(key)
        document = json.loads(data)
        parts = (Part(**part) for part in document["snapshot"])
        return _Plan(
            digest_bytes(data),
            int(document["shards"]),
            int(document.get("copy_shards", 0)),
            tuple(BlobInfo(part.key, part.bytes, "") for part in parts),
        )
    except BlobMissing:
        return None  # a run exists from its plan on
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.root}/{key} is not a plan that this version of Winnow understands",
            hint="use the version that wrote it, or give the job another output",
        ) from error
