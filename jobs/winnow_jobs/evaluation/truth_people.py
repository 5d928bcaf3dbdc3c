"""What did people say? The job's own labels, or a Label Studio export, as truth: one answer per item.

Of several people's answers about an item their consensus counts (`winnow consensus`), in which the model has no voice;
of an export, which is read without a job, the most frequent class or verdict, a tie going to the newest, and of all
other answers the newest. What was skipped or deleted says nothing.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from winnow_annotation.tasks import value_of
from winnow_jobs.evaluation.json_lines import line_of
from winnow_jobs.evaluation.true_items import TrueItem, TrueObject, TruthSet
from winnow_storage.errors import UsageError
from winnow_storage.records import Label

BLIND = frozenset({"audit", "calibrate"})
_BY_MAJORITY = {"classify": "label", "anomaly": "is_anomalous"}


def from_labels(
    events: Iterable[Label],
    task: str,
    operator: str,
    purposes: Collection[str],
    agreed: Mapping[str, Mapping[str, Any]] | None = None,
) -> TruthSet:
    """People's answers about a task, from the events as they happened; only those of `purposes`, if any is named.

    `agreed` has by item_id what several answers about an item together say.

    Raises:
        UsageError: there is none.
    """
    live: dict[tuple[str, str], Label] = {}
    for event in events:
        if event.task == task:
            live[event.server, event.annotation_id] = event
    by_key: dict[str, list[Label]] = {}
    skipped = 0
    for label in sorted(live.values(), key=lambda one: str(one.updated_at)):
        if label.event == "deleted" or (purposes and label.purpose not in purposes):
            continue
        if label.was_cancelled or label.value is None:
            skipped += 1
            continue
        by_key.setdefault(label.key, []).append(label)
    if not by_key:
        asked = f" for {' or '.join(sorted(purposes))}" if purposes else ""
        raise UsageError(f"nobody has answered anything about {task}{asked} yet", hint="winnow pull SPEC")
    versions = {key: labels[-1].version for key, labels in by_key.items()}
    items: dict[str, TrueItem] = {}
    for key, labels in by_key.items():
        values = [json.loads(one.value or "{}") for one in labels if one.version == versions[key]]
        together = (agreed or {}).get(labels[-1].item_id) if len(values) > 1 else None
        item = _consensus(values, operator) if together is None else _answer(together, operator)
        if item is not None:
            items[key] = item
    notes = [f"{skipped:,} answers were skipped or are none of this interface"] if skipped else []
    shown = sum(one.purpose not in BLIND for labels in by_key.values() for one in labels)
    if shown:
        notes.append(
            f"{shown:,} answers are of items that were sent for being unsure, with the model's answer in view: "
            "what follows holds for those, not for all (--purpose audit,calibrate takes the random ones)"
        )
    return TruthSet(items, "labels", versions=versions, notes=tuple(notes))


def from_answers(answers: Iterable[Mapping[str, Any]], operator: str) -> TruthSet:
    """People's answers ({key, value: JSON}) as truth; those that say nothing are left out."""
    items = {}
    for row in answers:
        item = _answer(json.loads(row["value"]) if row["value"] else {}, operator)
        if item is not None:
            items[row["key"]] = item
    return TruthSet(items, "labels")


def read_export(path: Path, text: str, tasks: Sequence[Any], operator: str) -> TruthSet:
    """A JSON export of a Label Studio project. An image is named by its task's data.key, else by the end of data.image.

    Raises:
        UsageError: at file:line, a task that is none, or an answer of another interface.
    """
    items: dict[str, TrueItem] = {}
    for place, task in enumerate(tasks):
        data = task.get("data") if isinstance(task, dict) else None
        name = _name(data) if isinstance(data, dict) else None
        if name is None or not isinstance(task.get("annotations", []), list):
            raise _bad(path, text, place, "it has no data.key or data.image, or its annotations are no list")
        values = []
        for annotation in task.get("annotations") or []:
            if annotation.get("was_cancelled"):
                continue
            try:
                values.append(value_of(operator, annotation.get("result") or []))
            except ValueError as error:
                raise _bad(path, text, place, f"an answer is none about {operator}: {error}") from error
        item = _consensus(values, operator)
        if item is not None:
            items[name] = item
    if not items:
        raise UsageError(f"{path} holds no answer about {operator}", hint="export the project with annotations as JSON")
    return TruthSet(items, str(path))


def _consensus(values: Sequence[Mapping[str, Any]], operator: str) -> TrueItem | None:
    """The oldest first; None where nobody said anything."""
    field = _BY_MAJORITY.get(operator)
    if field is None:
        return _answer(values[-1], operator) if values else None
    if operator == "classify" and any(one.get("labels") is not None for one in values):
        field = "labels"
    said = [one for one in reversed(values) if one.get(field) is not None]
    # of equal counts the first that was met: the newest
    counts = Counter(json.dumps(one[field]) for one in said)
    best = counts.most_common(1)[0][0] if said else None
    return next((_answer(one, operator) for one in said if json.dumps(one[field]) == best), None)


def _answer(value: Mapping[str, Any], operator: str) -> TrueItem | None:
    if operator in _ANSWERS:
        return _ANSWERS[operator](value)
    if operator == "ocr" and "full_text" in value:
        return TrueItem(text=value["full_text"])
    if operator == "anomaly" and value.get("is_anomalous") is not None:
        return TrueItem(anomalous=bool(value["is_anomalous"]))
    if operator == "segment" and "masks" in value:
        return TrueItem(masks={one["label"]: one["rle"] for one in value["masks"]})
    if operator == "detect" and "boxes" in value:
        boxes = [TrueObject(one["label"], tuple(one["box"]), area=_area(one["box"])) for one in value["boxes"]]
        return TrueItem(objects=tuple(boxes))
    return None


def _class(value: Mapping[str, Any]) -> TrueItem | None:
    if value.get("labels") is not None:
        return TrueItem(labels=tuple(value["labels"]))
    path = tuple(value["path"]) if value.get("path") else None
    return None if value.get("label") is None else TrueItem(label=value["label"], path=path)


def _neighbours(value: Mapping[str, Any]) -> TrueItem | None:
    same = tuple(one["same"] for one in value.get("neighbours") or () if one["same"] is not None)
    return TrueItem(neighbours=same) if same else None


_ANSWERS: Mapping[str, Callable[[Mapping[str, Any]], TrueItem | None]] = {"classify": _class, "embed": _neighbours}


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _name(data: Mapping[str, Any]) -> str | None:
    if isinstance(data.get("key"), str):
        return str(data["key"])
    image = data.get("image")
    return image.rpartition("?d=")[2].rpartition("/")[2] or None if isinstance(image, str) else None


def _bad(path: Path, text: str, place: int, what: str) -> UsageError:
    line = line_of(text, "", place)
    return UsageError(f"{path}:{line}: task {place}: {what}", hint="export the project of this task as JSON")
