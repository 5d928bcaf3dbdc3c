"""Which run is worked on? The open one if it is the same, a new one otherwise; or none, if nothing is due.

Where nothing is due but the corpus is listed otherwise than by the newest run, a run without items takes that down: the
newest snapshot says which items there are, and in which version.
"""

import shlex
from collections.abc import Callable
from datetime import datetime

from winnow_jobs.draft import draft_run
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import ResolvedSpec, differences
from winnow_jobs.run import Tally, abandon, finish, is_abandoned
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.scratch import scratch
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.errors import UsageError
from winnow_storage.probe import require_conditional_puts
from winnow_storage.uri import parse

PLAN_ITEM_BYTES = 250  # if it is due


def open_run(runs: Runs) -> PlanDocument | None:
    """The newest run if nothing closed it yet."""
    newest = runs.newest()
    if newest is None or runs.summary(newest) is not None:
        return None
    return runs.plan(newest)


def begin_or_go_on(
    runs: Runs,
    spec: ResolvedSpec,
    selection: Selection,
    *,
    new: bool,
    now: Callable[[], datetime],
    on_due: Callable[[], None] = lambda: None,
) -> tuple[PlanDocument | None, bool]:
    """The run to work on, and whether it was begun before; (None, False) if nothing is due.

    `on_due` is called when the first due item is seen, while the plan of a new run is still being made.

    Raises:
        UsageError: an open run has another spec or selection.
        StoreError: a store cannot be used, or there is no room for what is due in the temporary folder.
    """
    while True:
        standing = open_run(runs)
        if standing is not None and standing.items == 0:
            _close_without_items(runs, standing)  # its driver ended between the two
            continue
        if standing is not None and not new and not is_abandoned(runs, standing):
            _refuse_other(standing, spec, selection)
            return standing, True
        if standing is not None:
            abandon(runs, standing)
        with scratch("plan", item_bytes=PLAN_ITEM_BYTES) as folder:
            draft = draft_run(runs, spec, selection, now=now(), folder=folder, on_due=on_due)
            if draft.plan.items == 0 and not draft.snapshot_is_new:
                return None, False
            if runs.begin(draft.plan, draft.files):
                if draft.plan.items > 0:
                    return draft.plan, False
                _close_without_items(runs, draft.plan)
                return None, False
        new = False  # another driver began this run a moment ago: look again, and join it if it is the same


def _close_without_items(runs: Runs, plan: PlanDocument) -> None:
    finish(runs, plan, Tally(), 0.0)


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
