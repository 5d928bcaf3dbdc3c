"""Which answers stand? Of every item the last one of each person, about the version that was answered last."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from winnow_annotation.consensus.opinions import Opinion
from winnow_storage.records import Label

NOBODY = "unknown"  # an annotator whom Label Studio does not name


@dataclass(frozen=True, slots=True)
class LiveItem:
    """The answers about an item's version, one per person, by person's name."""

    item_id: str
    version: str
    labels: tuple[Label, ...]

    @property
    def last(self) -> Label:
        """The newest answer."""
        return max(self.labels, key=_when)

    def value(self, label: Label) -> Mapping[str, Any]:
        """What a label says, in our frames."""
        found: Mapping[str, Any] = json.loads(label.value or "{}")
        return found

    def opinions(self, without: Iterable[str] = ()) -> list[Opinion]:
        """Of everybody, those of these label_ids aside."""
        left_out = set(without)
        return [
            Opinion(self.item_id, who(label), self.value(label), is_blind=label.shown is None)
            for label in self.labels
            if label.label_id not in left_out
        ]


def live_items(events: Iterable[Label], job: str, task: str) -> dict[str, LiveItem]:
    """By item_id, from events in the order in which they happened; skipped and deleted answers say nothing."""
    annotations: dict[tuple[str, str], Label] = {}
    for event in events:
        if (event.job, event.task) == (job, task):
            annotations[event.server, event.annotation_id] = event
    by_item: dict[str, list[Label]] = defaultdict(list)
    for label in sorted(annotations.values(), key=_when):
        if label.event != "deleted" and not label.was_cancelled and label.value:
            by_item[label.item_id].append(label)
    found = {}
    for item, labels in by_item.items():
        version = labels[-1].version
        last = {who(label): label for label in labels if label.version == version}
        found[item] = LiveItem(item, version, tuple(last[name] for name in sorted(last)))
    return found


def who(label: Label) -> str:
    """The person, as Label Studio names them."""
    return label.annotator or NOBODY


def _when(label: Label) -> tuple[str, str]:
    at = label.updated_at or label.created_at
    return ("" if at is None else at.isoformat(), label.label_id)
