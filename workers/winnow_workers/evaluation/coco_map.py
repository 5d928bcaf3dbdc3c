"""What is the mAP of boxes or masks as COCO defines it? The only file here that needs torch: torchmetrics' metric.

Its back end is faster-coco-eval. Masks go in as pixels and are kept as run-length codes, so that memory grows with the
objects, not with the pixels.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from winnow_workers.evaluation.boxes import Objects

Kind = Literal["bbox", "segm"]
Pair = tuple[Objects, Objects]  # truth, prediction

# torchmetrics' name -> ours
_NAMES: Mapping[str, str] = {
    "map": "map",
    "map_50": "ap50",
    "map_75": "ap75",
    "map_small": "map_small",
    "map_medium": "map_medium",
    "map_large": "map_large",
    "mar_1": "ar_1",
    "mar_10": "ar_10",
    "mar_100": "ar_100",
}


def coco_map(pairs: Sequence[Pair], kind: Kind, *, per_class: bool = True) -> tuple[dict[str, float], dict[str, float]]:
    """({map, ap50, ap75, ...}, {label: AP@[.5:.95]}) over images; NaN where COCO has -1: no such object in the truth.

    A label that no true object has counts in neither. Small, medium and large are below 32^2, below 96^2, and from
    there on, in px of a true object's `areas` (its box's or mask's own where there are none).
    """
    labels = sorted({label for pair in pairs for side in pair for label in side.labels})
    if not any(len(true) for true, _ in pairs):
        return dict.fromkeys(_NAMES.values(), float("nan")), {}
    metric = _metric(kind, per_class=per_class)
    numbers = {label: index for index, label in enumerate(labels)}
    for true, predicted in pairs:
        shape = _shape(true, predicted) if kind == "segm" else (0, 0)
        target = _target(true, numbers, kind, shape)
        if kind == "segm" and not len(true):
            target = _no_object(len(numbers), shape)
        metric.update([_prediction(predicted, numbers, kind, shape)], [target])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the back end's own
        found = metric.compute()
    summary = {ours: _number(found[theirs]) for theirs, ours in _NAMES.items()}
    if not per_class:
        return summary, {}
    values = np.atleast_1d(found["map_per_class"].numpy())
    numbered = np.atleast_1d(found["classes"].numpy())
    known = [(int(index), value) for index, value in zip(numbered, values, strict=True) if index < len(labels)]
    return summary, {labels[index]: _number(value) for index, value in known}


def _metric(kind: Kind, *, per_class: bool) -> Any:
    from torchmetrics.detection import MeanAveragePrecision

    # given, because its own are rounded to float32: an IoU of exactly 0.6 would miss the threshold 0.60000002
    metric = MeanAveragePrecision(
        box_format="xyxy",
        iou_type=kind,
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0.0, 1.0, 101).tolist(),
        class_metrics=per_class,
        backend="faster_coco_eval",
    )
    metric.warn_on_many_detections = False  # at most 100 objects of an image and a class count, as COCO has it
    return metric


def _prediction(objects: Objects, numbers: Mapping[str, int], kind: Kind, shape: tuple[int, int]) -> dict[str, Any]:
    import torch

    scores = np.zeros(len(objects)) if objects.scores is None else objects.scores
    return _common(objects, numbers, kind, shape) | {"scores": torch.as_tensor(scores, dtype=torch.float32)}


def _target(objects: Objects, numbers: Mapping[str, int], kind: Kind, shape: tuple[int, int]) -> dict[str, Any]:
    import torch

    entry = _common(objects, numbers, kind, shape) | {"iscrowd": torch.as_tensor(objects.is_crowd.astype(np.int64))}
    if objects.areas is not None:
        entry["area"] = torch.as_tensor(objects.areas, dtype=torch.float32)
    return entry


def _no_object(number: int, shape: tuple[int, int]) -> dict[str, Any]:
    """One pixel of a crowd of a label that nothing else has, which counts nowhere.

    torchmetrics (1.9) leaves out images without a true mask, and with them what was found there wrongly.
    """
    import torch

    masks = torch.zeros((1, *shape), dtype=torch.bool)
    masks[0, 0, 0] = True
    ones = torch.ones(1, dtype=torch.int64)
    return {"masks": masks, "labels": number * ones, "iscrowd": ones}


def _common(objects: Objects, numbers: Mapping[str, int], kind: Kind, shape: tuple[int, int]) -> dict[str, Any]:
    import torch

    entry: dict[str, Any] = {"labels": torch.as_tensor([numbers[label] for label in objects.labels], dtype=torch.int64)}
    if kind == "bbox":
        entry["boxes"] = torch.as_tensor(objects.boxes.reshape(-1, 4), dtype=torch.float32)
    else:
        entry["masks"] = torch.as_tensor(_pixels(objects.rles or (), shape))
    return entry


def _pixels(rles: Sequence[Any], shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    from faster_coco_eval.core import mask as coco

    if not rles:
        return np.zeros((0, *shape), np.bool_)
    return np.stack([np.asarray(coco.decode({"size": list(one["size"]), "counts": one["counts"]})) > 0 for one in rles])


def _shape(*sides: Objects) -> tuple[int, int]:
    for side in sides:
        for rle in side.rles or ():
            return int(rle["size"][0]), int(rle["size"][1])
    return 1, 1


def _number(value: Any) -> float:
    number = float(value)
    return float("nan") if number == -1.0 else number
