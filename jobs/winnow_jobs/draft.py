"""What would a new run do? One pass over the corpus beside the committed rows; touches no store.

Memory is that of a window and a shard of every earlier run. What is due is set aside on local disk first, because the
size of a shard follows from how much that is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.copies import Copies, Earlier, expected_copies, no_copies, repeated_stored
from winnow_jobs.from_vectors import links_of, places_of, settle
from winnow_jobs.history import History
from winnow_jobs.plan import (
    DUE,
    Begun,
    Selection,
    asked_again,
    due_rows,
    heard,
    is_since,
    select,
    shard_size,
)
from winnow_jobs.resolved import CODE_VERSION, ResolvedSpec, ResolvedTask, chosen_tasks
from winnow_jobs.runs import FORMAT, PlanDocument, Runs, next_run_id
from winnow_jobs.standing import Mask
from winnow_storage.errors import UsageError
from winnow_storage.listing import CorpusStream, stream_corpus
from winnow_storage.parts import SNAPSHOT_GROUP_ROWS, Part, PartFile, PartWriter, WorkPart
from winnow_storage.schemas import PLACE, SNAPSHOT, WORK
from winnow_storage.uri import parse
from winnow_workers.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Draft:
    """A run that could begin: its plan, the files of its parts by key, and what the plan's readers are told."""

    plan: PlanDocument
    files: tuple[tuple[str, Path], ...]
    due: dict[str, int]  # items per task
    from_vectors: dict[str, int]  # those of them of which nothing is fetched, per task
    other_examples: tuple[str, ...]
    cold_examples: tuple[str, ...]
    snapshot_is_new: bool  # it is written, there is a run before, and the newest one's snapshot has other rows


@dataclass(slots=True)
class _Counted:
    items: int = 0
    bytes: int = 0  # of what is fetched
    vectors: int = 0  # items of which nothing is
    tasks: Counter[str] = field(default_factory=Counter)
    from_vectors: Counter[str] = field(default_factory=Counter)

    def add(self, batch: pa.RecordBatch) -> None:
        stored = pc.is_valid(batch.column("vectors"))
        fetched = batch.filter(pc.invert(stored)) if batch.column("vectors").null_count < batch.num_rows else batch
        self.items += batch.num_rows
        self.vectors += batch.num_rows - fetched.num_rows
        self.bytes += pc.sum(fetched.column("bytes"), min_count=0).as_py()
        _add_counts(self.tasks, batch)
        if fetched.num_rows < batch.num_rows:
            _add_counts(self.from_vectors, batch.filter(stored))


def _add_counts(counter: Counter[str], batch: pa.RecordBatch) -> None:
    for count in pc.value_counts(batch.column("tasks").flatten()):
        counter[count["values"].as_py()] += count["counts"].as_py()


def list_items(spec: ResolvedSpec) -> CorpusStream:
    """The corpus as it is now, to be read once. What containers hold is kept in the output, for the next listing."""
    corpus = spec.corpus
    throttle = Throttle(corpus.max_requests_per_s, corpus.max_bytes_per_s)
    source = replace(
        corpus.source,
        indexes=parse(spec.output),
        max_document_bytes=spec.limits.max_bytes,
        max_pages=spec.limits.max_frames,
    )
    return stream_corpus(source, throttle.take)


