"""What do the outputs of an ONNX detector mean? A declared layout, read into boxes, scores and classes. Pure."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from winnow_workers.boxes import class_wise_nms
from winnow_workers.detectors.found import Found, Ints

Floats = npt.NDArray[np.float32]
Roles = Literal["boxes", "scores", "labels", "count"]


class Layout(BaseModel):
    """How an ONNX detector answers. Boxes are in the frame of the model's input.

    `kind`:
    - yolov8: one output (n, 4 + classes, boxes), as of YOLOv8 to 12, or (n, boxes, 4 + classes)
    - yolov5: one output (n, boxes, 5 + classes), as of YOLOv5 to 7 and YOLOX: a score is objectness times class score
    - rows: one output (n, boxes, 6): xyxy, score, class, suppressed already
    - named: outputs `boxes` (n, k, 4), `scores` and `labels` (n, k), and perhaps `count` (n) or (n, 1), suppressed
      already; `outputs` maps these roles to other names

    `unit`: pixels of the input, or ratios of its sides. `sigmoid`: scores are logits. `bgr`: colours are in that order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["yolov5", "yolov8", "rows", "named"]
    box: Literal["cxcywh", "xyxy"] | None = None  # None: cxcywh for the yolos, xyxy for the others
    unit: Literal["px", "ratio"] = "px"
    sigmoid: bool = False
    bgr: bool = False
    outputs: Mapping[Roles, str] = {}

    @property
    def is_suppressed(self) -> bool:
        """Whether the model leaves no doubles."""
        return self.kind in {"rows", "named"}


def class_count(layout: Layout, shapes: Mapping[str, tuple[Any, ...]], labels: int) -> int | None:
    """How many classes a model with outputs of these shapes has; None where they do not tell.

    Raises:
        ValueError: the outputs are not those of the layout.
    """
    _check_outputs(layout, shapes)
    if layout.is_suppressed:
        return None
    shape = next(iter(shapes.values()))
    if len(shape) != 3:
        raise ValueError(f"the output has the shape {shape}, layout {layout.kind} has three axes")
    sides = [one for one in shape[1:] if isinstance(one, int)]
    extra = 4 if layout.kind == "yolov8" else 5
    if labels + extra in sides:
        return labels
    channels = shape[2] if layout.kind == "yolov5" else min(sides, default=None)
    return channels - extra if isinstance(channels, int) else None


def read(
    layout: Layout,
    outputs: Mapping[str, npt.NDArray[Any]],
    *,
    width_px: int,
    height_px: int,
    classes: int,
    floor: float,
) -> Found:
    """What one image's outputs (without their first axis) say, from `floor` on; doubles are still in it.

    Boxes are xyxy px of an input of that size.

    Raises:
        ArithmeticError: a box or a score is not finite, or a class is not one of `classes`.
    """
    if layout.kind == "named":
        boxes, scores, labels = _named(layout, outputs)
    else:
        boxes, scores, labels = _table(layout, np.asarray(next(iter(outputs.values())), np.float32), classes)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ArithmeticError("the model's boxes or scores are not finite")
    kept = scores >= floor
    found = Found(boxes[kept], labels[kept], scores[kept])
    boxes, labels = found.boxes, found.classes
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise ArithmeticError(f"the model answers with class {int(labels.max())}, there are {classes} labels")
    if (layout.box or ("xyxy" if layout.is_suppressed else "cxcywh")) == "cxcywh":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    if layout.unit == "ratio":
        boxes = boxes * np.array([width_px, height_px, width_px, height_px], np.float32)
    return Found(boxes.astype(np.float32), labels, found.scores)


def suppressed(found: Found, *, max_iou: float) -> Found:
    """The same without doubles, class by class."""
    return found.take(class_wise_nms(found.boxes, found.scores, found.classes, max_iou=max_iou))


def _check_outputs(layout: Layout, shapes: Mapping[str, tuple[Any, ...]]) -> None:
    if layout.kind == "named":
        wanted = {role: layout.outputs.get(role, role) for role in ("boxes", "scores", "labels")}
        missing = [f"{role} ({name})" for role, name in wanted.items() if name not in shapes]
        if missing:
            raise ValueError(f"it has no output for {', '.join(missing)}; its outputs are {', '.join(shapes)}")
    elif len(shapes) != 1:
        raise ValueError(f"layout {layout.kind} has one output, the model has {', '.join(shapes)}")


def _named(layout: Layout, outputs: Mapping[str, npt.NDArray[Any]]) -> tuple[Floats, Floats, Ints]:
    def of(role: Roles) -> npt.NDArray[Any]:
        return outputs[layout.outputs.get(role, role)]

    boxes: Floats = np.asarray(of("boxes"), np.float32).reshape(-1, 4)
    scores: Floats = _scores(layout, np.asarray(of("scores"), np.float32).reshape(-1))
    labels: Ints = np.asarray(of("labels")).reshape(-1).astype(np.int64)
    if layout.outputs.get("count", "count") in outputs:
        count = int(np.asarray(of("count")).reshape(-1)[0])
        boxes, scores, labels = boxes[:count], scores[:count], labels[:count]
    return boxes, scores, labels


def _table(layout: Layout, table: Floats, classes: int) -> tuple[Floats, Floats, Ints]:
    if layout.kind == "rows":
        return table[:, :4], _scores(layout, table[:, 4]), table[:, 5].astype(np.int64)
    width = classes + (4 if layout.kind == "yolov8" else 5)
    if layout.kind == "yolov8" and table.shape[0] == width:
        table = table.T
    if table.shape[1] != width:
        raise ArithmeticError(f"the output has {table.shape} numbers, {classes} labels in layout {layout.kind}")
    scores = _scores(layout, table[:, 4:])
    if layout.kind == "yolov5":
        scores = scores[:, :1] * scores[:, 1:]
    labels = scores.argmax(axis=1).astype(np.int64)
    return table[:, :4], scores.max(axis=1), labels


def _scores(layout: Layout, values: Floats) -> Floats:
    if not layout.sigmoid:
        return values
    return np.asarray(1.0 / (1.0 + np.exp(-values.astype(np.float64))), np.float32)
