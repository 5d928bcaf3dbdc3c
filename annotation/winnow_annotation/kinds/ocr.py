"""How are lines of text shown to a person, and read back? Each as a polygon (or rectangle) with its transcription."""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.kinds.geometry import Frame, Result, polygon_px

LABEL = "text"


def results(prediction: Mapping[str, Any], frame: Frame | None) -> list[Result]:
    """Three entries per line that share an id: its shape, its label and its text."""
    if frame is None:
        return []
    lines = sorted(prediction["lines"] or [], key=lambda line: int(line["order"]))
    return [entry for number, line in enumerate(lines) for entry in _line(f"line{number}", line, frame)]


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{lines: [{text, polygon, order}], full_text}; polygons in px, lines in the order of the answer."""
    shapes: dict[str, list[float]] = {}
    texts: dict[str, str] = {}
    for result in answer:
        if result["type"] == "textarea":
            texts[result["id"]] = "\n".join(result["value"].get("text", []))
        polygon = polygon_px(result) if "original_width" in result else None
        if polygon is not None:
            shapes.setdefault(result["id"], polygon)
    lines = [
        {"text": texts.get(name, ""), "polygon": polygon, "order": order}
        for order, (name, polygon) in enumerate(shapes.items())
    ]
    return {"lines": lines, "full_text": "\n".join(str(line["text"]) for line in lines)}


def _line(name: str, line: Mapping[str, Any], frame: Frame) -> list[Result]:
    shape = {"points": frame.percent(line["polygon"]), "closed": True}
    common = {"id": name, "to_name": "image", **frame.fields}
    if line.get("score") is not None:
        common["score"] = float(line["score"])
    return [
        {**common, "from_name": "polygon", "type": "polygon", "value": shape},
        {**common, "from_name": "label", "type": "labels", "value": {**shape, "labels": [LABEL]}},
        {**common, "from_name": "transcription", "type": "textarea", "value": {**shape, "text": [line["text"]]}},
    ]
