"""Which run is worked on? The open one if it is the same, a new one otherwise; or none, if nothing is due."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from winnow_jobs.history import final_pairs
from winnow_jobs.plan import Selection, due_work
from winnow_jobs.resolved import CODE_VERSION, ResolvedSpec, differences
from winnow_jobs.review import route_run
from winnow_jobs.runs import FORMAT, PlanDocument, Runs, encode_table, next_run_id
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.errors import UsageError
from winnow_storage.ids import digest_bytes
from winnow_storage.listing import CorpusSource, Listing, list_corpus
from winnow_storage.probe import require_conditional_puts
from winnow_storage.uri import parse


@dataclass(frozen=True, slots=True)
class Draft:
    """A run that could begin: its plan, and the tables that go with it."""

    plan: PlanDocument
    listing: Listing
    work: pa.Table  # schemas.WORK


def list_items(spec: ResolvedSpec) -> Listing:
    """The corpus as it is now."""
    corpus = spec.corpus
    return list_corpus(CorpusSource(corpus.id, parse(corpus.uri), corpus.include))


def draft_run(runs: Runs, spec: ResolvedSpec, selection: Selection, *, now: datetime) -> Draft:
    """What a new run would do; touches nothing.

    Raises:
        UsageError: the output belongs to another job, or a selected task is not in the spec.
    """
    newest = runs.newest()
    if newest is not None and (owner := runs.plan(newest).spec.job) != spec.job:
        raise UsageError(
            f"the output {spec.output} holds runs of the job {owner!r}, not of {spec.job!r}",
            hint="give every job an output of its own",
        )
    unknown = sorted(set(selection.tasks) - {task.name for task in spec.tasks})
    if unknown:
        names = ", ".join(task.name for task in spec.tasks)
        raise UsageError(f"--tasks names {unknown[0]!r}, which is no task of this job", hint=f"its tasks: {names}")
    listing = list_items(spec)
    final = final_pairs(runs, spec, selection.retry)
    work, size = due_work(listing.items, final, selection, wanted_shard_items=spec.run.shard_items)
    run_id = next_run_id(newest)
    plan = PlanDocument(
        format=FORMAT,
        run_id=run_id,
        created_at=now,
        code_version=CODE_VERSION,
        spec=spec,
        selection=selection,
        snapshot_key=f"runs/{run_id}/snapshot-{digest_bytes(encode_table(listing.items))[:16]}.parquet",
        work_key=f"runs/{run_id}/work-{digest_bytes(encode_table(work, row_group_rows=size))[:16]}.parquet",
        corpus_items=listing.items.num_rows,
        other_files=listing.others,
        items=work.num_rows,
        total_bytes=sum(one or 0 for one in work["bytes"].to_pylist()),
        shards=-(-work.num_rows // size),
        shard_items=size,
    )
    return Draft(plan, listing, work)


def open_run(runs: Runs) -> PlanDocument | None:
    """The newest run if nothing closed it yet."""
    newest = runs.newest()
    if newest is None or runs.summary(newest) is not None:
        return None
    return runs.plan(newest)


def begin_or_go_on(
    runs: Runs, spec: ResolvedSpec, selection: Selection, *, new: bool, now: Callable[[], datetime]
) -> tuple[PlanDocument | None, bool]:
    """The run to work on, and whether it was begun before; (None, False) if nothing is due.

    Raises:
        UsageError: an open run has another spec or selection.
    """
    while True:
        standing = open_run(runs)
        if standing is not None and not new:
            _refuse_other(standing, spec, selection)
            return standing, True
        if standing is not None:
            route_run(runs.store, standing)  # its committed rows are final: nobody else would show them to people
            runs.close(standing.run_id, {"run_id": standing.run_id, "job": spec.job, "state": "abandoned"})
        draft = draft_run(runs, spec, selection, now=now())
        if draft.plan.items == 0:
            return None, False
        if runs.begin(draft.plan, draft.listing.items, draft.work):
            return draft.plan, False
        new = False  # another driver began this run a moment ago: look again, and join it if it is the same


def _refuse_other(standing: PlanDocument, spec: ResolvedSpec, selection: Selection) -> None:
    ours = spec.identity() | {"selection": selection.model_dump(mode="json")}
    theirs = standing.spec.identity() | {"selection": standing.selection.model_dump(mode="json")}
    found = differences(ours, theirs)
    if found:
        raise UsageError(
            f"run {standing.run_id} of {spec.job} is still open, and was begun with another spec:\n  "
            + "\n  ".join(found),
            hint=f"winnow resume {standing.run_id} --output {shlex.quote(spec.output)}  "
            "goes on with that run as it was begun;\n"
            f"        winnow run --new ...  abandons it and begins another (its committed rows stay)",
        )


def open_runs(spec: ResolvedSpec) -> Runs:
    """The runs of a job's output, once the store is known to keep its promises.

    Raises:
        StoreError: unreachable, or without conditional puts.
    """
    store: BlobStore = open_store(parse(spec.output))
    require_conditional_puts(store, single_writer=spec.single_writer)
    return Runs(store)
