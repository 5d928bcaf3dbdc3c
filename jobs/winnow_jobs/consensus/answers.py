"""What do people say of each item, as one answer? What learning and measuring read; the model has no voice in it.

A consensus in which the model spoke would call the model right too often, so it cannot measure that model.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from winnow_annotation.consensus.opinions import Value
from winnow_jobs.consensus.live import LiveItem, live_items
from winnow_jobs.consensus.rows import is_withdrawn, standing_rows
from winnow_storage.blobs import BlobStore
from winnow_storage.ids import canonical_json
from winnow_storage.records import Label


def agreed_answers(
    store: BlobStore, events: Iterable[Label], job: str, task: str, operator: str
) -> dict[str, tuple[LiveItem, Value]]:
    """By item_id: the answers that stand, and what they say together.

    The consensus that was formed of just these answers, where it stands in the bucket; of several answers without one
    it is formed now, as `winnow consensus` would without known answers.

    Raises:
        StoreError: as the store says, or a row of the consensus cannot be read.
    """
    live = live_items(events, job, task)
    rows = standing_rows(store)
    found: dict[str, tuple[LiveItem, Value]] = {}
    missing: set[str] = set()
    for item, one in live.items():
        row = rows.get((job, task, item))
        ids = {label.label_id for label in one.labels}
        if row is not None and not is_withdrawn(row) and set(row.labels) == ids and row.version == one.version:
            found[item] = one, json.loads(row.people_answer)
        elif len(one.labels) == 1:
            found[item] = one, one.value(one.labels[0])
        else:
            missing.add(item)
    if missing:
        merged = _merged(operator, live)
        found |= {item: (live[item], merged[item]) for item in missing if item in merged}
    return found


def with_one_answer(store: BlobStore, events: Sequence[Label]) -> list[Label]:
    """The same events, but where several people's answers about an item stand each of them says what all together say.

    Raises:
        StoreError: as `agreed_answers` says.
    """
    changed: dict[str, str] = {}
    for job, task, operator in sorted({(event.job, event.task, event.operator) for event in events}):
        for live, value in agreed_answers(store, events, job, task, operator).values():
            if len(live.labels) > 1:
                changed |= dict.fromkeys((label.label_id for label in live.labels), canonical_json(value))
    return [replace(event, value=changed.get(event.label_id, event.value)) for event in events]


def _merged(operator: str, live: Mapping[str, LiveItem]) -> dict[str, Value]:
    from winnow_annotation.consensus.kinds import OPERATORS, Rules, consensus_of  # it imports scipy

    if operator not in OPERATORS:
        return {item: one.value(one.last) for item, one in live.items()}
    opinions = [opinion for one in live.values() for opinion in one.opinions()]
    return {item: answer.value for item, answer in consensus_of(operator, opinions, Rules()).answers.items()}
