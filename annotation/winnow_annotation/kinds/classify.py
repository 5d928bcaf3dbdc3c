"""How is a class shown to a person, and read back? As one choice, as several, or as a place in a taxonomy."""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.kinds.geometry import Frame, Result

NONE = "(none of these)"  # said of an item without any label; an interface cannot tell no answer from an empty one


def results(prediction: Mapping[str, Any], _frame: Frame | None) -> list[Result]:
    """The predicted label, set or node as the chosen one."""
    if prediction.get("labels") is not None:
        return [_result("labels", "choices", list(prediction["labels"]) or [NONE])]
    if prediction.get("path") is not None:
        path = [one["label"] for one in prediction["path"]]
        return [_result("path", "taxonomy", [path])] if path else []
    return [] if prediction["label"] is None else [_result("label", "choices", [prediction["label"]])]


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{label}, null if the person chose none; {labels} of a set, sorted; {label, path} of a node, from the top down."""
    for result in answer:
        if result["type"] == "taxonomy":
            (path, *_) = result["value"]["taxonomy"]
            return {"label": path[-1], "path": list(path)}
    chosen = [label for result in answer if result["type"] == "choices" for label in result["value"]["choices"]]
    if any(result["type"] == "choices" and result.get("from_name") == "labels" for result in answer):
        return {"labels": sorted({label for label in chosen if label != NONE})}
    return {"label": chosen[0] if chosen else None}


def _result(name: str, kind: str, chosen: list[Any]) -> Result:
    return {"id": name, "from_name": name, "to_name": "image", "type": kind, "value": {kind: chosen}}
