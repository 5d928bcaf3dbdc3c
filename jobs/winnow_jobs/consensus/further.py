"""Who is asked next? Another person where the consensus is not sure, an adjudicator, or somebody to look again."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from winnow_annotation.consensus.decision import State
from winnow_annotation.people_spec import MOST_PEOPLE
from winnow_jobs.consensus.asked import Place, ask, asked_rows, put_asked, sent_rows
from winnow_jobs.consensus.form import TaskConsensus, form_consensus, job_labels
from winnow_jobs.consensus.live import LiveItem, live_items, who
from winnow_jobs.consensus.rows import ConsensusRow, put_rows
from winnow_jobs.consensus.second_look import Doubt, doubts
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.routes import is_routed
from winnow_jobs.runs import Runs
from winnow_storage.ids import canonical_json
from winnow_storage.ledger import Ledger
from winnow_storage.records import PushState
from winnow_storage.schemas import Purpose

if TYPE_CHECKING:
    from winnow_annotation.label_studio import LabelStudioClient

DISPUTED = "disputed"


def settle(spec: ResolvedSpec, runs: Runs, *, tasks: Sequence[str], at: datetime) -> dict[str, Any]:
    """Form the consensus, append what is new of it, and put what follows from it to be asked; the record of that.

    Raises:
        StoreError, UsageError: as `form_consensus` and `doubts` say; what was put before stays.
    """
    found = form_consensus(spec, runs, tasks=tasks, at=at)
    put_rows(runs.store, [row for one in found for row in one.new])
    before, sent = asked_rows(runs.store), sent_rows(runs)
    events = job_labels(runs)
    asked: list[dict[str, Any]] = []
    for one in found:
        live = live_items(events, spec.job, one.task)
        asked += _adjudications(spec, one, live, sent)
        answered = {label.dedupe_key for item in live.values() for label in item.labels}
        asked += _second_looks(spec, doubts(spec, runs, one, sent), sent, before, answered)
    put_asked(runs.store, asked, before)
    known = {row["dedupe_key"] for row in before}
    new = [row for row in asked if row["dedupe_key"] not in known]
    return {
        "job": spec.job,
        "tasks": [
            one.record() | {"asked": {purpose.value: _count(new, one.task, purpose) for purpose in _FURTHER}}
            for one in found
        ],
    }


def put_gold(spec: ResolvedSpec, runs: Runs) -> int:
    """Put the questions with known answers of every routed run that has none yet; how many they are."""
    if not spec.review.gold:
        return 0
    from winnow_jobs.consensus.gold import gold_draws

    known = asked_rows(runs.store)
    served = {row["run_id"] for row in known if row["route"] == Purpose.GOLD}
    rows = [
        row
        for run_id in runs.ids()
        if run_id not in served and is_routed(runs.store, run_id)
        for row in gold_draws(spec, runs, run_id)
    ]
    return put_asked(runs.store, rows, known)


def overlaps_wanted(spec: ResolvedSpec, runs: Runs, rows: Sequence[ConsensusRow]) -> dict[str, int]:
    """By dedupe_key, how many people are to answer a review task that stands in Label Studio.

    Everybody answers gold. Of several review tasks about one item the one that was answered last is put again.
    """
    wanted = {row["dedupe_key"]: MOST_PEOPLE for row in asked_rows(runs.store) if row["route"] == Purpose.GOLD}
    asking = {(row.task, row.item_id): row for row in rows if row.state == State.ASKING}
    if not asking:
        return wanted
    events = job_labels(runs)
    for task in sorted({task for task, _ in asking}):
        for item, live in live_items(events, spec.job, task).items():
            row = asking.get((task, item))
            if row is not None:
                there = sum(label.dedupe_key == live.last.dedupe_key for label in live.labels)
                wanted[live.last.dedupe_key] = there + row.wanted - row.votes
    return wanted


def raise_overlaps(
    client: "LabelStudioClient", ledger: Ledger, output: str, wanted: Mapping[str, int], *, queues: Sequence[str]
) -> int:
    """Put review tasks before another person; how many that were not before one already.

    Raises:
        LabelStudioError: unreachable or refusing; the same call goes on.
    """
    changed = 0
    for queue in queues:
        pushed = ledger.review_tasks(output=output, states=[PushState.PUSHED], task=queue)
        by_project: dict[int, dict[str, int]] = {}
        for task in pushed:
            if task.dedupe_key in wanted and task.project_id is not None:
                by_project.setdefault(task.project_id, {})[task.dedupe_key] = wanted[task.dedupe_key]
        for project_id, keys in by_project.items():
            changed += client.raise_overlaps(project_id, keys)
    return changed


_FURTHER = (Purpose.ADJUDICATE, Purpose.SECOND_LOOK)


def _count(rows: Sequence[Mapping[str, Any]], task: str, purpose: Purpose) -> int:
    return sum(row["task"] == task and row["route"] == purpose for row in rows)


def _adjudications(
    spec: ResolvedSpec,
    found: TaskConsensus,
    live: Mapping[str, LiveItem],
    sent: Mapping[Place, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    adjudicate = spec.review.adjudicate
    if adjudicate is None:
        return []
    disputed = [row for row in found.rows if row.state == State.DISPUTED]
    asked = []
    for row in disputed:
        source = sent.get((row.task, row.item_id, row.version))
        if source is not None:
            shown = _who_said_what(live[row.item_id]) if adjudicate.show else None
            asked.append(ask(source, Purpose.ADJUDICATE, DISPUTED, prediction=shown))
    return asked


def _who_said_what(live: LiveItem) -> str:
    """JSON of {answers: [{annotators, value}]}: each answer once, what most said first."""
    people: dict[str, list[str]] = {}
    for label in live.labels:
        people.setdefault(canonical_json(live.value(label)), []).append(who(label))
    ordered = sorted(people.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return canonical_json({"answers": [{"annotators": names, "value": json.loads(text)} for text, names in ordered]})


def _second_looks(
    spec: ResolvedSpec,
    doubtful: Sequence[Doubt],
    sent: Mapping[Place, Mapping[str, Any]],
    before: Sequence[Mapping[str, Any]],
    answered: Collection[str],
) -> list[dict[str, Any]]:
    """Each item's version once; those that nobody has answered yet count against the budget."""
    if spec.review.second_look is None or not doubtful:
        return []
    task = doubtful[0].row.task
    looked = [row for row in before if row["route"] == Purpose.SECOND_LOOK and row["task"] == task]
    places = {(row["task"], row["item_id"], row["version"]) for row in looked}
    waiting = sum(row["dedupe_key"] not in answered for row in looked)
    asked = []
    for one in doubtful:
        place = (one.row.task, one.row.item_id, one.row.version)
        if place in sent and place not in places:
            asked.append(ask(sent[place], Purpose.SECOND_LOOK, one.reason))
    return asked[: max(spec.review.second_look.budget - waiting, 0)]
