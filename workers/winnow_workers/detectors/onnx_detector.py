"""How does an ONNX detector run? Letterboxed, in its own batch size, its outputs read by the layout of its card."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.boxes import clipped
from winnow_workers.detectors.detector import Detector, Search
from winnow_workers.detectors.found import Found, strongest
from winnow_workers.detectors.layouts import Layout, class_count, read, suppressed
from winnow_workers.models.model_file import ModelCard, Preprocessing
from winnow_workers.models.onnx_file import card_of, open_session
from winnow_workers.models.preprocess import needed_side_px, placement, preproc_id, to_tensor
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.operator import View

_NMS_IOU = 0.7  # what YOLOs from v8 on are published with
_GREY = 114  # the letterbox of all YOLOs
_DEFAULT_SIDE_PX = 640
FLOOR_KEY = "floor"  # of a card's extra: the file itself leaves out what is weaker
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxDetector(Detector):
    """A network in an ONNX file with one image input (n, 3, height, width)."""

    def __init__(self, model: ResolvedModel, search: Search, device: str, *, threads: int) -> None:
        """Open the file.

        Raises:
            ModelError: no layout is declared, or inputs, outputs and labels do not fit it.
        """
        if search.min_side_px is not None or search.max_side_px is not None:
            raise ModelError(
                f"{model.name}: min_side_px and max_side_px are not for ONNX files",
                hint="write input: {height_px: ..., width_px: ..., fit: pad} instead",
            )
        self._session = open_session(model, device=device, threads=threads)
        card, labels = card_of(self._session, where=model.name)
        self._layout = search.layout or _layout_of(card, model.name)
        self._search = search
        _check_floor(card, search.floor, model.name)
        self.max_iou = search.max_iou if search.max_iou is not None else _NMS_IOU
        self.labels = search.labels or labels
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _TYPES:
            said = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
            raise ModelError(
                f"{model.name}: its inputs are {said}", hint="export it with one input (n, 3, height, width) of floats"
            )
        self._name, self._type = inputs[0].name, _TYPES[inputs[0].type]
        self._size = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else 1
        self._outputs = [one.name for one in self._session.get_outputs()]
        self.input = _settle_input(search.input or (card.preprocessing if card else None), inputs[0].shape, model.name)
        self._check(model.name)

    def _check(self, name: str) -> None:
        shapes = {one.name: tuple(one.shape) for one in self._session.get_outputs()}
        try:
            count = class_count(self._layout, shapes, len(self.labels))
        except ValueError as error:
            raise ModelError(f"{name}: {error}", hint="correct layout: in the task, or in the file's card") from error
        if not self.labels or (count is not None and count != len(self.labels)):
            classes = "" if count is None else f" for a model with {count} classes"
            raise ModelError(
                f"{name}: {len(self.labels)} labels{classes}",
                hint="add labels: [...] to the task, one per class of the model in its order",
            )

    @property
    def preproc(self) -> str:
        """The id of the input's preprocessing, and of the order of colours."""
        return preproc_id(self.input) + ("-bgr" if self._layout.bgr else "")

    @property
    def needed_side_px(self) -> int:
        """The input's longer side."""
        return needed_side_px(self.input)

    @property
    def batch_size(self) -> int:
        """The file's own, or some images one by one."""
        return max(8, self._size)

    def find(self, views: Sequence[View]) -> list[Found]:
        """What is in each view."""
        found: list[Found] = []
        for start in range(0, len(views), self._size):
            part = views[start : start + self._size]
            batch = np.zeros((self._size, 3, self.input.height_px, self.input.width_px), self._type)
            for row, view in enumerate(part):
                values = to_tensor(view.pixels, self.input).numpy()
                batch[row] = values[::-1] if self._layout.bgr else values
            outputs = self._session.run(self._outputs, {self._name: batch})
            for row, view in enumerate(part):
                of_one = {name: output[row] for name, output in zip(self._outputs, outputs, strict=True)}
                found.append(self._read(of_one, view))
        return found

    def _read(self, outputs: dict[str, np.ndarray[Any, Any]], view: View) -> Found:
        found = read(
            self._layout,
            outputs,
            width_px=self.input.width_px,
            height_px=self.input.height_px,
            classes=len(self.labels),
            floor=self._search.floor,
        )
        if not self._layout.is_suppressed:
            found = suppressed(found, max_iou=self.max_iou)
        boxes = to_view(found.boxes, view, self.input)
        found = Found(boxes, found.classes, found.scores)
        return strongest(found, most=self._search.most, floor=self._search.floor)


def to_view(boxes: "np.ndarray[Any, np.dtype[np.float32]]", view: View, preprocessing: Preprocessing) -> Any:
    """Boxes in the model's input as boxes in the view at its full size, cut to it: the letterbox undone."""
    place = placement(view.pixels.shape[1], view.pixels.shape[0], preprocessing)
    source, target = place.source, place.target
    scale = np.array([source.width / target.width, source.height / target.height] * 2, np.float32)
    moved = (boxes - np.array([target.left, target.top] * 2, np.float32)) * scale
    moved = moved + np.array([source.left, source.top] * 2, np.float32)
    full = np.array([view.width_px / view.pixels.shape[1], view.height_px / view.pixels.shape[0]] * 2, np.float32)
    return clipped(moved * full, width_px=view.width_px, height_px=view.height_px)


def _layout_of(card: ModelCard | None, name: str) -> Layout:
    said = card.extra.get("layout") if card is not None else None
    if said is None:
        raise ModelError(
            f"{name}: nothing says what the outputs of this ONNX file mean",
            hint="add layout: {kind: yolov8} (or yolov5, rows, named) to the task, or to the extra of the file's card",
        )
    try:
        return Layout.model_validate(said)
    except ValidationError as error:
        raise ModelError(f"{name}: the layout in its card is not valid: {error}", hint="correct the card") from error


def _check_floor(card: ModelCard | None, floor: float, name: str) -> None:
    least = card.extra.get(FLOOR_KEY) if card is not None else None
    if isinstance(least, float) and floor < least:
        raise ModelError(
            f"{name}: this file answers with boxes from {least} on, the task's floor is {floor}",
            hint=f"write floor: {least} in the task, or run the model that the file was exported from",
        )


def _settle_input(said: Preprocessing | None, shape: Sequence[Any], name: str) -> Preprocessing:
    height, width = (one if isinstance(one, int) else None for one in shape[2:])
    if said is None:
        return Preprocessing(
            height_px=height or _DEFAULT_SIDE_PX,
            width_px=width or _DEFAULT_SIDE_PX,
            fit="pad",
            pad_value=_GREY,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
    if (height or said.height_px) != said.height_px or (width or said.width_px) != said.width_px or said.channels != 3:
        raise ModelError(
            f"{name}: its input is {shape}, input: says 3 channels of {said.height_px} x {said.width_px} px"
            if said.channels == 3
            else f"{name}: its input is {shape}, input: says {said.channels} channel",
            hint="correct input: in the task, or leave it out",
        )
    return said
