"""Which pixels belong to what? Semantic masks, one per class that is present, by torchvision or builtin segmenters."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_storage.errors import ModelError
from winnow_storage.schemas import RLE
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import Network, open_network
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import TorchParams, Wanted, open_batch, precision_id
from winnow_workers.models.preprocess import needed_side_px, placement, preproc_id, to_tensor
from winnow_workers.operator import Operator, Prediction, View

_SOFTMIN_TEMPERATURE = 0.1

Floats = npt.NDArray[np.float32]
ClassMap = npt.NDArray[np.unsignedinteger[Any]]


class SegmentParams(TorchParams):
    """`labels`: the label set with the background first, where the weights do not carry it; `input` likewise."""

    labels: tuple[str, ...] = ()
    input: Preprocessing | None = None


class SegmentOperator(Operator[SegmentParams]):
    """The most probable class of every pixel. The first label is the background and has no mask.

    The score is a soft minimum over the pixels' top probabilities, as in cleanlab's segmentation scores (Lad and
    Mueller, 2023): one region that the model is unsure of makes the image unsure. What a `crop` input does not show
    is background.
    """

    params_type = SegmentParams

    def open(self) -> None:
        """Load the segmenter and settle its label set."""
        network = open_network(self.model, device=self.device, n_labels=len(self.params.labels) or None)
        card = network.card
        self._input = (
            self.params.input or (card.preprocessing if card else None) or default_preprocessing(network.architecture)
        )
        wanted = Wanted(self.params.precision, self._input, "choice", self.model)
        self._batch = open_batch(network.module, self.device, wanted)
        shape = tuple(self._batch([to_tensor(np.zeros((1, 1, 3), np.uint8), self._input)])[0].shape)
        if len(shape) != 3:
            raise ModelError(
                f"{self.model.name}: {network.architecture} gives outputs of shape {shape}, "
                "a segmenter gives logits per pixel",
                hint="name a segmenter, such as torchvision/deeplabv3_mobilenet_v3_large or builtin/small_unet",
            )
        self._labels = self._label_set(network, count=shape[0])

    def _label_set(self, network: Network, *, count: int) -> tuple[str, ...]:
        labels = self.params.labels or (network.card.labels if network.card else ())
        if not labels and self.model.weights.kind == "random":
            labels = tuple(str(index) for index in range(count))
        if len(labels) != count:
            raise ModelError(
                f"{self.model.name}: {len(labels)} labels for a model with {count} classes",
                hint="add labels: [background, ...] to the task, one per class of the model, in its order",
            )
        return labels

    @property
    def preproc(self) -> str:
        """The id of the input's preprocessing."""
        return precision_id(preproc_id(self._input), self._batch)

    @property
    def needed_side_px(self) -> int | None:
        """The input's longer side."""
        return needed_side_px(self._input)

    @property
    def batch_size(self) -> int:
        """The fixed batch."""
        return self._batch.at_once

    def fields(self) -> list[pa.Field]:
        """A mask per class that is present."""
        mask = pa.struct(
            [
                pa.field("label", pa.string()),
                pa.field("area_px", pa.int64()),
                pa.field("score", pa.float32()),  # mean top probability of its pixels
                pa.field("rle", RLE),  # in the size of the upright image
            ]
        )
        return [pa.field("masks", pa.list_(mask))]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """The masks of every view."""
        outputs = self._batch([to_tensor(view.pixels, self._input) for view in views])
        return [self._predict(output.softmax(dim=0).numpy(), view) for output, view in zip(outputs, views, strict=True)]

    def _predict(self, probabilities_chw: Floats, view: View) -> Prediction:
        place = placement(view.pixels.shape[1], view.pixels.shape[0], self._input).target
        scale_y = probabilities_chw.shape[1] / self._input.height_px  # some segmenters answer at a lower resolution
        scale_x = probabilities_chw.shape[2] / self._input.width_px
        top, bottom = int(place.top * scale_y), max(1, round((place.top + place.height) * scale_y))
        left, right = int(place.left * scale_x), max(1, round((place.left + place.width) * scale_x))
        shown = probabilities_chw[:, min(top, bottom - 1) : bottom, min(left, right - 1) : right]
        if not np.isfinite(shown).all():
            raise ArithmeticError("the model's probabilities are not finite")
        classes = shown.argmax(axis=0).astype(np.min_scalar_type(len(self._labels)))
        confidence = shown.max(axis=0)
        return Prediction(
            fields={"masks": self._masks(classes, confidence, view)},
            score=softmin(confidence),
            score_kind="softmin_pixel_softmax",
        )

    def _masks(self, classes: ClassMap, confidence: Floats, view: View) -> list[dict[str, object]]:
        full = full_size(classes, view, self._input)
        masks: list[dict[str, object]] = []
        for index in range(1, len(self._labels)):
            mask = full == index
            area = int(mask.sum())
            if area == 0:
                continue
            chosen = confidence[classes == index]
            masks.append(
                {
                    "label": self._labels[index],
                    "area_px": area,
                    "score": float(chosen.mean(dtype=np.float64)),
                    "rle": encode_rle(mask),
                }
            )
        return masks


def full_size(classes: ClassMap, view: View, preprocessing: Preprocessing) -> ClassMap:
    """A label map of what the model saw, (rows, columns), at the full size of the upright image; nearest label."""
    seen = placement(view.width_px, view.height_px, preprocessing).source
    rows = np.minimum((np.arange(seen.height) + 0.5) * classes.shape[0] / seen.height, classes.shape[0] - 1)
    columns = np.minimum((np.arange(seen.width) + 0.5) * classes.shape[1] / seen.width, classes.shape[1] - 1)
    full = np.zeros((view.height_px, view.width_px), classes.dtype)
    full[seen.top : seen.top + seen.height, seen.left : seen.left + seen.width] = classes[
        np.ix_(rows.astype(np.int64), columns.astype(np.int64))
    ]
    return full


def softmin(confidence: npt.NDArray[np.floating[Any]]) -> float:
    """The mean of the values in [0, 1], each weighted by exp((1 - value) / 0.1): near the minimum, and smooth."""
    values = confidence.astype(np.float64).ravel()
    weights = np.exp((values.min() - values) / _SOFTMIN_TEMPERATURE)  # shifted: the lowest value has weight 1
    return float((values * weights).sum() / weights.sum())


def encode_rle(mask: npt.NDArray[np.bool_]) -> dict[str, object]:
    """COCO's compressed run-length code of a (height, width) mask, column by column."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
