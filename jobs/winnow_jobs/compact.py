"""How is `current` kept as a few large files? A compaction goes on from the one before it where that is exact."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from winnow_jobs.compact_standing import has_standing, write_standing
from winnow_jobs.events import Listener, Note
from winnow_jobs.runs import Runs
from winnow_jobs.words import counted
from winnow_storage import compaction
from winnow_storage.blobs import BlobStore
from winnow_storage.committed import Committed, look
from winnow_storage.compaction import Compaction, Cover
from winnow_storage.compaction_writer import PartsWriter
from winnow_storage.current import Base, committed_types, resolve
from winnow_storage.current_types import current_schema, task_types
from winnow_storage.current_window import LEFT
from winnow_storage.errors import UsageError
from winnow_storage.parquet_rows import read_schema
from winnow_storage.parts import Part


@dataclass(frozen=True, slots=True)
class _Work:
    """What a compaction reads."""

    committed: Committed  # of its runs only those that are read
    types: dict[str, pa.StructType]
    went_on_from: Compaction | None

    @property
    def base(self) -> Base | None:
        return None if self.went_on_from is None else self.went_on_from.as_base()


@dataclass(frozen=True, slots=True)
class _Made:
    """The files of a compaction that is not published yet."""

    number: int
    files: tuple[Part, ...]
    left: tuple[Part, ...]
    pending: int
    gone: int
    dropped: int


class _CameBack(Exception):
    """A version is in the snapshot again whose rows are in none of the sources."""


def compact(store: BlobStore, listener: Listener, now: Callable[[], datetime]) -> dict[str, Any]:
    """Write `current` of the job whose output `store` is, unless the newest compaction covers everything; the record.

    Raises:
        UsageError: there are no runs.
        StoreError: an object cannot be read or written.
    """
    committed, standing = look(store), compaction.latest(store)
    newest = committed.newest
    if newest is None:
        raise UsageError(f"{store.root} has no runs yet, so there is nothing to compact", hint="winnow run SPEC")
    runs = Runs(store)
    if standing is not None and standing.covers_all(committed) and has_standing(runs):
        return _record(store, standing, wrote=False)
    work = _go_on(store, standing, committed)
    try:
        made = _write(store, work, listener)
    except _CameBack:
        listener(Note("items are back in a version that had left: all runs are read again"))
        work = _all_runs(store, committed)
        made = _write(store, work, listener)
    write_standing(runs, made.number)
    plan = runs.plan(newest.run_id)
    covers = {run.run_id: Cover(len(run.objects), run.planned, run.plan) for run in committed.runs}
    found = Compaction(
        format=compaction.FORMAT,
        number=made.number,
        job=plan.spec.job,
        created_at=now().isoformat(),
        snapshot_run=newest.run_id,
        base=None if work.went_on_from is None else work.went_on_from.number,
        files=made.files,
        left=made.left,
        rows=sum(part.rows for part in made.files),
        pending=made.pending,
        gone=made.gone,
        dropped=made.dropped,
        # a run that was removed stays covered as long as its rows are carried on
        covers=covers if work.went_on_from is None else {**work.went_on_from.covers, **covers},
        tasks={task.name: task.digest for task in plan.spec.tasks},
    )
    return _record(store, compaction.publish(store, found), wrote=True)


def _go_on(store: BlobStore, standing: Compaction | None, committed: Committed) -> _Work:
    """Only what was committed since `standing`, if that gives what reading all runs would; else all runs.

    It does unless a run before the newest one that it covers has more shards now (their rows would count as newer than
    they are), a run was removed and begun again, or the fields of a task changed (what could not be cast then might be
    now).
    """
    if standing is None:
        return _all_runs(store, committed)
    newest = int(standing.snapshot_run)
    grown = tuple(run for run in committed.runs if len(run.objects) > standing.covered(run))
    if any(run.number < newest or (run.number == newest and standing.covered(run) < 0) for run in grown):
        return _all_runs(store, committed)
    base = standing.as_base()
    before = task_types([read_schema(store, base.rows[0])])
    types = committed_types(store, grown, base)
    if any(types[name] != kind for name, kind in before.items()):
        return _all_runs(store, committed)
    return _Work(replace(committed, runs=grown), types, standing)


def _all_runs(store: BlobStore, committed: Committed) -> _Work:
    return _Work(committed, committed_types(store, committed.runs), None)


def _write(store: BlobStore, work: _Work, listener: Listener) -> _Made:
    """The files of `work`, in a folder of their own.

    Raises:
        _CameBack: versions that had left the base are in the snapshot again: their rows are not in what `work` reads.
    """
    number = compaction.claim(store)
    folder = compaction.folder_of(number)
    listener(Note(f"reading {_of_runs(work)} into {store.root}/{folder}"))
    pending = gone = dropped = 0
    with (
        PartsWriter(store, f"{folder}part", current_schema(work.types)) as rows,
        PartsWriter(store, f"{folder}_left/part", LEFT) as left,
    ):
        for window in resolve(store, work.committed, work.types, base=work.base):
            if window.came_back:
                raise _CameBack
            rows.add(window.rows)
            left.add(window.left)
            pending, gone, dropped = pending + window.pending, gone + window.gone, dropped + window.dropped
        return _Made(number, rows.finish(), left.finish(), pending, gone, dropped)


def _of_runs(work: _Work) -> str:
    shards = sum(len(run.objects) for run in work.committed.runs)
    read = f"{counted(shards, 'shard')} of {counted(len(work.committed.runs), 'run')}"
    return read if work.went_on_from is None else f"compaction {work.went_on_from.number} and {read}"


def _record(store: BlobStore, found: Compaction, *, wrote: bool) -> dict[str, Any]:
    """What `compact --json` says."""
    return {
        "job": found.job,
        "output": str(store.root),
        "wrote": wrote,
        "number": found.number,
        "created_at": found.created_at,
        "folder": f"{store.root}/{compaction.folder_of(found.number)}",
        "files": len(found.files),
        "bytes": sum(part.bytes for part in found.files),
        "rows": found.rows,
        "pending": found.pending,
        "gone": found.gone,
        "dropped": found.dropped,
        "snapshot_run": found.snapshot_run,
        "base": found.base,
        "covers": {run_id: asdict(cover) for run_id, cover in found.covers.items()},
        "tasks": found.tasks,
        "superseded": [f"{store.root}/{folder}" for folder in compaction.superseded(store, found)],
    }
