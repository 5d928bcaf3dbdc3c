"""How is a class shown to a person, and read back? As one choice."""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.kinds.geometry import Frame, Result


def results(prediction: Mapping[str, Any], _frame: Frame | None) -> list[Result]:
    """The predicted label as the chosen one."""
    if prediction["label"] is None:
        return []
    value = {"choices": [prediction["label"]]}
    return [{"id": "label", "from_name": "label", "to_name": "image", "type": "choices", "value": value}]


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{label}: null if the person chose none."""
    chosen = [label for result in answer if result["type"] == "choices" for label in result["value"]["choices"]]
    return {"label": chosen[0] if chosen else None}
