"""How are boxes shown to a person, and read back? As rectangles; what was nearly found is shown faintly beside them.

A faint rectangle, a candidate, is no answer unless the person marks it as real.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.kinds.geometry import Frame, Result, box_xyxy_px, polygon_px

REAL = "real"
_MAX_CANDIDATES = 30  # the strongest: more would hide the image


def results(prediction: Mapping[str, Any], frame: Frame | None) -> list[Result]:
    """One rectangle per box that is put out, and one per strong candidate below, each with its score."""
    if frame is None:
        return []
    boxes = prediction["boxes"] or []
    out = [box for box in boxes if box["is_output"]]
    held = sorted((box for box in boxes if not box["is_output"]), key=lambda box: -float(box["score"]))
    shown = [_region(f"box{number}", "box", box, frame) for number, box in enumerate(out)]
    faint = [_region(f"candidate{number}", "candidate", box, frame) for number, box in enumerate(held)]
    return [*shown, *faint[:_MAX_CANDIDATES]]


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{boxes: [{label, box}]}, xyxy px; of candidates those that are marked as real. A turned one: the box around."""
    real = {result["id"] for result in answer if result["type"] == "choices" and REAL in result["value"]["choices"]}
    boxes = [
        {"label": label, "box": box_xyxy_px(polygon_px(result) or [])}
        for result in answer
        if result["type"] == "rectanglelabels" and (result["from_name"] != "candidate" or result["id"] in real)
        for label in result["value"].get("rectanglelabels", [])
    ]
    return {"boxes": boxes}


def _region(name: str, control: str, box: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    value = {**frame.percent_box(box["box"]), "rectanglelabels": [box["label"]]}
    common = {"id": name, "from_name": control, "to_name": "image", "type": "rectanglelabels", "value": value}
    return {**common, **frame.fields, "score": float(box["score"])}
