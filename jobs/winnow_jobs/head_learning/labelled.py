"""Which labelled items teach a head, and which are gold? People's consensus joined with the stored vectors.

Labels of all purposes teach: they need not be a fair sample. Never those of reserved items (`gate.gold`), nor items
that look the same as one of gold, nor answers to questions whose answers are known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow_annotation.gate.gold import is_reserved
from winnow_annotation.sampling import position
from winnow_jobs.consensus.answers import agreed_answers
from winnow_jobs.head_learning.head_task import HeadTask
from winnow_jobs.runs import Runs
from winnow_jobs.similar.space import Space, current_space
from winnow_jobs.verify.labels import read_labels
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.ids import digest_value
from winnow_storage.records import Label
from winnow_storage.schemas import Purpose
from winnow_storage.vectors import unit

Vectors = NDArray[np.float32]

COPY = 0.9999  # the least cosine of vectors of images that are the same for all that a head can see
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Labelled:
    """(n,) items by key and id, (n, d) their vectors, and what people say of them."""

    keys: tuple[str, ...]
    items: tuple[str, ...]
    vectors: Vectors
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, mask: NDArray[np.bool_]) -> "Labelled":
        """Some of them."""
        return self.at(np.flatnonzero(mask).tolist())

    def at(self, places: Sequence[int]) -> "Labelled":
        """Those at these places, in their order."""
        keys, items, labels = (tuple(of[place] for place in places) for of in (self.keys, self.items, self.labels))
        return Labelled(keys, items, self.vectors[np.array(places, np.int64)], labels)


@dataclass(frozen=True, slots=True)
class HeadLabels:
    """What teaches, by key; gold, in an order drawn by lot; and how many labelled items are neither, by reason."""

    teaching: Labelled
    gold: Labelled
    left_out: Mapping[str, int]
    digest: str  # of what teaches: keys, versions and labels


def job_events(runs: Runs) -> list[Label]:
    """Every label event.

    Raises:
        StoreError: an object among them is damaged.
    """
    labels, findings = read_labels(runs.store)
    for finding in findings:
        raise StoreError(f"{runs.store.root}/{finding.key}: {finding.what}", hint=finding.next)
    return labels


def head_labels(
    job: str, runs: Runs, task: HeadTask, events: Sequence[Label], *, reserved: float, gold: float
) -> HeadLabels:
    """Of one task. `reserved`: the share of all items that teaches not; `gold`: the one of which gold is, not larger.

    Raises:
        UsageError: nobody has answered anything, or the vectors are not there.
        StoreError: as the store says.
    """
    answers = agreed_answers(runs.store, events, job, task.name, "classify")
    said = {item: (live, str(value["label"])) for item, (live, value) in answers.items() if value.get("label")}
    if not said:
        raise UsageError(f"task {task.name}: nobody has answered anything about it yet", hint="winnow pull SPEC")
    block = _space(runs, task).vectors.of_items(said)
    left_out = {"without a vector": len(said) - block.rows.num_rows, "of another version": 0, "known answers": 0}
    places, labels = [], []
    rows = block.rows.select(["item_id", "key", "version"]).to_pylist()
    for place, row in enumerate(rows):
        live, label = said[row["item_id"]]
        if live.version != row["version"]:
            left_out["of another version"] += 1
        elif all(one.purpose == Purpose.GOLD for one in live.labels):
            left_out["known answers"] += 1
        else:
            places.append(place)
            labels.append(label)
    keys = tuple(rows[place]["key"] for place in places)
    items = tuple(rows[place]["item_id"] for place in places)
    there = Labelled(keys, items, block.vectors[np.array(places, np.int64)], tuple(labels))
    drawn = _drawn(events, job, task.name)
    fair = np.array([item in drawn for item in items], np.bool_)
    kept = _shuffled(there.where(fair & _reserved(job, task.name, keys, gold)), job, task.name)
    teaching = there.where(~_reserved(job, task.name, keys, reserved))
    left_out["reserved, and not in gold"] = len(there) - len(teaching) - len(kept)
    apart = ~_looks_like(teaching.vectors, kept.vectors)
    left_out["copies of gold"] = int((~apart).sum())
    teaching = teaching.where(apart)
    versions = {rows[place]["key"]: rows[place]["version"] for place in places}
    taught = [[key, versions[key], label] for key, label in zip(teaching.keys, teaching.labels, strict=True)]
    return HeadLabels(teaching, kept, {why: count for why, count in left_out.items() if count}, digest_value(taught))


def _reserved(job: str, task: str, keys: Sequence[str], share: float) -> NDArray[np.bool_]:
    return np.array([is_reserved(job, task, key, share=share) for key in keys], np.bool_)


def _space(runs: Runs, task: HeadTask) -> Space:
    """The current vectors, by the embed task as it is now."""
    space = current_space(runs, task.vectors.name)
    if space.task.digest != task.vectors.digest:
        raise UsageError(
            f"task {task.name}: the stored vectors of {task.vectors.name} are of another model or other parameters "
            f"than the spec has now (run {space.plan.run_id})",
            hint="winnow run SPEC makes them again, then learn",
        )
    return space


def _drawn(events: Sequence[Label], job: str, task: str) -> set[str]:
    """Items that a uniform draw of all predictions sent to somebody. An audit draws from the accepted only."""
    return {
        event.item_id for event in events if (event.job, event.task, event.purpose) == (job, task, Purpose.CALIBRATE)
    }


def _shuffled(gold: Labelled, job: str, task: str) -> Labelled:
    return gold.at(sorted(range(len(gold)), key=lambda place: position("gold order", job, task, gold.keys[place])))


def _looks_like(vectors: Vectors, others: Vectors) -> NDArray[np.bool_]:
    """(n,) whether a vector is that of one of the others."""
    found = np.zeros(len(vectors), np.bool_)
    units: NDArray[Any] = unit(others)
    for start in range(0, len(vectors) if len(others) else 0, _BLOCK):
        some = unit(vectors[start : start + _BLOCK])
        found[start : start + _BLOCK] = (some @ units.T).max(axis=1) >= COPY
    return found