def draft_run(
    runs: Runs,
    spec: ResolvedSpec,
    selection: Selection,
    *,
    now: datetime,
    folder: Path | None = None,
    on_due: Callable[[], None] = lambda: None,
) -> Draft:
    """What a new run would do. With a `folder` (empty, of this machine) its parts are written into it; without one
    the draft only counts: its plan has no parts, and expects no copies. `on_due` is called when the first due item is
    seen.

    Raises:
        UsageError: the output belongs to another job, or the selection names a task or a run that is not there.
    """
    plans = runs.plans()
    _check(plans, spec, selection)
    run_id = next_run_id(plans[-1].run_id if plans else None)
    tasks = chosen_tasks(spec.tasks, selection.tasks)
    stream, counted = list_items(spec), _Counted()
    snapshot = None if folder is None else PartWriter(folder / "snapshot", SNAPSHOT, group_rows=SNAPSHOT_GROUP_ROWS)
    with History(runs.store, plans, corpus_id=spec.corpus.id, tasks=tasks) as history:
        chosen = select(due_items(_noted(stream, snapshot), history, tasks, selection), selection)
        _set_aside(_told(chosen, on_due), counted, None if folder is None else folder / "due.arrow")
    size = shard_size(counted.items, spec.run.shard_items)
    copies = no_copies(counted.items)
    is_repeated: Mask = np.zeros(counted.items, np.bool_)
    if folder is not None and counted.items and spec.corpus.same_content == "once":
        earlier = Earlier(runs.store, plans, spec, tasks=tasks, since=selection.since)
        copies = expected_copies(lambda: map(_as_fetched, _read_back(folder)), earlier, spec.corpus)
        if counted.vectors:
            is_repeated = repeated_stored(lambda: _read_back(folder), runs.store)
    copy_shards = -(-len(copies) // size)
    snapshot_files = [] if snapshot is None else snapshot.finish()
    work_files, copy_files = ([], []) if folder is None else _cut(folder, size, copies, is_repeated, run_id)
    snapshot_keys = [f"runs/{run_id}/snapshot/{file.name}" for file in snapshot_files]
    work_keys = [f"runs/{run_id}/due/{file.name}" for file in work_files]
    work_keys += [f"runs/{run_id}/copies/{file.name}" for file in copy_files]
    work_files += copy_files
    plan = PlanDocument(
        format=FORMAT,
        run_id=run_id,
        created_at=now,
        code_version=CODE_VERSION,
        spec=spec,
        selection=selection,
        snapshot=tuple(
            Part(key, file.bytes, file.rows) for key, file in zip(snapshot_keys, snapshot_files, strict=True)
        ),
        work=tuple(_work_parts(work_keys, work_files)),
        corpus_items=stream.items,
        other_files=stream.others,
        cold_items=stream.cold,
        items=counted.items,
        total_bytes=counted.bytes,
        shards=-(-(counted.items - len(copies)) // size) + copy_shards,
        shard_items=size,
        copies=len(copies),
        copy_shards=copy_shards,
        vectors=counted.vectors,
        # models that nothing is for are not loaded where nothing may be fetched; elsewhere all are in every row
        idle=tuple(task.name for task in tasks if not counted.tasks[task.name]) if counted.vectors else (),
    )
    paths = [file.path for file in (*snapshot_files, *work_files)]
    files = tuple(zip([*snapshot_keys, *work_keys], paths, strict=True))
    is_new = snapshot is not None and bool(plans) and _names(plans[-1].snapshot) != _names(plan.snapshot)
    due, given = dict(counted.tasks), dict(counted.from_vectors)
    return Draft(plan, files, due, given, stream.other_examples, stream.cold_examples, is_new)


def _names(parts: Iterable[Part]) -> list[str]:
    """What the parts are called, which follows from their rows."""
    return [part.key.rpartition("/")[2] for part in parts]


def _check(plans: Sequence[PlanDocument], spec: ResolvedSpec, selection: Selection) -> None:
    if plans and (owner := plans[-1].spec.job) != spec.job:
        raise UsageError(
            f"the output {spec.output} holds runs of the job {owner!r}, not of {spec.job!r}",
            hint="give every job an output of its own",
        )
    unknown = sorted(set(selection.tasks) - {task.name for task in spec.tasks})
    if unknown:
        names = ", ".join(task.name for task in spec.tasks)
        raise UsageError(f"--tasks names {unknown[0]!r}, which is no task of this job", hint=f"its tasks: {names}")
    since = selection.since
    if since is not None and not any(
        is_since(Begun(plan.run_id, plan.created_at, plan.selection), since) for plan in plans
    ):
        newest = (
            f"the newest is {plans[-1].run_id} of {plans[-1].created_at:%Y-%m-%d %H:%M %Z}" if plans else "none yet"
        )
        raise UsageError(
            f"--since {since}: no run of {spec.job} began then or later ({newest})",
            hint="winnow status SPEC lists the runs; leave --since out to do only what is due",
        )


def _told(chosen: Iterable[pa.RecordBatch], on_due: Callable[[], None]) -> Iterator[pa.RecordBatch]:
    is_told = False
    for batch in chosen:
        if batch.num_rows and not is_told:
            on_due()
            is_told = True
        yield batch


def _noted(stream: Iterable[pa.RecordBatch], snapshot: PartWriter | None) -> Iterator[pa.RecordBatch]:
    for window in stream:
        if snapshot is not None:
            snapshot.add(window)
        yield window


def due_items(
    windows: Iterable[pa.RecordBatch], history: History, tasks: Sequence[ResolvedTask], selection: Selection
) -> Iterator[pa.RecordBatch]:
    """The rows of a sorted listing that are due, with the tasks for which they are; the schema is DUE."""
    names = [task.name for task in tasks]
    begun = history.begun
    then = [asked_again(run.selection, begun[:number]) for number, run in enumerate(begun)]
    now = asked_again(selection, begun)
    links = links_of(tasks, selection.tasks)
    run_ids = [run.run_id for run in begun]
    for window in windows:
        rows = history.until(window.column("key")[-1].as_py())
        standing = heard(window, rows, then=then, tasks=len(names))
        due, taken = settle(standing.due(now), standing, links)
        if due.any():
            yield due_rows(window, due, names, places_of(taken, standing, names=names, run_ids=run_ids))


def _as_fetched(due: pa.RecordBatch) -> pa.RecordBatch:
    """The same, of no known size where nothing is fetched: whose bytes nobody reads is no copy, nor is it looked at."""
    sizes = pc.if_else(pc.is_valid(due.column("vectors")), pa.scalar(None, pa.int64()), due.column("bytes"))
    return due.set_column(due.schema.get_field_index("bytes"), due.schema.field("bytes"), sizes)


def _set_aside(chosen: Iterable[pa.RecordBatch], counted: _Counted, place: Path | None) -> None:
    if place is None:
        for batch in chosen:
            counted.add(batch)
        return
    with pa.OSFile(str(place), "wb") as file, pa.ipc.new_stream(file, DUE) as stream:
        for batch in chosen:
            counted.add(batch)
            stream.write_batch(batch)


def _read_back(folder: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(folder / "due.arrow"), "rb") as file, pa.ipc.open_stream(file) as stream:
        yield from stream


def _cut(
    folder: Path, size: int, copies: Copies, is_repeated: Mask, run_id: str
) -> tuple[list[PartFile], list[PartFile]]:
    """The work in shards of `size` items, from what was set aside; the copies in shards of their own after it.

    `is_repeated` says it of every item that is no copy.
    """
    work = PartWriter(folder / "work", WORK, group_rows=size)
    copied = PartWriter(folder / "copies", WORK, group_rows=size)
    first_copy_shard = -(-(len(copies.is_copy) - len(copies)) // size)
    at = at_work = at_copies = 0
    for batch in _read_back(folder):
        is_copy, repeated = (mask[at : at + batch.num_rows] for mask in (copies.is_copy, is_repeated))
        at += batch.num_rows
        some = batch.filter(pa.array(~is_copy))
        again = pa.array(repeated[~is_copy], mask=~repeated[~is_copy])
        work.add(_work(some, at_work, size, {"leader": pa.nulls(some.num_rows, PLACE), "is_repeated": again}))
        at_work += some.num_rows
        if is_copy.any():
            some = batch.filter(pa.array(is_copy))
            told = copies.told(at_copies, at_copies + some.num_rows, run_id=run_id, shard_items=size)
            copied.add(_work(some, first_copy_shard * size + at_copies, size, told))
            at_copies += some.num_rows
    (folder / "due.arrow").unlink()
    return work.finish(), copied.finish()


def _work(due: pa.RecordBatch, at: int, size: int, told: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """Due items as rows of the work, the first of them being number `at`, with what is told of copies."""
    shards = pa.array(np.arange(at, at + due.num_rows) // size, pa.int32())
    columns = {name: due.column(name) for name in DUE.names} | {"shard": shards, **told}
    return pa.RecordBatch.from_arrays([columns[name] for name in WORK.names], schema=WORK)


def _work_parts(keys: Sequence[str], files: Sequence[PartFile]) -> Iterator[WorkPart]:
    first = 0
    for key, file in zip(keys, files, strict=True):
        yield WorkPart(key, file.bytes, file.rows, first, file.groups)
        first += file.groups
