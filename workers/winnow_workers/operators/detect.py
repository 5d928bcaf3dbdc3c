"""Where is what? Boxes with a class and a score, by torchvision, transformers or ONNX detectors."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from winnow_storage.errors import ModelError
from winnow_storage.schemas import BOX_XYXY_PX
from winnow_workers.boxes import image_score
from winnow_workers.detectors.detector import Search
from winnow_workers.detectors.found import Found
from winnow_workers.detectors.layouts import Layout
from winnow_workers.detectors.looking import look_everywhere
from winnow_workers.detectors.opening import open_detector
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.operator import Operator, OperatorParams, Prediction, View
from winnow_workers.tiles import Tiling

SCORE_KIND = "softmin_boxes"


class DetectParams(OperatorParams):
    """Boxes from `floor` on are kept, those from `threshold` on are put out, at most `max_boxes` per image.

    `max_iou`: the bound of class-wise non-maximum suppression and of merging tiles, where the model's own is not
    right. `tiles`: look at large images in parts. `labels`, `input`: what the weights do not say of themselves;
    `min_side_px` and `max_side_px`: the size to which R-CNN, RetinaNet and FCOS scale an image;
    `layout`: what the outputs of an ONNX file mean, where its card does not say it.
    """

    labels: tuple[str, ...] = ()
    floor: float = Field(default=0.05, ge=0.001, le=1.0)
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    max_boxes: int = Field(default=300, ge=1, le=5000)
    max_iou: float | None = Field(default=None, gt=0.0, le=1.0)
    tiles: Tiling | None = None
    input: Preprocessing | None = None
    min_side_px: int | None = Field(default=None, ge=32, le=4096)
    max_side_px: int | None = Field(default=None, ge=32, le=8192)
    layout: Layout | None = None

    @model_validator(mode="after")
    def _floor_below_threshold(self) -> "DetectParams":
        if self.floor > self.threshold:
            raise ValueError(f"floor {self.floor} is above threshold {self.threshold}: lower it, or raise threshold")
        return self


class DetectOperator(Operator[DetectParams]):
    """Every box down to a low floor, so that a reviewer sees what was nearly found; `is_output` marks the others.

    Acceptance test: the boxes that are put out are right, and none is missing. The score is the soft minimum over them
    and over 1 - the highest score that was not put out (ObjectLab, Tkachenko et al., 2023).
    """

    params_type = DetectParams

    def open(self) -> None:
        """Load the detector and settle its label set."""
        params = self.params
        search = Search(
            floor=params.floor,
            most=params.max_boxes,
            max_iou=params.max_iou,
            labels=params.labels,
            input=params.input,
            min_side_px=params.min_side_px,
            max_side_px=params.max_side_px,
            layout=params.layout,
        )
        self._detector = open_detector(self.model, search, device=self.device, threads=self.threads)
        if not self._detector.labels:
            raise ModelError(f"{self.model.name}: the detector has no classes", hint="add labels: [...] to the task")

    @property
    def preproc(self) -> str:
        """The id of the detector's input, and of the tiles."""
        return self._detector.preproc + ("" if self.params.tiles is None else self.params.tiles.suffix)

    @property
    def needed_side_px(self) -> int | None:
        """The detector's; every pixel for tiles."""
        return self._detector.needed_side_px if self.params.tiles is None else None

    @property
    def batch_size(self) -> int:
        """The detector's."""
        return self._detector.batch_size

    def fields(self) -> list[pa.Field]:
        """The boxes, the strongest first, and how many more were above the floor."""
        box = pa.struct(
            [
                pa.field("label", pa.string()),
                pa.field("box", BOX_XYXY_PX),
                pa.field("score", pa.float32()),
                pa.field("is_output", pa.bool_()),  # score >= threshold
            ]
        )
        return [pa.field("boxes", pa.list_(box)), pa.field("cut", pa.int32())]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """The boxes of every view."""
        found = look_everywhere(
            self._detector, views, self.params.tiles, most=self.params.max_boxes, floor=self.params.floor
        )
        return [self._predict(one) for one in found]

    def _predict(self, found: Found) -> Prediction:
        # as they are written: a score that rounds to the threshold must not be on its other side in the row
        scores = found.scores.astype(np.float32)
        threshold = np.float32(self.params.threshold)
        boxes = [
            {
                "label": self._detector.labels[index],
                "box": [float(value) for value in box],
                "score": float(score),
                "is_output": bool(score >= threshold),
            }
            for index, box, score in zip(found.classes.tolist(), found.boxes, scores, strict=True)
        ]
        return Prediction(
            fields={"boxes": boxes, "cut": found.cut},
            score=image_score(scores, threshold=float(threshold), floor=self.params.floor),
            score_kind=SCORE_KIND,
        )
