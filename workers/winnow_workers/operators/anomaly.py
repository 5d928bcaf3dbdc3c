"""What in an image is unlike everything normal? Patch distances, after PatchCore or PaDiM, and how rare they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_storage.errors import ModelError
from winnow_storage.schemas import BOX_XYXY_PX
from winnow_workers.models import patchcore
from winnow_workers.models.anomaly_head import Head, MemoryBank, read_head, read_held_out
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import architecture_of, fill, open_weights
from winnow_workers.models.conformal import Scores, p_value
from winnow_workers.models.load import LoadedWeights
from winnow_workers.models.model_file import ModelCard, Preprocessing
from winnow_workers.models.precision import Precision, TorchParams, Wanted, open_batch, precision_id
from winnow_workers.models.preprocess import needed_side_px, placement, preproc_id
from winnow_workers.operator import Operator, Pending, Prediction, View

if TYPE_CHECKING:
    import torch

_MAX_REGIONS = 50
_RANDOM_BANK = 64

Floats = npt.NDArray[np.float32]


class AnomalyParams(TorchParams):
    """`input`: what the backbone expects, where the weights do not say it; `crop` would overlook the margins.

    What was fitted runs in float32 on the input that it was fitted on: its threshold and held-out scores are of those.
    """

    input: Preprocessing | None = None


class AnomalyOperator(Operator[AnomalyParams]):
    """The score is the image's distance over the threshold of the model's card, never clamped: above 1 is anomalous.

    `p_value` says how often a normal image is at least as far, by the held-out ones that the model's file keeps.
    """

    params_type = AnomalyParams
    revision = 2

    def open(self) -> None:
        """Load the backbone, the head, the threshold and the held-out scores."""
        loaded = open_weights(self.model)
        card = loaded.card
        fitted_here = card is not None and card.architecture.startswith("transformers/")
        architecture = card.architecture if card and fitted_here else architecture_of(self.model, card)
        seed = self.model.weights.seed or 0
        backbone = patchcore.build_backbone(
            architecture,
            card.arguments if card else {},
            layers=card.extra.get("layers") if card else None,
            seed=seed,
            device=self.device,
        )
        if self.model.weights.kind != "random":
            prefix = patchcore.BACKBONE_PREFIX
            own = {name.removeprefix(prefix): one for name, one in loaded.tensors.items() if name.startswith(prefix)}
            fill(backbone, own, where=f"{self.model.name} ({architecture})")
        self._input = self._settle_input(card, architecture)
        wanted = Wanted(self._settle_precision(), self._input, "direction", self.model, self.threads, self.images)
        self._batch = open_batch(backbone.eval().to(self.device), self.device, wanted)
        features = self._batch(self._batch.inputs([np.zeros((1, 1, 3), np.uint8)]))[0]
        self._settle_head(loaded, shape=tuple(features.shape), seed=seed)

    def _settle_input(self, card: ModelCard | None, architecture: str) -> Preprocessing:
        chosen = self.params.input or (card.preprocessing if card else None)
        if chosen is None:
            return default_preprocessing(architecture).model_copy(update={"fit": "stretch"})
        if chosen.fit == "crop":
            raise ModelError(
                f"{self.model.name}: an anomaly detector must see the whole image, its input says fit: crop",
                hint="write fit: stretch or fit: pad",
            )
        fitted = card.preprocessing if card else None
        if fitted is not None and chosen != fitted:
            raise ModelError(
                f"{self.model.name}: its input was {_said(fitted)} when it was fitted, the task says {_said(chosen)}; "
                "its threshold and p-values are of distances on the former",
                hint="remove input: from the task, or fit it again: winnow models fit-anomaly ... --side PX",
            )
        return chosen

    def _settle_precision(self) -> Precision:
        """Float32 of what was fitted: features that agree by 0.995 still differ by more than normal images may."""
        if self.model.weights.kind == "random":
            return self.params.precision
        if self.params.precision == "bf16":
            raise ModelError(
                f"{self.model.name}: its threshold and p-values are of distances in float32",
                hint="remove precision: from the task",
            )
        return "fp32"

    def _settle_head(self, loaded: LoadedWeights, *, shape: tuple[int, ...], seed: int) -> None:
        import torch

        self._held_out: Scores | None = None
        if self.model.weights.kind == "random":
            bank = torch.randn(_RANDOM_BANK, shape[0], generator=torch.Generator().manual_seed(seed))
            self._head: Head = MemoryBank(bank)
            self._threshold = 1.0
            return
        self._head = read_head(loaded.tensors, loaded.card, shape=shape, where=self.model.name)
        threshold = loaded.card.extra.get("threshold") if loaded.card else None
        if not isinstance(threshold, int | float) or not threshold > 0:
            raise ModelError(
                f"{self.model.name}: its card names no extra.threshold above zero", hint="fit the detector again"
            )
        self._threshold = float(threshold)
        self._held_out = read_held_out(loaded.tensors, where=self.model.name)

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
        """Whether, where, and the whole map: `values` are uint8 row by row, value * scale = distance / threshold."""
        heat_map = pa.struct(
            [
                pa.field("height", pa.int32()),
                pa.field("width", pa.int32()),
                pa.field("scale", pa.float32()),
                pa.field("values", pa.binary()),
            ]
        )
        region = pa.struct(
            [pa.field("box", BOX_XYXY_PX), pa.field("score", pa.float32()), pa.field("area_px", pa.int64())]
        )
        return [
            pa.field("is_anomalous", pa.bool_()),
            pa.field("p_value", pa.float64()),  # null where the model's file keeps no held-out scores
            pa.field("heat_map", heat_map),
            pa.field("regions", pa.list_(region)),
        ]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """One verdict per view."""
        return self.begin(views).collect()

    def begin(self, views: Sequence[View]) -> Pending:
        """The same, later; the distances are the CPU's."""
        answers = self._batch.begin(self._batch.inputs([view.pixels for view in views]))
        return Pending(lambda: self._read(answers.collect(), views), answers.held_bytes)

    def _read(self, outputs: "Sequence[torch.Tensor]", views: Sequence[View]) -> list[Prediction]:
        predictions = []
        for output, view in zip(outputs, views, strict=True):
            distances: Floats = self._head.distance_map(output).numpy()
            predictions.append(self._predict(inside(distances, view, self._input), view))
        return predictions

    def _predict(self, distances: Floats, view: View) -> Prediction:
        if not np.isfinite(distances).all():
            raise ArithmeticError("the backbone's features are not finite")
        distance = patchcore.image_distance(distances)
        score = distance / self._threshold
        ratios = distances / np.float32(self._threshold)
        scale = max(float(ratios.max()), 1e-6) / 255.0
        values = np.rint(ratios / scale).astype(np.uint8)
        return Prediction(
            fields={
                "is_anomalous": score > 1.0,
                "p_value": None if self._held_out is None else p_value(distance, self._held_out),
                "heat_map": {
                    "height": ratios.shape[0],
                    "width": ratios.shape[1],
                    "scale": scale,
                    "values": values.tobytes(),
                },
                "regions": find_regions(ratios, width_px=view.width_px, height_px=view.height_px),
            },
            score=score,
            score_kind="distance_over_threshold",
        )


