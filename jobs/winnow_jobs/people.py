"""How do a job's decisions reach people, and their answers come back? Bucket, ledger and Label Studio together."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow_annotation.label_set import LabelSet
from winnow_annotation.tasks import PushItem, adjudication_queue
from winnow_jobs.consensus.asked import asked_items
from winnow_jobs.events import Listener, Note
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.routes import TO_PEOPLE, iter_routes
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.words import counted
from winnow_storage.errors import BlobMissing, StoreError, UsageError
from winnow_storage.ids import canonical_json
from winnow_storage.ledger import Ledger
from winnow_storage.records import PushState, RunRecord
from winnow_storage.schemas import Outcome, Purpose
from winnow_workers.classifiers.label_tree import read_tree
from winnow_workers.fetch import Fetcher
from winnow_workers.models.labels import labels_of
from winnow_workers.operator import TaskConfig
from winnow_workers.rendition import to_browser_image
from winnow_workers.signals import REPLACED, ItemSignal

if TYPE_CHECKING:
    from winnow_annotation.label_studio import LabelStudioClient
    from winnow_annotation.pull import PullSummary
    from winnow_annotation.push import PushSummary

# Label Studio's SDK takes seconds to import, and most commands never speak to it: hence the imports in functions.

NOT_AS_IT_WAS = (Outcome.MISSING, Outcome.UNREADABLE, Outcome.REJECTED)  # of what was read during its run
CLOSED = ("done", "partial", "failed", "abandoned")


def sync_ledger(runs: Runs, ledger: Ledger) -> None:
    """Bring the ledger's index up to what the bucket says: closed runs, and the review tasks that they selected.

    The bucket is the truth, so a lost ledger is rebuilt by this, and a crash between the two is repaired by it.
    """
    known = {run.run_id: run.state for run in ledger.runs(output=runs.store.root.uri)}
    for run_id in runs.ids():
        if known.get(run_id) in CLOSED:
            continue
        summary = runs.summary(run_id)
        if summary is not None:
            index_run(runs, ledger, runs.plan(run_id), summary)
    ledger.add_review_tasks([item.pending(runs.store.root.uri) for item in asked_items(runs.store)])


def index_run(runs: Runs, ledger: Ledger, plan: PlanDocument, summary: dict[str, Any] | None) -> int:
    """Note a run as the bucket has it, open or closed; how many of its review tasks were new to the ledger.

    Those are noted as not sent: which of them Label Studio has is found by the next push, before it sends any.
    """
    output = runs.store.root.uri
    new = ledger.add_review_tasks([item.pending(output) for item in _push_items(runs, plan.run_id)])
    ledger.record_run(
        RunRecord(
            output,
            plan.run_id,
            plan.spec.job,
            "open" if summary is None else summary["state"],
            plan.digest,
            plan.created_at,
            summary=None if summary is None else canonical_json(summary),
        )
    )
    return new


def push_pending(spec: ResolvedSpec, runs: Runs, ledger: Ledger, listener: Listener) -> "PushSummary":
    """Send every review task of the job that Label Studio does not have yet, run by run.

    Raises:
        UsageError: the spec names no Label Studio.
        LabelStudioError: it is unreachable or refuses; what was sent is known, and the same call goes on.
    """
    from winnow_annotation.push import Asking, PushSummary, push

    client = client_of(spec)
    output = runs.store.root.uri
    if _put_gold(spec, runs):
        sync_ledger(runs, ledger)
    asked = asked_items(runs.store)
    waiting = ledger.review_tasks(output=output, states=[PushState.PENDING, PushState.SENDING])
    total = PushSummary(sent=0, already=0, swept=0)
    if not waiting:
        return total
    listener(Note(f"sending {counted(len(waiting), 'review task')} to Label Studio at {client.url}"))
    render = partial(_render, fetcher=Fetcher(spec.limits, settings=spec.decode))
    for run_id in dict.fromkeys(task.run_id for task in waiting):
        keys = {task.dedupe_key for task in waiting if task.run_id == run_id}
        # by the run's own plan: the spec may have lost a task that people were already chosen for
        labels = {task.name: label_set_of(task.config()) for task in runs.plan(run_id).tasks()}
        further = [item for item in asked if item.run_id == run_id]
        items = _mixed([item for item in [*_push_items(runs, run_id), *further] if item.dedupe_key in keys])
        if spec.review.blind:
            items = [replace(item, prediction=None) if item.route == Purpose.REVIEW else item for item in items]
        overlaps = {name: spec.review.limits(name).overlap for name in labels}
        asking = Asking(overlaps, spec.review.instructions, _projects(spec))
        done = push(client, ledger, items, output=runs.store, labels=labels, render=render, asking=asking)
        total = PushSummary(total.sent + done.sent, total.already + done.already, total.swept + done.swept)
    return total


def pull_labels(spec: ResolvedSpec, runs: Runs, ledger: Ledger) -> "PullSummary":
    """Bring the answers to the job's review tasks into the bucket and the ledger.

    Raises:
        UsageError: the spec names no Label Studio.
        LabelStudioError: it is unreachable or refuses.
    """
    from winnow_annotation.pull import pull

    tasks = [queue for task in spec.tasks for queue in (task.name, adjudication_queue(task.name))]
    return pull(client_of(spec), ledger, runs.store, job=spec.job, tasks=tasks)


def ask_further(spec: ResolvedSpec, runs: Runs, ledger: Ledger, listener: Listener) -> dict[str, int]:
    """Send what people's answers made necessary, and put what is not settled before another person; how many each.

    Nothing where the spec names no Label Studio.

    Raises:
        LabelStudioError: it is unreachable or refuses; the same call goes on.
    """
    if spec.review.label_studio is None:
        return {"sent": 0, "reopened": 0}
    from winnow_jobs.consensus.further import overlaps_wanted, raise_overlaps
    from winnow_jobs.consensus.rows import standing_rows

    sent = push_pending(spec, runs, ledger, listener).sent
    wanted = overlaps_wanted(spec, runs, list(standing_rows(runs.store).values()))
    tasks = [task.name for task in spec.tasks]
    reopened = raise_overlaps(client_of(spec), ledger, runs.store.root.uri, wanted, queues=tasks) if wanted else 0
    return {"sent": sent, "reopened": reopened}


def client_of(spec: ResolvedSpec) -> "LabelStudioClient":
    """The Label Studio of a spec.

    Raises:
        UsageError: it names none.
    """
    if spec.review.label_studio is None:
        raise UsageError(
            f"the spec of {spec.job} names no Label Studio",
            hint='add review: {label_studio: {url: "http://127.0.0.1:8080", token: "${LABEL_STUDIO_TOKEN}"}}',
        )
    from winnow_annotation.label_studio import connect

    return connect(spec.review.label_studio, os.environ)


def label_set_of(task: TaskConfig) -> LabelSet:
    """What people can choose from in a task, and how.

    Raises:
        ModelError, StoreError: the weights file that holds the card cannot be read.
    """
    tree = task.params.get("tree") if task.operator == "classify" else None
    return LabelSet(labels_of(task), task.params.get("choose") == "several", read_tree(tree) if tree else {})


def _projects(spec: ResolvedSpec) -> Mapping[str, str]:
    return {} if spec.review.label_studio is None else spec.review.label_studio.projects


def _render(uri: str, version: str, *, fetcher: Fetcher) -> bytes:
    try:
        return to_browser_image(uri, version, fetcher)
    except ItemSignal as signal:
        is_gone = signal.outcome in NOT_AS_IT_WAS or signal.reason == REPLACED
        gone = BlobMissing if is_gone else StoreError
        raise gone(
            f"{uri} was read during its run and is {signal.outcome} now: {signal.reason}",
            hint="was it replaced? winnow run takes the new version; then push again",
        ) from signal


def _put_gold(spec: ResolvedSpec, runs: Runs) -> int:
    if not spec.review.gold:
        return 0
    from winnow_jobs.consensus.further import put_gold  # what it imports takes a second

    return put_gold(spec, runs)


def _mixed(items: Sequence[PushItem]) -> list[PushItem]:
    """In their order, but with gold spread evenly among the others, so that nobody knows it by its place."""
    gold = [item for item in items if item.route == Purpose.GOLD]
    others = [item for item in items if item.route != Purpose.GOLD]
    places = [((place + 0.5) / len(gold), item) for place, item in enumerate(gold)]
    places += [((place + 0.5) / len(others), item) for place, item in enumerate(others)]
    return [item for _, item in sorted(places, key=lambda pair: pair[0])]


def _push_items(runs: Runs, run_id: str) -> Sequence[PushItem]:
    to_people = pa.array([str(route) for route in TO_PEOPLE])
    items: list[PushItem] = []
    for batch in iter_routes(runs.store, run_id):  # most routes go to nobody: those are never all in memory
        chosen = batch.filter(pc.is_in(batch.column("route"), to_people))
        items += [PushItem.from_row(row) for row in chosen.to_pylist()]
    return items
