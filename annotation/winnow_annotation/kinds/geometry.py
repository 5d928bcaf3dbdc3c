"""Where is a shape in Label Studio's frame? Percent of the image there, absolute pixels of the upright image here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]  # one entry of an annotation's or a prediction's `result`


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of the upright image."""

    width_px: int
    height_px: int

    @property
    def fields(self) -> Mapping[str, int]:
        """What every region of Label Studio says about its image."""
        return {"original_width": self.width_px, "original_height": self.height_px, "image_rotation": 0}

    def percent(self, polygon_px: Sequence[float]) -> list[list[float]]:
        """[[x, y], ...] in percent of [x, y, x, y, ...]."""
        return [
            [x * 100 / self.width_px, y * 100 / self.height_px]
            for x, y in zip(polygon_px[0::2], polygon_px[1::2], strict=True)
        ]

    def percent_box(self, box_xyxy_px: Sequence[float]) -> Mapping[str, float]:
        """Label Studio's rectangle of [x0, y0, x1, y1]."""
        (x0, y0), (x1, y1) = self.percent(box_xyxy_px)
        return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0, "rotation": 0}


def frame_of(result: Result) -> Frame:
    """The image that a region was drawn on."""
    return Frame(int(result["original_width"]), int(result["original_height"]))


def polygon_px(result: Result) -> list[float] | None:
    """[x, y, x, y, ...] of a polygon or of a (turned) rectangle; None of anything else."""
    value, frame = result["value"], frame_of(result)
    if "points" in value:
        corners = [(x * frame.width_px / 100, y * frame.height_px / 100) for x, y in value["points"]]
    elif {"x", "y", "width", "height"} <= set(value):
        corners = _corners(value, frame)
    else:
        return None
    return [number for corner in corners for number in corner]


def box_xyxy_px(polygon: Sequence[float]) -> list[float]:
    """The upright box around [x, y, x, y, ...]."""
    return [min(polygon[0::2]), min(polygon[1::2]), max(polygon[0::2]), max(polygon[1::2])]


def _corners(value: Mapping[str, float], frame: Frame) -> list[tuple[float, float]]:
    """Clockwise from the corner (x, y), around which Label Studio turns a rectangle by `rotation` degrees."""
    left, top = value["x"] * frame.width_px / 100, value["y"] * frame.height_px / 100
    width, height = value["width"] * frame.width_px / 100, value["height"] * frame.height_px / 100
    angle = math.radians(value.get("rotation") or 0)
    cos, sin = math.cos(angle), math.sin(angle)
    return [
        (left + dx * cos - dy * sin, top + dx * sin + dy * cos)
        for dx, dy in ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    ]