def _said(given: Preprocessing) -> str:
    numbers = f"mean {list(given.mean)}, std {list(given.std)}"
    return f"{given.width_px} x {given.height_px} px, fit: {given.fit}, {numbers} ({preproc_id(given)})"


def inside(values: Floats, view: View, given: Preprocessing) -> Floats:
    """The part of a (rows, columns) map over a model's input that shows the image, without the padding around it."""
    place = placement(view.pixels.shape[1], view.pixels.shape[0], given).target
    rows, columns = values.shape
    top = min(rows - 1, place.top * rows // given.height_px)
    left = min(columns - 1, place.left * columns // given.width_px)
    bottom = max(top + 1, round((place.top + place.height) * rows / given.height_px))
    right = max(left + 1, round((place.left + place.width) * columns / given.width_px))
    return values[top:bottom, left:right]


def find_regions(ratios: Floats, *, width_px: int, height_px: int) -> list[dict[str, Any]]:
    """The connected parts of the map above 1, the farthest first, in pixels of an image of that size."""
    cell_w, cell_h = width_px / ratios.shape[1], height_px / ratios.shape[0]
    count, parts, stats, _ = cv2.connectedComponentsWithStats((ratios > 1.0).astype(np.uint8), connectivity=8)
    regions: list[dict[str, Any]] = []
    for index in range(1, count):
        left, top, width, height, cells = (int(number) for number in stats[index])
        regions.append(
            {
                "box": [left * cell_w, top * cell_h, (left + width) * cell_w, (top + height) * cell_h],
                "score": float(ratios[parts == index].max()),
                "area_px": max(1, round(cells * cell_w * cell_h)),
            }
        )
    return sorted(regions, key=lambda region: -region["score"])[:_MAX_REGIONS]
