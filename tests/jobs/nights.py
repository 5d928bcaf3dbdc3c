"""Runs with real plans, for those who read plans as well as rows."""

from datetime import UTC, datetime
from pathlib import Path

from tests.jobs.histories import spec, task
from tests.storage.many_runs import KIND, Row, Run, commit, put_snapshot, usable
from winnow_jobs.plan import Selection
from winnow_jobs.runs import FORMAT, PlanDocument, plan_key
from winnow_storage.blobs import BlobStore

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NIGHTS = {"a.jpg": "v1", "b.jpg": "v1", "c.jpg": "v1"}


def begin(store: BlobStore, run: Run, folder: Path) -> None:
    """Put a run's snapshot and its plan."""
    plan = PlanDocument(
        format=FORMAT,
        run_id=run.run_id,
        created_at=NOON,
        code_version="0",
        spec=spec(folder, *(task(name) for name in run.tasks)),
        selection=Selection(),
        snapshot=put_snapshot(store, run, folder),
        work=(),
        corpus_items=len(run.snapshot),
        other_files=0,
        cold_items=0,
        items=sum(map(len, run.shards)),
        total_bytes=0,
        shards=len(run.shards),
        shard_items=2048,
    )
    assert store.put_if_absent(plan_key(run.run_id), plan.encode())


def write(store: BlobStore, run: Run, folder: Path) -> None:
    begin(store, run, folder)
    for shard in run.standing():
        commit(store, run, shard=shard)


def night(number: int, keys: str = "abc", version: str = "v1", snapshot: dict[str, str] | None = None) -> Run:
    """A run that predicts the kind of some items."""
    rows = [Row(f"{key}.jpg", version, {"kind": usable(label=f"{number}{key}")}) for key in keys]
    return Run(f"{number:04d}", snapshot or NIGHTS, {"kind": KIND}, [[row] for row in rows])
