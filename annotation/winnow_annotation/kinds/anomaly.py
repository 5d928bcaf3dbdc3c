"""How is an anomaly shown to a person, and read back? As a verdict, boxes around regions, and where the heat is."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from winnow_annotation.brush_rle import MaskHW
from winnow_annotation.kinds import masks
from winnow_annotation.kinds.geometry import Frame, Result, box_xyxy_px, polygon_px

ANOMALOUS, NORMAL = "anomalous", "normal"
REGION, HEAT = "anomaly", "heat"
_BOUNDARY = 1.0  # heat is distance / threshold
_HOTTEST_RATIO = 0.9  # of the highest heat, shown where nothing reaches the boundary: what the model looked at


def results(prediction: Mapping[str, Any], frame: Frame | None) -> list[Result]:
    """The verdict, one rectangle per region, and one brush region that cannot be edited where the heat is high."""
    verdict = {"choices": [ANOMALOUS if prediction["is_anomalous"] else NORMAL]}
    entries: list[Result] = [
        {"id": "verdict", "from_name": "verdict", "to_name": "image", "type": "choices", "value": verdict}
    ]
    if frame is None:
        return entries
    for number, region in enumerate(prediction["regions"] or []):
        box = {**frame.percent_box(region["box"]), "rectanglelabels": [REGION]}
        entries.append(_region(f"region{number}", "region", "rectanglelabels", frame, box) | _score(region))
    heat = None if prediction["heat_map"] is None else _hot(prediction["heat_map"], frame)
    if heat is not None and heat.any():
        brush = masks.brush_value(heat, HEAT)
        entries.append(_region("heat", "heat", "brushlabels", frame, brush) | {"readonly": True})
    return entries


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{is_anomalous, regions: [{box}]}; is_anomalous is null without a verdict. The heat is no answer."""
    chosen = [word for result in answer if result["type"] == "choices" for word in result["value"]["choices"]]
    drawn = [polygon_px(result) for result in answer if result["type"] == "rectanglelabels"]
    regions = [{"box": box_xyxy_px(polygon)} for polygon in drawn if polygon is not None]
    return {"is_anomalous": chosen[0] == ANOMALOUS if chosen else None, "regions": regions}


def _hot(heat_map: Mapping[str, Any], frame: Frame) -> MaskHW:
    """Where the heat, stretched over the image, reaches the boundary, or at least nearly its own highest value."""
    cells = np.frombuffer(base64.b64decode(heat_map["values"]), np.uint8)
    grid = cells.reshape(heat_map["height"], heat_map["width"]).astype(np.float32) * heat_map["scale"]
    size = (frame.width_px, frame.height_px)
    heat = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BILINEAR))
    return np.asarray((heat > 0) & (heat >= min(_BOUNDARY, float(heat.max()) * _HOTTEST_RATIO)))


def _region(name: str, control: str, kind: str, frame: Frame, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": name, "from_name": control, "to_name": "image", "type": kind, "value": value, **frame.fields}


def _score(region: Mapping[str, Any]) -> dict[str, float]:
    return {} if region.get("score") is None else {"score": float(region["score"])}
