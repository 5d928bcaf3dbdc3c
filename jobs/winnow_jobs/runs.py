"""Which runs does an output hold? The documents of a run in the bucket: plan, summary, and how a run is claimed."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError

from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask, chosen_tasks
from winnow_jobs.spec import Section
from winnow_storage.ahead import mapped_ahead
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError, UsageError
from winnow_storage.ids import canonical_json, digest_bytes
from winnow_storage.parts import Part, WorkPart
from winnow_storage.shards import Receipt, committed_shards, read_receipt

FORMAT: Final = 3
REQUEST_THREADS = 16  # for small objects and footers, each one request


class PlanDocument(Section):
    """`runs/<run_id>/plan.json`: what a run does, put if absent; its existence begins the run."""

    format: Literal[3]
    run_id: str
    created_at: datetime
    code_version: str
    spec: ResolvedSpec
    selection: Selection
    snapshot: tuple[Part, ...]  # schemas.SNAPSHOT, sorted by the UTF-8 bytes of `key`
    work: tuple[WorkPart, ...]  # schemas.WORK, in the same order; after all others the copies, in that order again
    corpus_items: int
    other_files: int
    cold_items: int  # in storage classes that must be restored before they can be read: not in the snapshot
    items: int  # of this run
    total_bytes: int
    shards: int
    shard_items: int
    copies: int = 0  # items that are expected to be of the same bytes as another
    copy_shards: int = 0  # the last shards, which hold them: begun when all others are committed
    # left out at their defaults, so that plans of before they were keep their digests
    vectors: int = Field(default=0, exclude_if=lambda value: not value)  # items of which nothing is fetched
    idle: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)  # tasks that no item is due for

    def encode(self) -> bytes:
        """The bytes that stand in the bucket."""
        return canonical_json(self.model_dump(mode="json")).encode()

    def tasks(self) -> tuple[ResolvedTask, ...]:
        """The tasks that this run performs."""
        return tuple(task for task in self.chosen() if task.name not in self.idle)

    def chosen(self) -> tuple[ResolvedTask, ...]:
        """The tasks that it was begun for, due or not."""
        return chosen_tasks(self.spec.tasks, self.selection.tasks)

    @property
    def first_copy_shard(self) -> int:
        """Where the shards of copies begin."""
        return self.shards - self.copy_shards

    def sorted_streams(self, shards: Iterable[int]) -> list[list[int]]:
        """These of its shards, which are in order, in stretches whose rows are sorted by key."""
        leaders, copies = list[int](), list[int]()
        for shard in shards:
            (leaders if shard < self.first_copy_shard else copies).append(shard)
        return [leaders, copies] if copies else [leaders]

    @property
    def digest(self) -> str:
        """Of those bytes; every receipt carries it."""
        return digest_bytes(self.encode())


class Runs:
    """The runs below one output."""

    def __init__(self, store: BlobStore) -> None:
        self.store = store

    def ids(self) -> list[str]:
        """Runs that have a plan, oldest first."""
        names = self._numbered()
        with ThreadPoolExecutor(REQUEST_THREADS) as pool:
            found = pool.map(self.store.info, map(plan_key, names))
            return [name for name, info in zip(names, found, strict=True) if info is not None]

    def plans(self) -> list[PlanDocument]:
        """The plans of all runs, oldest first.

        Raises:
            StoreError: one of them was written by another version of Winnow.
        """
        with ThreadPoolExecutor(REQUEST_THREADS) as pool:
            found = pool.map(self._plan_if_begun, self._numbered())
            return [plan for plan in found if plan is not None]

    def newest(self) -> str | None:
        """The last run that has a plan."""
        for name in reversed(self._numbered()):
            if self.store.info(plan_key(name)) is not None:
                return name
        return None

    def _numbered(self) -> list[str]:
        return sorted((name for name in self.store.folders("runs/") if name.isdecimal()), key=int)

    def plan(self, run_id: str) -> PlanDocument:
        """The plan of a run.

        Raises:
            UsageError: there is none. StoreError: it was written by another version of Winnow.
        """
        found = self._plan_if_begun(run_id)
        if found is None:
            raise UsageError(
                f"{self.store.root} has no run {run_id}", hint="winnow status SPEC lists the runs of a job"
            )
        return found

    def _plan_if_begun(self, run_id: str) -> PlanDocument | None:
        key = plan_key(run_id)
        try:
            return PlanDocument.model_validate_json(self.store.get(key))
        except BlobMissing:
            return None
        except ValidationError as error:
            raise StoreError(
                f"{self.store.root}/{key} is not a plan that this version of Winnow understands",
                hint="use the version that wrote it, or give the job another output",
            ) from error

    def begin(self, plan: PlanDocument, files: Iterable[tuple[str, Path]]) -> bool:
        """Put a run's parts, each a key and the file with its bytes, then its plan.

        False if another driver claimed the run_id first: parts are named by content, so theirs stay as they are.
        """
        for key, path in files:
            self.store.put_if_absent(key, path.read_bytes())
        return self.store.put_if_absent(plan_key(plan.run_id), plan.encode())

    def receipts(self, run_id: str) -> Iterator[tuple[int, Receipt]]:
        """(shard, its receipt) of every committed shard, in order of the shards; the footers are read 16 at a time.

        Raises:
            StoreError: an object among the results is not a shard.
        """
        infos = committed_shards(self.store, run_id)

        def read(shard: int) -> tuple[int, Receipt]:
            info = infos[shard]
            return shard, read_receipt(self.store, info.key, size_bytes=info.bytes)

        with ThreadPoolExecutor(REQUEST_THREADS) as pool:
            yield from mapped_ahead(pool, read, sorted(infos), ahead=2 * REQUEST_THREADS)

    def summary(self, run_id: str) -> dict[str, Any] | None:
        """The summary that closed a run; None while it is open.

        Raises:
            StoreError: what stands there is no summary.
        """
        key = f"runs/{run_id}/summary.json"
        try:
            document: dict[str, Any] = json.loads(self.store.get(key))
        except BlobMissing:
            return None
        except ValueError as error:
            raise StoreError(
                f"{self.store.root}/{key} is damaged: {error}",
                hint=f"winnow verify {run_id} looks at the run; move that object away, and winnow run closes it again",
            ) from error
        return document

    def close(self, run_id: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Close a run with its summary; the one that stands there if it was closed before."""
        if self.store.put_if_absent(f"runs/{run_id}/summary.json", canonical_json(summary).encode()):
            return summary
        standing = self.summary(run_id)
        return summary if standing is None else standing


def plan_key(run_id: str) -> str:
    """Where the plan of a run stands."""
    return f"runs/{run_id}/plan.json"


def next_run_id(newest: str | None) -> str:
    """The run after the newest one: `0001`, `0002`, ..."""
    return f"{int(newest or '0') + 1:04d}"
