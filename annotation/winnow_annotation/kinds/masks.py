"""How does a COCO mask become a brush stroke of Label Studio, and back? Bit for bit."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco

from winnow_annotation import brush_rle
from winnow_annotation.brush_rle import MaskHW
from winnow_annotation.kinds.geometry import Frame, Result, frame_of


def brush_value(mask: MaskHW, label: str) -> Mapping[str, Any]:
    """The `value` of a brush region."""
    return {"format": "rle", "rle": brush_rle.encode(mask), "brushlabels": [label]}


def from_coco(rle: Mapping[str, Any]) -> tuple[MaskHW, Frame]:
    """The mask of {size: [height, width], counts: text} and the frame that it fills."""
    height, width = (int(side) for side in rle["size"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools 2.0 wraps its result as NumPy 1 did
        mask = coco.decode({"size": [height, width], "counts": str(rle["counts"]).encode()})
    return np.asarray(mask, dtype=bool), Frame(width, height)


def to_coco(mask: MaskHW) -> Mapping[str, Any]:
    """{size: [height, width], counts: text}, column-major as COCO has it."""
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def union_per_label(results: Sequence[Result]) -> Mapping[str, MaskHW]:
    """The painted pixels of each label, in the order in which labels first appear."""
    masks: dict[str, MaskHW] = {}
    for result in results:
        if result["type"] != "brushlabels" or "rle" not in result["value"]:
            continue
        frame = frame_of(result)
        mask = brush_rle.decode(result["value"]["rle"], height=frame.height_px, width=frame.width_px)
        for label in result["value"].get("brushlabels", []):
            masks[label] = masks[label] | mask if label in masks else mask
    return masks
