"""How is a segmentation shown to a person, and read back? As one brush region per mask."""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.brush_rle import MaskHW
from winnow_annotation.kinds import masks
from winnow_annotation.kinds.geometry import Frame, Result


def results(prediction: Mapping[str, Any], _frame: Frame | None) -> list[Result]:
    """One brush region per mask that is put out and has any pixel, with its score."""
    regions: list[Result] = []
    for number, found in enumerate(prediction["masks"] or []):
        if found.get("is_output") is False:
            continue
        mask, frame = masks.from_coco(found["rle"])
        if mask.any():
            brush = masks.brush_value(mask, found["label"])
            regions.append(_region(f"mask{number}", frame, brush) | _score(found))
    return regions


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{masks: [{label, area_px, rle}], instances: likewise}.

    `masks` has one per label, the union of what was painted with it; `instances` one per region, as it was painted.
    """
    united = masks.union_per_label(answer)
    single = [(label, mask) for result in answer for label, mask in masks.union_per_label([result]).items()]
    return {
        "masks": [_written(label, mask) for label, mask in united.items()],
        "instances": [_written(label, mask) for label, mask in single],
    }


def _written(label: str, mask: MaskHW) -> Mapping[str, Any]:
    return {"label": label, "area_px": int(mask.sum()), "rle": masks.to_coco(mask)}


def _region(name: str, frame: Frame, brush: Mapping[str, Any]) -> dict[str, Any]:
    own = {"id": name, "from_name": "mask", "to_name": "image", "type": "brushlabels", "value": brush}
    return {**own, **frame.fields}


def _score(found: Mapping[str, Any]) -> dict[str, float]:
    return {} if found.get("score") is None else {"score": float(found["score"])}
