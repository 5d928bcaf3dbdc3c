"""How do boxes and masks become COCO JSON? Boxes xywh and masks as run-length codes, in pixels of the upright image.

https://cocodataset.org/#format-data
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from winnow_annotation.brush_rle import MaskHW
from winnow_annotation.kinds.masks import from_coco
from winnow_jobs.label_export.answers import Agreed


def categories_of(label_set: Sequence[str], items: Sequence[Agreed]) -> list[str]:
    """The labels in the order of the label set, then others that people used; the first one has the number 1."""
    used = {str(part["label"]) for one in items for part in parts_of(one.value)}
    return list(dict.fromkeys([*label_set, *sorted(used)]))


def parts_of(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The boxes of an answer; or its masks, as they were painted where those add up to what the answer says."""
    if value.get("boxes") is not None:
        return list(value["boxes"])
    masks, painted = value.get("masks") or [], value.get("instances") or []
    return list(painted if painted and _united(painted) == _united(masks) else masks)


def coco_document(title: str, categories: Sequence[str], items: Sequence[Agreed]) -> dict[str, Any]:
    """Images of items without any object are among it: people say that there is none."""
    numbers = {label: number for number, label in enumerate(categories, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate(items, 1):
        images.append(_image(number, one))
        for told in _annotations(one, numbers):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **told})
    return {
        "info": {"description": title},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": label, "supercategory": ""} for label, number in numbers.items()],
    }


def frame_of(one: Agreed) -> tuple[int, int] | None:
    """(height, width) px that the answer's masks have, else the image as far as it is known."""
    sizes = [tuple(mask["rle"]["size"]) for mask in one.value.get("masks") or []]
    return (int(sizes[0][0]), int(sizes[0][1])) if sizes else one.size


def _image(number: int, one: Agreed) -> dict[str, Any]:
    frame = frame_of(one)
    size = {} if frame is None else {"height": frame[0], "width": frame[1]}
    about = {"item_id": one.item_id, "version": one.version, "uri": one.uri}
    return {"id": number, "file_name": one.key, **size, **about}


def _annotations(one: Agreed, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for part in parts_of(one.value):
        common = {"category_id": numbers[str(part["label"])], "iscrowd": 0}
        if "box" in part:
            left, top, right, bottom = (float(side) for side in part["box"])
            size = (right - left, bottom - top)
            yield {**common, "bbox": [left, top, *size], "area": size[0] * size[1], "segmentation": []}
            continue
        mask, _ = from_coco(part["rle"])
        if mask.any():
            rle = {"size": [int(side) for side in part["rle"]["size"]], "counts": str(part["rle"]["counts"])}
            yield {**common, "bbox": _box(mask), "area": int(mask.sum()), "segmentation": rle}


def _box(mask: MaskHW) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _united(masks: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """The pixels of each label."""
    found: dict[str, MaskHW] = {}
    for one in masks:
        mask, _ = from_coco(one["rle"])
        found[str(one["label"])] = found[str(one["label"])] | mask if str(one["label"]) in found else mask
    return {label: mask.tobytes() for label, mask in found.items()}
