"""Which pixels belong to what? Masks of classes (semantic) or of single things (instance), by the kind of the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from winnow_storage.errors import ModelError
from winnow_storage.schemas import BOX_XYXY_PX, RLE
from winnow_workers.boxes import image_score
from winnow_workers.detectors.detector import Detector, Search
from winnow_workers.detectors.found import Found
from winnow_workers.detectors.looking import look_everywhere
from winnow_workers.detectors.opening import draws_masks, open_detector
from winnow_workers.masks import box_around, encode_patches, encode_rle, united
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import TorchParams
from winnow_workers.operator import Operator, Pending, Prediction, View
from winnow_workers.semantic import Painted, SemanticSegmenter
from winnow_workers.tiles import Tiling

PIXEL_SCORE_KIND, MASK_SCORE_KIND = "softmin_pixel_softmax", "softmin_masks"


class SegmentParams(TorchParams):
    """`labels`: the label set, the background first for semantic models, where the weights do not carry it.

    `background`: whether the first label of a semantic model is the background, which has no mask; by default it is,
    unless a transformers folder brings its label set and the first is not named so. `input` as `labels`. `tiles`: look
    at large images in parts. Of instance models: masks from `floor` on are kept, those
    from `threshold` on are put out, at most `max_masks` per image; `max_iou`, `min_side_px` and `max_side_px` as for
    detect.
    """

    labels: tuple[str, ...] = ()
    background: bool | None = None
    input: Preprocessing | None = None
    tiles: Tiling | None = None
    floor: float = Field(default=0.05, ge=0.001, le=1.0)
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    max_masks: int = Field(default=100, ge=1, le=1000)
    max_iou: float | None = Field(default=None, gt=0.0, le=1.0)
    min_side_px: int | None = Field(default=None, ge=32, le=4096)
    max_side_px: int | None = Field(default=None, ge=32, le=8192)

    @model_validator(mode="after")
    def _floor_below_threshold(self) -> "SegmentParams":
        if self.floor > self.threshold:
            raise ValueError(f"floor {self.floor} is above threshold {self.threshold}: lower it, or raise threshold")
        return self


class SegmentOperator(Operator[SegmentParams]):
    """One mask per class that is present (semantic), or per thing that is found (instance).

    Semantic: the first label is the background and has no mask, if there is one (`background`); what a `crop` input
    does not show is background. The score is a soft minimum over the pixels' top probabilities, as in cleanlab's
    segmentation scores (Lad and Mueller, 2023): one region that the model is unsure of makes the image unsure.
    Instance: floor, threshold and score are those of detect.
    """

    params_type = SegmentParams
    revision = 2

    def open(self) -> None:
        """Load the segmenter and settle its label set."""
        params = self.params
        self._semantic: SemanticSegmenter | None = None
        self._detector: Detector | None = None
        self._first = 0  # label that has a mask
        if draws_masks(self.model):
            if params.background is not None:
                raise ModelError(
                    f"{self.model.name}: background is for semantic models; this one finds single things",
                    hint="remove background: from the task",
                )
            if params.precision == "bf16":
                raise ModelError(
                    f"{self.model.name}: instance models run in float32 only", hint="remove precision: from the task"
                )
            search = Search(
                floor=params.floor,
                most=params.max_masks,
                masks=True,
                max_iou=params.max_iou,
                labels=params.labels,
                input=params.input,
                min_side_px=params.min_side_px,
                max_side_px=params.max_side_px,
            )
            self._detector = open_detector(self.model, search, device=self.device)
            self._labels = self._detector.labels
            return
        if params.min_side_px is not None or params.max_side_px is not None:
            raise ModelError(
                f"{self.model.name}: min_side_px and max_side_px are for instance models; this is none",
                hint="write input: {height_px: ..., width_px: ...} instead",
            )
        self._semantic = SemanticSegmenter(
            self.model,
            self.device,
            labels=params.labels,
            given_input=params.input,
            precision=params.precision,
            threads=self.threads,
            images=self.images,
        )
        self._labels = self._semantic.labels
        self._first = int(self._semantic.has_background if params.background is None else params.background)
        if not self._first and self._semantic.input.fit == "crop":
            raise ModelError(
                f"{self.model.name}: every pixel has a label, and the model's input says fit: crop, "
                "which leaves some out",
                hint=f"write input: with fit: stretch or fit: pad; or background: true if {self._labels[0]!r} is it",
            )
        if params.tiles is not None and self._semantic.input.fit == "crop":
            raise ModelError(
                f"{self.model.name}: tiles must be seen whole, the model's input says fit: crop",
                hint="write input: with fit: stretch or fit: pad",
            )

    @property
    def _inner(self) -> SemanticSegmenter | Detector:
        inner = self._semantic or self._detector
        if inner is None:
            raise ValueError("the operator is not open")
        return inner

    @property
    def preproc(self) -> str:
        """The id of the input's preprocessing, and of the tiles."""
        return self._inner.preproc + ("" if self.params.tiles is None else self.params.tiles.suffix)

    @property
    def needed_side_px(self) -> int | None:
        """The model's; every pixel for tiles."""
        return self._inner.needed_side_px if self.params.tiles is None else None

    @property
    def batch_size(self) -> int:
        """The model's."""
        return self._inner.batch_size

    def fields(self) -> list[pa.Field]:
        """The masks: of semantic models in the order of the labels, of instance models the surest first."""
        mask = pa.struct(
            [
                pa.field("label", pa.string()),
                pa.field("area_px", pa.int64()),
                pa.field("score", pa.float32()),  # semantic: mean top probability of its pixels
                pa.field("rle", RLE),  # in the size of the upright image
                pa.field("box", BOX_XYXY_PX),  # around its pixels
                pa.field("is_output", pa.bool_()),  # semantic: always; instance: score >= threshold
            ]
        )
        area = pa.struct([pa.field("label", pa.string()), pa.field("area_px", pa.int64())])
        return [
            pa.field("masks", pa.list_(mask)),
            pa.field("areas", pa.list_(area)),  # per class, of masks that are put out; pixels under several count once
            pa.field("boundary_entropy", pa.float32()),  # semantic only, in [0, 1]; null without any boundary
            pa.field("cut", pa.int32()),  # instance: how many more were above the floor
        ]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """The masks of every view."""
        if self._semantic is not None:
            return [self._semantic_prediction(one) for one in self._semantic.paint(views, self.params.tiles)]
        if self._detector is None:
            raise ValueError("the operator is not open")
        found = look_everywhere(
            self._detector, views, self.params.tiles, most=self.params.max_masks, floor=self.params.floor
        )
        return [self._instance_prediction(one, view) for one, view in zip(found, views, strict=True)]

    def begin(self, views: Sequence[View]) -> Pending:
        """The same, later; of whole views of a semantic model."""
        segmenter = self._semantic
        if segmenter is None or self.params.tiles is not None:
            return super().begin(views)
        answers = segmenter.begin(views)
        return Pending(
            lambda: [self._semantic_prediction(one) for one in segmenter.painted(answers, views)], answers.held_bytes
        )

    def _semantic_prediction(self, painted: Painted) -> Prediction:
        masks: list[dict[str, object]] = []
        present = np.bincount(painted.classes.ravel(), minlength=len(self._labels))
        for index in np.flatnonzero(present[self._first :]) + self._first:
            mask = painted.classes == index
            masks.append(
                {
                    "label": self._labels[index],
                    "area_px": int(present[index]),
                    "score": float(painted.class_scores[index]),
                    "rle": encode_rle(mask),
                    "box": box_around(mask),
                    "is_output": True,
                }
            )
        areas = [{"label": one["label"], "area_px": one["area_px"]} for one in masks]
        return Prediction(
            fields={"masks": masks, "areas": areas, "boundary_entropy": painted.boundary_entropy, "cut": 0},
            score=painted.score,
            score_kind=PIXEL_SCORE_KIND,
        )

    def _instance_prediction(self, found: Found, view: View) -> Prediction:
        size = {"width_px": view.width_px, "height_px": view.height_px}
        scores = found.scores.astype(np.float32)
        threshold = np.float32(self.params.threshold)
        masks: list[Mapping[str, object]] = []
        pieces: dict[str, list[Any]] = {}
        for index, box, score, patch in zip(
            found.classes.tolist(), found.boxes, scores, found.masks or (), strict=True
        ):
            rle, area, drawn = encode_patches([patch], **size)
            around = box_around(drawn.bits, left=drawn.left, top=drawn.top) if area else box.tolist()
            is_output = bool(score >= threshold)
            label = self._labels[index]
            masks.append(
                {"label": label, "area_px": area, "score": float(score), "rle": rle, "box": around,
                 "is_output": is_output}
            )  # fmt: skip
            if is_output and area:
                pieces.setdefault(label, []).append(drawn)
        areas = [
            {"label": label, "area_px": int(united(own, **size).bits.sum())} for label, own in sorted(pieces.items())
        ]
        return Prediction(
            fields={"masks": masks, "areas": areas, "boundary_entropy": None, "cut": found.cut},
            score=image_score(scores, threshold=float(threshold), floor=self.params.floor),
            score_kind=MASK_SCORE_KIND,
        )
