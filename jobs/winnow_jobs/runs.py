"""Which runs does an output hold? The documents of a run in the bucket: plan, summary, and how a run is claimed."""

import json
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.spec import Section
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ids import canonical_json, digest_bytes

FORMAT = 1


class PlanDocument(Section):
    """`runs/<run_id>/plan.json`: what a run does, put if absent; its existence begins the run."""

    format: int
    run_id: str
    created_at: datetime
    code_version: str
    spec: ResolvedSpec
    selection: Selection
    snapshot_key: str
    work_key: str
    corpus_items: int
    other_files: int
    items: int  # of this run
    total_bytes: int
    shards: int
    shard_items: int

    def encode(self) -> bytes:
        """The bytes that stand in the bucket."""
        return canonical_json(self.model_dump(mode="json")).encode()

    def tasks(self) -> tuple[ResolvedTask, ...]:
        """The tasks that this run performs."""
        chosen = self.selection.tasks
        return tuple(task for task in self.spec.tasks if not chosen or task.name in chosen)

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
        return [name for name in self._numbered() if self.store.info(f"runs/{name}/plan.json") is not None]

    def newest(self) -> str | None:
        """The last run that has a plan."""
        for name in reversed(self._numbered()):
            if self.store.info(f"runs/{name}/plan.json") is not None:
                return name
        return None

    def _numbered(self) -> list[str]:
        return sorted((name for name in self.store.folders("runs/") if name.isdecimal()), key=int)

    def plan(self, run_id: str) -> PlanDocument:
        """The plan of a run.

        Raises:
            StoreError: there is none, or it was written by another version of Winnow.
        """
        key = f"runs/{run_id}/plan.json"
        try:
            data = self.store.get(key)
        except BlobMissing as error:
            raise StoreError(
                f"{self.store.root} has no run {run_id}", hint="winnow status SPEC lists the runs of a job"
            ) from error
        try:
            return PlanDocument.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(
                f"{self.store.root}/{key} is not a plan that this version of Winnow understands",
                hint="use the version that wrote it, or start again with winnow run --new",
            ) from error

    def begin(self, plan: PlanDocument, snapshot: pa.Table, work: pa.Table) -> bool:
        """Put a run's snapshot, work and plan. False if another driver claimed the run_id first."""
        self.store.put_if_absent(plan.snapshot_key, encode_table(snapshot))
        self.store.put_if_absent(plan.work_key, encode_table(work, row_group_rows=plan.shard_items))
        return self.store.put_if_absent(f"runs/{plan.run_id}/plan.json", plan.encode())

    def summary(self, run_id: str) -> dict[str, Any] | None:
        """The summary that closed a run; None while it is open."""
        try:
            document: dict[str, Any] = json.loads(self.store.get(f"runs/{run_id}/summary.json"))
        except BlobMissing:
            return None
        return document

    def close(self, run_id: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Close a run with its summary; the one that stands there if it was closed before."""
        if self.store.put_if_absent(f"runs/{run_id}/summary.json", canonical_json(summary).encode()):
            return summary
        standing = self.summary(run_id)
        return summary if standing is None else standing


def next_run_id(newest: str | None) -> str:
    """The run after the newest one: `0001`, `0002`, ..."""
    return f"{int(newest or '0') + 1:04d}"


def encode_table(table: pa.Table, *, row_group_rows: int = 65536) -> bytes:
    """Parquet bytes of a table; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=max(1, row_group_rows))
    return bytes(sink.getvalue())
