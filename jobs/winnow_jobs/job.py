"""What does one command do to a job? Run it, resume a run, push, pull: the bucket, the ledger and people together."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from winnow_annotation.policies import resolve_secret
from winnow_jobs.audit import audit_records
from winnow_jobs.begin import begin_or_go_on, open_runs
from winnow_jobs.engine import Engine
from winnow_jobs.events import Listener, Note
from winnow_jobs.machine import ledger_of
from winnow_jobs.options import Options
from winnow_jobs.people import push_pending, sync_ledger
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.run import finish, work_through
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.support import support_records
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.dataset import results_glob
from winnow_storage.errors import LedgerError, StoreError, UsageError, WinnowError
from winnow_storage.ledger import Ledger
from winnow_storage.probe import require_conditional_puts
from winnow_storage.records import RunRecord
from winnow_storage.uri import parse


@dataclass(frozen=True, slots=True)
class Ended:
    """The record of a command, and an error that came after everything was committed."""

    record: dict[str, Any]
    push_error: WinnowError | None = None


def run_job(
    spec: ResolvedSpec,
    options: Options,
    listener: Listener,
    now: Callable[[], datetime],
    *,
    engine: Engine | None = None,
) -> Ended:
    """Run a job: go on with its open run, or begin one over what is due; `engine` is shared with other runs.

    Raises:
        UsageError: an open run differs. RunFailed, EnvironmentFault: as the parts say; committed shards stay.
    """
    if options.push and spec.review.label_studio is not None:
        resolve_secret(spec.review.label_studio.token, os.environ)  # better said now than after hours of work
    runs = open_runs(spec)
    ledger = ledger_of(spec.ledger)
    with _own_unless(engine, options) as used:
        # Ray starts while the plan is made, and ends while the run is closed
        plan, standing = begin_or_go_on(runs, spec, options.selection, new=options.new, now=now, on_due=used.begin)
        if plan is not None:
            listener(Note(f"{'going on with' if standing else 'run'} {plan.run_id}: {_size_of(plan)}"))
            record = _drive(runs, plan, spec, ledger, options, listener, used)
    if plan is None:
        listener(Note(f"nothing is due: no item of {spec.corpus.uri} is new, changed or asked for again"))
        _note(lambda: sync_ledger(runs, ledger), listener)
        record = _nothing_due(runs, spec)
    record |= _audits(spec, runs, listener)
    return _with_push(record, spec, runs, ledger, options, listener)


def _own_unless(engine: Engine | None, options: Options) -> AbstractContextManager[Engine]:
    return Engine(debug=options.debug, is_shared=False) if engine is None else nullcontext(engine)


def resume_run(output: str, run_id: str, options: Options, listener: Listener) -> Ended:
    """Go on with one run as it was begun, with its own pins.

    Raises:
        UsageError: there is no such run, or it is closed.
        StoreError: the output honours no conditional puts, and the spec promises no single writer.
    """
    runs = Runs(open_store(parse(output)))
    plan = runs.plan(run_id)
    require_conditional_puts(runs.store, single_writer=plan.spec.single_writer)
    summary = runs.summary(run_id)
    if summary is not None:
        raise UsageError(
            f"run {run_id} at {output} is closed ({summary['state']})", hint="winnow run SPEC begins another"
        )
    ledger = ledger_of(plan.spec.ledger)
    listener(Note(f"going on with {plan.run_id}: {_size_of(plan)}"))
    with _own_unless(None, options) as engine:
        record = _drive(runs, plan, plan.spec, ledger, options, listener, engine)
    record |= _audits(plan.spec, runs, listener)
    return _with_push(record, plan.spec, runs, ledger, options, listener)


def find_output(ledger: Ledger, run_id: str) -> str:
    """The output that holds a run, from the ledger's index.

    Raises:
        UsageError: none, or several.
    """
    found = sorted({run.output for run in ledger.find_runs(run_id)})
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"the ledger knows no run {run_id}", hint=f"winnow resume {run_id} --output URI-OF-THE-OUTPUT")
    places = "\n  ".join(found)
    raise UsageError(f"several outputs have a run {run_id}:\n  {places}", hint=f"winnow resume {run_id} --output URI")


def _drive(
    runs: Runs,
    plan: PlanDocument,
    spec: ResolvedSpec,
    ledger: Ledger,
    options: Options,
    listener: Listener,
    engine: Engine,
) -> dict[str, Any]:
    # `spec` may differ from the plan's in where the work is done and where people are; the plan decides all else
    begun = RunRecord(runs.store.root.uri, plan.run_id, spec.job, "open", plan.digest, plan.created_at)
    _note(lambda: ledger.record_run(begun), listener)
    tally, seconds = work_through(runs, plan, spec, ledger, listener, options, engine=engine)
    if not engine.is_shared:
        engine.end()
    summary = finish(runs, plan, tally, seconds)
    _note(lambda: sync_ledger(runs, ledger), listener)
    return run_record(summary, spec)


def _note(what: Callable[[], None], listener: Listener) -> None:
    """In the ledger. It is an index of the bucket: a process that was stopped while it held it stops no run."""
    try:
        what()
    except LedgerError as error:
        text = f"the work goes on, but the ledger was not brought up to date: {error.message}; the next run does it"
        listener(Note(text, warning=True))


def _audits(spec: ResolvedSpec, runs: Runs, listener: Listener) -> dict[str, list[dict[str, Any]]]:
    """What audits say, and which promises are supported no longer."""
    try:
        return {"audit": audit_records(spec, runs), "support": support_records(spec, runs)}
    except StoreError as error:  # the run is closed, and what it selected must still reach people
        listener(Note(f"what audits say cannot be read: {error.message}; next: {error.hint}", warning=True))
        return {"audit": [], "support": []}


def _size_of(plan: PlanDocument) -> str:
    size = f"{counted(plan.items, 'item')} in {counted(plan.shards, 'shard')}"
    return size + (f", {plan.vectors:,} from committed vectors: nothing of them is fetched" if plan.vectors else "")


def run_record(summary: dict[str, Any], spec: ResolvedSpec) -> dict[str, Any]:
    """What `run --json` says: the run's summary with where it stands."""
    return summary | {
        "review": dict(summary.get("review", {"selected": 0})) | {"pushed": 0},
        "output": spec.output,
        "results": results_glob(parse(spec.output), summary["run_id"]),
    }


def _nothing_due(runs: Runs, spec: ResolvedSpec) -> dict[str, Any]:
    """What `run --json` says if nothing was due: of the newest run, which may be one that only holds a snapshot."""
    newest = runs.newest()
    has_results = newest is not None and runs.plan(newest).shards > 0
    return {
        "run_id": newest,
        "job": spec.job,
        "state": "nothing_due",
        "items": 0,
        "copied": 0,
        "from_vectors": 0,
        "outcomes": {},
        "shards": 0,
        "predictions": {},
        "review": {"selected": 0, "pushed": 0},
        "seconds": 0.0,
        "items_per_s": 0.0,
        "output": spec.output,
        "results": results_glob(parse(spec.output), newest) if newest is not None and has_results else None,
    }


def _with_push(
    record: dict[str, Any], spec: ResolvedSpec, runs: Runs, ledger: Ledger, options: Options, listener: Listener
) -> Ended:
    if not options.push or spec.review.label_studio is None:
        return Ended(record)
    try:
        pushed = push_pending(spec, runs, ledger, listener)
    except WinnowError as error:
        return Ended(record, error)
    record["review"]["pushed"] = pushed.sent
    return Ended(record)
