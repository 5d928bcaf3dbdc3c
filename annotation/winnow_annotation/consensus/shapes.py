"""How do boxes and masks of one object become one? Coordinates by weighted mean, pixels by weighted majority."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from winnow_annotation.brush_rle import MaskHW
from winnow_annotation.consensus.clusters import Shape
from winnow_annotation.kinds import masks


def box_iou(first: Shape, second: Shape) -> float:
    """Of the boxes (xyxy px) of two shapes, whatever their labels; 0 where both are empty."""
    one, other = first["box"], second["box"]
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    union = _area(one) + _area(other) - both
    return both / union if union > 0 else 0.0


def mask_iou(first: Shape, second: Shape) -> float:
    """Of the masks of two shapes (`pixels`, bool), whatever their labels; 0 where sizes differ, or both are empty."""
    if first["pixels"].shape != second["pixels"].shape:
        return 0.0
    union = int(np.count_nonzero(first["pixels"] | second["pixels"]))
    return int(np.count_nonzero(first["pixels"] & second["pixels"])) / union if union else 0.0


def label_mask_iou(first: Shape, second: Shape) -> float:
    """The same of two whole labels, which are one thing only if they are the same label."""
    return mask_iou(first, second) if first["label"] == second["label"] else 0.0


def mean_box(shapes: Mapping[str, Shape], weight: Mapping[str, float]) -> list[float]:
    """The mean of the boxes, xyxy px, each weighted by its annotator."""
    names = sorted(shapes)
    boxes = np.array([shapes[name]["box"] for name in names], np.float64)
    weights = np.array([weight[name] for name in names])
    found: list[float] = (boxes * weights[:, None] / weights.sum()).sum(axis=0).tolist()
    return found


def voted_mask(shapes: Mapping[str, Shape], weight: Mapping[str, float]) -> MaskHW:
    """The pixels that more than half of the weight has painted; of exactly half, those of the heavier one's mask."""
    names = sorted(shapes, key=lambda name: (-weight[name], name))
    share = sum(shapes[name]["pixels"] * weight[name] for name in names) / sum(weight[name] for name in names)
    return np.asarray((share > 0.5) | (np.isclose(share, 0.5) & shapes[names[0]]["pixels"]), np.bool_)


def with_pixels(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Masks of a label's value ({label, rle}) with their `pixels`; those without any pixel are left out."""
    decoded = [{"label": one["label"], "pixels": masks.from_coco(one["rle"])[0]} for one in entries]
    return [one for one in decoded if one["pixels"].any()]


def written_mask(label: str | None, pixels: MaskHW) -> dict[str, Any]:
    """As a label's value has it."""
    return {"label": label, "area_px": int(np.count_nonzero(pixels)), "rle": masks.to_coco(pixels)}


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
