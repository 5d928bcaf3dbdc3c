"""What is due? Pure: a window of the corpus and what the runs so far say of it, in; its due rows, out.

An item's version is due for a task if no run says how it ended there, or if the run that said so last is asked for
again: by the outcome it told (`--retry`), or by when it began (`--since`).
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from winnow_jobs.spec import Section
from winnow_jobs.standing import SAYS, Again, Mask, Places, Rows, Standing
from winnow_storage.errors import UsageError
from winnow_storage.ids import digest_bytes
from winnow_storage.schemas import SNAPSHOT, WORK, Outcome

SHARD_ITEMS_MIN, SHARD_ITEMS_MAX, SHARDS_WANTED = 16, 2048, 64
DUE = pa.schema([*SNAPSHOT, WORK.field("tasks"), WORK.field("vectors")])  # the work before it is cut into shards


class Selection(Section):
    """What makes a run less, or more, than everything that is due."""

    tasks: tuple[str, ...] = ()  # empty: all
    retry: tuple[Outcome, ...] = ()
    since: str | None = None  # as `read_since` gives it
    limit: int | None = Field(default=None, ge=1)
    sample: int | None = Field(default=None, ge=1)

    @property
    def is_everything(self) -> bool:
        """Whether nothing was selected."""
        return self == Selection()


@dataclass(frozen=True, slots=True)
class Begun:
    """An earlier run: when it began and what it was asked to do again."""

    run_id: str
    created_at: datetime
    selection: Selection


def shard_size(items: int, wanted: int | Literal["auto"]) -> int:
    """How many items a shard holds: what the spec says, or clamp(items / 64, 16, 2048), a multiple of 16.

    Networks work in batches of 8 or 16 (on an accelerator 32), which the end of a shard fills up with nothing.
    """
    if wanted != "auto":
        return wanted
    return min(max(items // SHARDS_WANTED // SHARD_ITEMS_MIN, 1) * SHARD_ITEMS_MIN, SHARD_ITEMS_MAX)


def read_since(text: str) -> str:
    """A run id or a date as a plan holds it: `0007`, or ISO 8601 in UTC (which a time without an offset is taken for).

    Raises:
        UsageError: it is neither.
    """
    if text.isascii() and text.isdecimal():
        return f"{int(text):04d}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--since {text!r} is neither a run nor a date",
            hint="write a run such as 0007 (winnow status SPEC lists them), or a date such as 2026-11-03 "
            "or 2026-11-03T18:00+01:00",
        ) from error
    return moment.astimezone(UTC).isoformat() if moment.tzinfo else moment.replace(tzinfo=UTC).isoformat()


def is_since(run: Begun, since: str | None) -> bool:
    """Whether a run began at or after `since`."""
    if since is None:
        return False
    if since.isdecimal():
        return int(run.run_id) >= int(since)
    return run.created_at >= datetime.fromisoformat(since)


def asked_again(selection: Selection, earlier: Sequence[Begun]) -> Again:
    """What a run with this selection takes again of the runs before it."""
    outcomes = np.zeros(len(SAYS) + 1, np.bool_)
    outcomes[[SAYS[outcome] for outcome in selection.retry if outcome is not Outcome.UNAVAILABLE]] = True
    runs = np.array([is_since(run, selection.since) for run in earlier] or [False], np.bool_)
    return Again(outcomes, runs)


def due_mask(window: pa.RecordBatch, rows: Sequence[Rows], *, then: Sequence[Again], now: Again, tasks: int) -> Mask:
    """For each of the first axis' `tasks`, which items of the window (second axis) are due for it.

    `rows` are those of the earlier runs, oldest run first; `then` is what each of these runs took again, `now` what
    this one does. An `unavailable` row is silent: whatever came before it stands.
    """
    return heard(window, rows, then=then, tasks=tasks).due(now)


def heard(window: pa.RecordBatch, rows: Sequence[Rows], *, then: Sequence[Again], tasks: int) -> Standing:
    """What stands of the items of a window after the earlier runs; as in `due_mask`."""
    standing = Standing(tasks, window.num_rows)
    if rows:
        standing.hear(rows, _places(window, rows), then)
    return standing


def _places(window: pa.RecordBatch, rows: Sequence[Rows]) -> Places:
    """Where in the window the item of each row is, one after the other; -1 if it or this version of it is not."""
    places = pc.index_in(pa.concat_arrays([some.keys for some in rows]), value_set=window.column("key"))
    same = pc.equal(pa.concat_arrays([some.versions for some in rows]), window.column("version").take(places))
    found: Places = pc.if_else(same, places, None).fill_null(-1).to_numpy(zero_copy_only=False)
    return found


def due_rows(
    window: pa.RecordBatch, due: Mask, names: Sequence[str], vectors: pa.Array | None = None
) -> pa.RecordBatch:
    """The items of a window that are due for any task, with the names of these; the schema is DUE.

    `vectors` says for each item of the window which of its vectors stand and suffice; None: of none.
    """
    if vectors is None:
        vectors = pa.nulls(window.num_rows, DUE.field("vectors").type)
    any_due = due.any(axis=0)
    if not any_due.all():
        chosen = np.flatnonzero(any_due)
        window, due, vectors = window.take(pa.array(chosen)), due[:, chosen], vectors.take(pa.array(chosen))
    offsets = np.concatenate(([0], np.cumsum(due.sum(axis=0)))).astype(np.int32)
    of_item, task = np.nonzero(due.T)
    del of_item  # in order, which is what the offsets say
    tasks = pa.ListArray.from_arrays(pa.array(offsets), pa.array(names, pa.string()).take(pa.array(task)))
    return pa.RecordBatch.from_arrays([*window.columns, tasks.cast(DUE.field("tasks").type), vectors], schema=DUE)


def select(due: Iterable[pa.RecordBatch], selection: Selection) -> Iterator[pa.RecordBatch]:
    """What `--sample` and `--limit` leave of the due rows, in their order. All of `due` is read in any case."""
    if selection.sample is not None:
        due = _sampled(due, selection.sample)
    left = selection.limit
    for batch in due:
        if left is None:
            yield batch
        elif left > 0:
            yield batch.slice(0, left)
            left -= min(left, batch.num_rows)


def _sampled(due: Iterable[pa.RecordBatch], wanted: int) -> Iterator[pa.RecordBatch]:
    """Uniform, the same on every machine, independent of the order: the items with the least digests.

    At most 2 x `wanted` rows and a batch are held.
    """
    kept, digests = pa.Table.from_batches([], schema=DUE), list[str]()
    for batch in due:
        kept = pa.concat_tables([kept, pa.Table.from_batches([batch])])
        digests += [digest_bytes(f"sample\0{item}".encode()) for item in batch.column("item_id").to_pylist()]
        if len(digests) > 2 * wanted:
            kept, digests = _least(kept, digests, wanted)
    kept, _ = _least(kept, digests, wanted)
    yield from kept.to_batches()


def _least(rows: pa.Table, digests: list[str], wanted: int) -> tuple[pa.Table, list[str]]:
    chosen = sorted(heapq.nsmallest(wanted, range(len(digests)), key=digests.__getitem__))
    return rows.take(pa.array(chosen, pa.int64())), [digests[index] for index in chosen]
