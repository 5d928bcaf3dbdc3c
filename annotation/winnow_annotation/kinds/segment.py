"""How is a segmentation shown to a person, and read back? As one brush region per mask."""

from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.kinds import masks
from winnow_annotation.kinds.geometry import Frame, Result


def results(prediction: Mapping[str, Any], _frame: Frame | None) -> list[Result]:
    """One brush region per mask that has any pixel, with its score."""
    regions: list[Result] = []
    for number, found in enumerate(prediction["masks"] or []):
        mask, frame = masks.from_coco(found["rle"])
        if mask.any():
            brush = masks.brush_value(mask, found["label"])
            regions.append(_region(f"mask{number}", frame, brush) | _score(found))
    return regions


def value(answer: Sequence[Result]) -> Mapping[str, Any]:
    """{masks: [{label, area_px, rle}]}, one per label: the union of what was painted with it."""
    painted = masks.union_per_label(answer)
    return {
        "masks": [
            {"label": label, "area_px": int(mask.sum()), "rle": masks.to_coco(mask)} for label, mask in painted.items()
        ]
    }


def _region(name: str, frame: Frame, brush: Mapping[str, Any]) -> dict[str, Any]:
    own = {"id": name, "from_name": "mask", "to_name": "image", "type": "brushlabels", "value": brush}
    return {**own, **frame.fields}


def _score(found: Mapping[str, Any]) -> dict[str, float]:
    return {} if found.get("score") is None else {"score": float(found["score"])}
