"""What is exported of people's answers? Every state of them, or what those about an item together say."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from winnow_jobs.consensus.answers import agreed_answers
from winnow_jobs.consensus.asked import asked_rows, sent_rows
from winnow_jobs.consensus.live import who
from winnow_jobs.runs import Runs
from winnow_jobs.verify.labels import read_labels
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import StoreError
from winnow_storage.records import Label

Sizes = Mapping[tuple[str, str, str], tuple[int, int]]  # (task, item_id, version) -> (height, width) px


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the answers about an item's version say together, in our frames; `labels` are those that stand.

    `like`: the key of the near-duplicate that they are about, where nobody was asked about the item itself.
    """

    key: str
    item_id: str
    version: str
    uri: str
    value: Mapping[str, Any]
    labels: tuple[Label, ...]
    size: tuple[int, int] | None = None  # (height, width) px of the upright image, where it is known
    like: str | None = None

    @property
    def people(self) -> list[str]:
        """Who answered, each once."""
        return sorted({who(label) for label in self.labels})

    @property
    def purposes(self) -> list[str]:
        """What they were asked for: of a near-duplicate nothing, so that it passes for no draw."""
        return [] if self.like is not None else sorted({label.purpose for label in self.labels})


@dataclass(frozen=True, slots=True)
class TaskAnswers:
    """The answers about one task: what they say of each item, by key, and how many are not among it, and why."""

    task: str
    operator: str
    items: tuple[Agreed, ...]
    answers: int  # annotations that stand and say something
    skipped: int
    deleted: int
    other_interface: int  # a person changed the interface, so that the answer is none of ours
    not_last: int  # the same person answered again, or a newer version of the image was answered
    spread: int = 0  # of the items, near-duplicates that nobody was asked about
    contradicting: int = 0  # near-duplicates of several answered ones that differ

    def counts(self) -> dict[str, int]:
        """As records have them."""
        names = ("answers", "skipped", "deleted", "other_interface", "not_last", "spread", "contradicting")
        return {"items": len(self.items)} | {name: getattr(self, name) for name in names}


def chosen_labels(store: BlobStore, *, tasks: Collection[str], purposes: Collection[str]) -> list[Label]:
    """Every event of these tasks and purposes, of all where none is named, as they happened.

    Raises:
        StoreError: as the store says, or an object of labels is damaged.
    """
    labels, findings = read_labels(store)
    for finding in findings:
        raise StoreError(f"{store.root}/{finding.key}: {finding.what}", hint=finding.next)
    return [
        label for label in labels if (not tasks or label.task in tasks) and (not purposes or label.purpose in purposes)
    ]


def answers_of(store: BlobStore, events: Sequence[Label], sizes: Sizes | None = None) -> list[TaskAnswers]:
    """By task, what the answers in `events` say.

    Raises:
        StoreError: a row of the consensus cannot be read.
    """
    subjects = sorted({(event.job, event.task, event.operator) for event in events})
    return [_of_task(store, events, subject, sizes or {}) for subject in subjects]


def sizes_of(runs: Runs) -> Sizes:
    """Of every image that people were asked about, as far as rows say it.

    Raises:
        StoreError: as the store says, or an object is damaged.
    """
    rows = [*sent_rows(runs).values(), *asked_rows(runs.store)]
    return {
        (row["task"], row["item_id"], row["version"]): (int(row["height"]), int(row["width"]))
        for row in rows
        if row["height"] is not None and row["width"] is not None
    }


def label_rows(events: Sequence[Label]) -> list[dict[str, Any]]:
    """Every event as a row: the columns of `schemas.LABELS`, `superseded_by`, and `stands`: whether it counts now."""
    after = {event.supersedes: event.label_id for event in events if event.supersedes is not None}
    last = set(_last(events).values())
    return [
        asdict(event)
        | {
            "superseded_by": after.get(event.label_id),
            "stands": event.label_id in last and event.event != "deleted" and not event.was_cancelled,
        }
        for event in events
    ]


def answer_rows(answers: Iterable[TaskAnswers]) -> list[dict[str, Any]]:
    """What the answers say together as rows, one for each item and task."""
    return [
        {
            "task": of.task,
            "operator": of.operator,
            "item_id": one.item_id,
            "version": one.version,
            "key": one.key,
            "uri": one.uri,
            "value": json.dumps(one.value, ensure_ascii=False, sort_keys=True),
            "answers": len(one.labels),
            "annotators": one.people,
            "purposes": one.purposes,
            "labels": [label.label_id for label in one.labels],
            "answered_at": _newest(one.labels),
            "like": one.like,
        }
        for of in answers
        for one in of.items
    ]


def _of_task(store: BlobStore, events: Sequence[Label], subject: tuple[str, str, str], sizes: Sizes) -> TaskAnswers:
    job, task, operator = subject
    own = [event for event in events if (event.job, event.task) == (job, task)]
    by_id = {event.label_id: event for event in own}
    last = [by_id[label_id] for label_id in _last(own).values()]
    said = [one for one in last if one.event != "deleted" and not one.was_cancelled and one.value]
    found = []
    for live, value in agreed_answers(store, own, job, task, operator).values():
        newest = live.last
        size = sizes.get((task, live.item_id, live.version))
        found.append(Agreed(newest.key, live.item_id, live.version, newest.uri, value, live.labels, size))
    return TaskAnswers(
        task,
        operator,
        tuple(sorted(found, key=lambda one: one.key)),
        answers=len(said),
        skipped=sum(one.event != "deleted" and one.was_cancelled for one in last),
        deleted=sum(one.event == "deleted" for one in last),
        other_interface=sum(one.event != "deleted" and not one.was_cancelled and not one.value for one in last),
        not_last=len(said) - sum(len(one.labels) for one in found),
    )


def _newest(labels: Iterable[Label]) -> datetime | None:
    return max((label.updated_at for label in labels if label.updated_at is not None), default=None)


def _last(events: Iterable[Label]) -> dict[tuple[str, str], str]:
    """The label_id of the last event of every annotation."""
    return {(event.server, event.annotation_id): event.label_id for event in events}
