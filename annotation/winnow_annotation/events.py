"""What happened to the answers of a task since they were last seen? Pure: a task as served in, labels out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from winnow_annotation.label_studio import instant
from winnow_annotation.tasks import BLIND, comment_of, value_of
from winnow_storage.ids import canonical_json, digest_value
from winnow_storage.records import Label


@dataclass(frozen=True, slots=True)
class Origin:
    """Where answers are read: the server, the project with its interface, and who its users are."""

    url: str
    project_id: int
    config_hash: str
    emails: Mapping[int, str]


def events_of(task: Mapping[str, Any], seen: Mapping[str, Label], origin: Origin) -> list[Label]:
    """A label per annotation that is new, changed or gone; `seen` has the live annotations by id, as last seen.

    Tasks that people added by hand carry no dedupe_key and give none.
    """
    if "dedupe_key" not in task["data"]:
        return []
    annotations = {str(annotation["id"]): annotation for annotation in task["annotations"] or []}
    events = []
    for annotation_id, annotation in annotations.items():
        before = seen.get(annotation_id)
        if before is None or before.updated_at != instant(annotation["updated_at"]):
            events.append(_label(before, task, annotation, origin))
    gone = [label for key, label in seen.items() if label.ls_task_id == task["id"] and key not in annotations]
    return [*events, *(_deleted(label, instant(task["updated_at"]), origin) for label in gone)]


def events_of_gone(
    tasks: Collection[int], seen: Mapping[str, Label], origin: Origin, at: datetime | None
) -> list[Label]:
    """A label per live annotation of tasks that are not there any more; `at`: the newest time that the server knows."""
    gone = [label for label in seen.values() if label.ls_task_id in tasks]
    return [_deleted(label, at, origin) for label in gone]


def live_after(events: Sequence[Label], seen: Mapping[str, Label]) -> dict[str, Label]:
    """What `seen` becomes."""
    live = dict(seen)
    for event in events:
        if event.event == "deleted":
            live.pop(event.annotation_id, None)
        else:
            live[event.annotation_id] = event
    return live


def _label(before: Label | None, task: Mapping[str, Any], annotation: Mapping[str, Any], origin: Origin) -> Label:
    data, event = task["data"], "created" if before is None else "updated"
    skipped = bool(annotation["was_cancelled"])
    shown = None if data["purpose"] in BLIND else _shown(task, annotation)
    return Label(
        label_id=_label_id(origin, annotation["id"], event, annotation["updated_at"]),
        event=event,
        **{name: data[name] for name in _FROM_DATA},
        server=origin.url,
        annotation_id=str(annotation["id"]),
        project_id=origin.project_id,
        ls_task_id=int(task["id"]),
        annotator=_annotator(annotation["completed_by"], origin.emails),
        created_at=instant(annotation["created_at"]),
        updated_at=instant(annotation["updated_at"]),
        was_cancelled=skipped,
        lead_time_s=annotation["lead_time"],
        value=None if skipped else _value(data, annotation["result"]),
        raw=_json(annotation["result"]),
        config_hash=origin.config_hash,
        model=None if shown is None else data["model"],
        shown=shown,
        comment=comment_of(annotation["result"]),
        supersedes=None if before is None else before.label_id,
    )


_FROM_DATA = ("dedupe_key", "job", "task", "operator", "item_id", "version", "key", "uri", "purpose", "run_id")


def _deleted(label: Label, at: datetime | None, origin: Origin) -> Label:
    """Whoever notices it, and however late: it ends the state that was seen last, so its id follows from that one's."""
    return replace(
        label,
        label_id=_label_id(origin, label.annotation_id, "deleted", label.label_id),
        event="deleted",
        updated_at=at if label.updated_at is None or (at is not None and at > label.updated_at) else label.updated_at,
        value=None,
        raw=None,
        comment=None,
        supersedes=label.label_id,
    )


def _label_id(origin: Origin, annotation_id: object, event: str, state: str) -> str:
    """Equal for the same event however often it is read; `state` is when the server changed it, or what it ends."""
    return digest_value([origin.url, origin.project_id, str(annotation_id), event, state])[:32]


def _annotator(completed_by: Any, emails: Mapping[int, str]) -> str | None:
    if isinstance(completed_by, Mapping):
        return str(completed_by.get("email") or completed_by.get("id"))
    return None if completed_by is None else emails.get(int(completed_by), str(completed_by))


def _value(data: Mapping[str, Any], result: Any) -> str | None:
    """Null where a person changed the interface so that the answer is none of ours; `raw` then still has it."""
    try:
        return _json(value_of(data["operator"], result, neighbours=data.get("neighbours")))
    except ValueError:
        return None


def _json(value: Any) -> str:
    # half of a character (a lone surrogate) can be typed, but not stored; it must not stop every later pull
    return canonical_json(value).encode("utf-8", "replace").decode()


def _shown(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> str | None:
    """The prediction that the answer started from, or else the one that stood beside it."""
    predictions = task["predictions"] or []
    parent = [one for one in predictions if one["id"] == annotation.get("parent_prediction")]
    for prediction in parent or predictions:
        about = {name: prediction.get(name) for name in ("model_version", "score")}
        value = _value(task["data"], prediction["result"])
        return canonical_json({**about, "value": value})
    return None
