"""Which class does every pixel belong to? A semantic segmenter over a view, whole or in tiles with blended seams."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from winnow_storage.errors import ModelError
from winnow_workers.boxes import SOFTMIN_TEMPERATURE, softmin
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import open_network
from winnow_workers.models.fixed_batch import Answers
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import Precision, Wanted, open_batch, precision_id
from winnow_workers.models.preprocess import Window, needed_side_px, placement, preproc_id
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.operator import View
from winnow_workers.tiles import Tiling, at_full_size, windows

if TYPE_CHECKING:
    import torch
    from torch import nn

Floats = npt.NDArray[np.float32]
ClassMap = npt.NDArray[np.unsignedinteger[Any]]

BACKGROUND = ("background", "__background__", "_background_", "bg", "unlabeled", "unlabelled", "void", "nothing")
_MAX_STRIP_BYTES = 2 << 30  # of probabilities that wait for the next row of tiles


@dataclass(frozen=True, slots=True)
class Painted:
    """`classes`: (height, width) class indices at the full size of the view.

    `class_scores`: the mean top probability of the pixels of each class, NaN where it has none. `score`: the soft
    minimum over the pixels' top probabilities. `boundary_entropy`: the mean entropy of the pixels that touch another
    class, over that of a uniform guess; in [0, 1], None where one class fills the image.
    """

    classes: ClassMap
    class_scores: Floats
    score: float
    boundary_entropy: float | None


class SemanticSegmenter:
    """A network that answers with logits per pixel, (n, classes, rows, columns), at its input's size or smaller."""

    def __init__(
        self,
        model: ResolvedModel,
        device: str,
        *,
        labels: tuple[str, ...],
        given_input: Preprocessing | None,
        precision: Precision = "fp32",
        threads: int = 1,
        images: int = 0,
    ) -> None:
        """Load the network.

        Raises:
            ModelError: it does not answer per pixel, or has another number of classes than there are labels.
        """
        network = _open(model, device, labels, given_input)
        self.input = network.input
        try:
            self._batch = open_batch(
                network.module, device, Wanted(precision, self.input, "choice", model, threads, images)
            )
            shape = tuple(self._batch(self._batch.inputs([np.zeros((1, 1, 3), np.uint8)]))[0].shape)
        except RuntimeError as error:
            if "memory" in str(error):
                raise
            sides = f"{self.input.height_px} x {self.input.width_px}"
            raise ModelError(
                f"{model.name}: {network.name} cannot take an input of {sides} px: {error}",
                hint="write input: with height_px and width_px that it can take, most often multiples of 32",
            ) from error
        if len(shape) != 3:
            raise ModelError(
                f"{model.name}: {network.name} gives outputs of shape {shape}, a segmenter gives logits per pixel",
                hint="name a segmenter, such as torchvision/deeplabv3_mobilenet_v3_large or builtin/small_unet",
            )
        self.labels = _label_set(model, labels or network.labels, count=shape[0])
        # published folders have label sets of their own, whose first one may be a wall or a road
        is_folder = model.weights.kind == "folder" and not labels
        self.has_background = not is_folder or self.labels[0].casefold() in BACKGROUND

    @property
    def preproc(self) -> str:
        """The id of the input's preprocessing."""
        return precision_id(preproc_id(self.input), self._batch)

    @property
    def needed_side_px(self) -> int:
        """The input's longer side."""
        return needed_side_px(self.input)

    @property
    def batch_size(self) -> int:
        """The fixed batch."""
        return self._batch.at_once

    def paint(self, views: Sequence[View], tiling: Tiling | None) -> list[Painted]:
        """The classes of every view's pixels."""
        if tiling is not None:
            return [self._paint_tiles(view, tiling) for view in views]
        return self.painted(self.begin(views), views)

    def begin(self, views: Sequence[View]) -> Answers:
        """What the network will say of whole views."""
        return self._batch.begin(self._batch.inputs([view.pixels for view in views]))

    def painted(self, answers: Answers, views: Sequence[View]) -> list[Painted]:
        """What the network says of whole views that were begun with."""
        shown = self._probabilities(answers.collect(), views)
        return [_painted_whole(one, view, self.input) for one, view in zip(shown, views, strict=True)]

    def _probabilities(self, outputs: "Sequence[torch.Tensor]", views: Sequence[View]) -> list[Floats]:
        """(classes, rows, columns) of the part of every view that the network sees, without the padding around it."""
        return [
            self._shown(self._at_input_size(output).softmax(dim=0).numpy(), view)
            for output, view in zip(outputs, views, strict=True)
        ]

    def _at_input_size(self, logits_chw: "torch.Tensor") -> "torch.Tensor":
        """As transformers does it for SegFormer, which answers at a quarter: logits between pixels, not labels."""
        from torch.nn import functional

        size = (self.input.height_px, self.input.width_px)
        if logits_chw.shape[1] >= size[0] and logits_chw.shape[2] >= size[1]:
            return logits_chw
        return functional.interpolate(logits_chw[None].float(), size, mode="bilinear", align_corners=False)[0]

    def _shown(self, probabilities_chw: Floats, view: View) -> Floats:
        place = placement(view.pixels.shape[1], view.pixels.shape[0], self.input).target
        scale_y = probabilities_chw.shape[1] / self.input.height_px
        scale_x = probabilities_chw.shape[2] / self.input.width_px
        top, bottom = int(place.top * scale_y), max(1, round((place.top + place.height) * scale_y))
        left, right = int(place.left * scale_x), max(1, round((place.left + place.width) * scale_x))
        shown = probabilities_chw[:, min(top, bottom - 1) : bottom, min(left, right - 1) : right]
        if not np.isfinite(shown).all():
            raise ArithmeticError("the model's probabilities are not finite")
        return shown

    def _paint_tiles(self, view: View, tiling: Tiling) -> Painted:
        view = at_full_size(view)
        canvas = _Canvas(view, tiling, count=len(self.labels))
        tiles = windows(view.width_px, view.height_px, tiling)
        for start in range(0, len(tiles), self.batch_size):
            part = tiles[start : start + self.batch_size]
            looks = [
                View(view.pixels[w.top : w.top + w.height, w.left : w.left + w.width], w.width, w.height) for w in part
            ]
            shown_parts = self._probabilities(self.begin(looks).collect(), looks)
            for window, shown in zip(part, shown_parts, strict=True):
                canvas.add(window, shown)
        return canvas.finish()


@dataclass(frozen=True, slots=True)
class _Opened:
    """A network, with what its card or its folder says."""

    module: "nn.Module"
    name: str
    input: Preprocessing
    labels: tuple[str, ...]


def _open(model: ResolvedModel, device: str, labels: tuple[str, ...], given: Preprocessing | None) -> _Opened:
    if model.weights.kind == "folder":
        return _open_folder(model, device, given)
    network = open_network(model, device=device, n_labels=len(labels) or None)
    said = given or (network.card.preprocessing if network.card else None)
    return _Opened(
        network.module,
        network.architecture,
        said or default_preprocessing(network.architecture),
        network.card.labels if network.card else (),
    )


def _open_folder(model: ResolvedModel, device: str, given: Preprocessing | None) -> _Opened:
    from winnow_workers.models.logits import PlainLogits
    from winnow_workers.models.transformers_model import open_transformers

    opened = open_transformers(model, "segment", device=device)
    said = given or opened.preprocessing
    if said is None:
        raise ModelError(
            f"{model.name}: its preprocessor_config.json is missing, or says what cannot be done here",
            hint="write what the model expects in the task: input: {height_px: ..., width_px: ..., mean: [...], "
            "std: [...]}",
        )
    return _Opened(PlainLogits(opened.module), type(opened.module).__name__, said, opened.labels)


def _label_set(model: ResolvedModel, labels: tuple[str, ...], *, count: int) -> tuple[str, ...]:
    if not labels and model.weights.kind == "random":
        labels = tuple(str(index) for index in range(count))
    if len(labels) != count:
        raise ModelError(
            f"{model.name}: {len(labels)} labels for a model with {count} classes",
            hint="add labels: [background, ...] to the task, one per class of the model, in its order",
        )
    return labels


def _painted_whole(shown: Floats, view: View, preprocessing: Preprocessing) -> Painted:
    classes = shown.argmax(axis=0).astype(np.min_scalar_type(len(shown)))
    confidence = shown.max(axis=0)
    sums = np.bincount(classes.ravel(), confidence.ravel().astype(np.float64), minlength=len(shown))
    return Painted(
        classes=full_size(classes, view, preprocessing),
        class_scores=_means(sums.astype(np.float64), np.bincount(classes.ravel(), minlength=len(shown))),
        score=softmin(confidence),
        boundary_entropy=_mean_at_boundary(_entropy(shown), classes),
    )


class _Canvas:
    """Probabilities of tiles, blended where they overlap. Rows that no tile to come touches are settled and let go."""

    def __init__(self, view: View, tiling: Tiling, *, count: int) -> None:
        self._ramp_px = max(1.0, tiling.side_px * tiling.overlap)
        self._width, self._height = view.width_px, view.height_px
        rows = min(tiling.side_px, view.height_px)
        needed = 4 * count * rows * self._width
        if needed > _MAX_STRIP_BYTES:
            raise ValueError(
                f"tiles of {tiling.side_px} px with {count} classes over an image {self._width} px wide need "
                f"{needed / 2**30:.1f} GiB; write a smaller tiles.side_px"
            )
        self._top = 0  # of the strip, in the image
        self._strip = np.zeros((count, rows, self._width), np.float32)
        self._weights = np.zeros((rows, self._width), np.float32)
        self._classes = np.zeros((self._height, self._width), np.min_scalar_type(count))
        self._entropy = np.zeros((self._height, self._width), np.float16)
        self._sums, self._counts = np.zeros(count), np.zeros(count, np.int64)
        self._softmin = np.zeros(2)  # of weight * value, and of weight

    def add(self, window: Window, shown: Floats) -> None:
        """Blend a tile in; tiles come row by row."""
        import torch
        from torch.nn import functional

        if window.top > self._top:
            self._settle(window.top - self._top)
        size = (window.height, window.width)
        scaled = functional.interpolate(torch.from_numpy(shown.copy())[None], size, mode="bilinear")[0].numpy()
        weights = np.outer(_ramp(window.height, self._ramp_px), _ramp(window.width, self._ramp_px)).astype(np.float32)
        columns = slice(window.left, window.left + window.width)
        self._strip[:, : window.height, columns] += scaled * weights
        self._weights[: window.height, columns] += weights

    def finish(self) -> Painted:
        """Everything, once all tiles are in."""
        self._settle(self._height - self._top)
        return Painted(
            classes=self._classes,
            class_scores=_means(self._sums, self._counts),
            score=float(self._softmin[0] / self._softmin[1]),
            boundary_entropy=_mean_at_boundary(self._entropy, self._classes),
        )

    def _settle(self, rows: int) -> None:
        probabilities = self._strip[:, :rows] / self._weights[None, :rows]
        part = slice(self._top, self._top + rows)
        self._classes[part] = probabilities.argmax(axis=0)
        self._entropy[part] = _entropy(probabilities)
        confidence = probabilities.max(axis=0).astype(np.float64).ravel()
        flat = self._classes[part].ravel()
        self._sums += np.bincount(flat, confidence, minlength=len(self._sums))
        self._counts += np.bincount(flat, minlength=len(self._sums))
        weights = np.exp((1.0 - confidence) / SOFTMIN_TEMPERATURE)
        self._softmin += (confidence * weights).sum(), weights.sum()
        rest = self._strip.shape[1] - rows
        for waiting in (self._strip, self._weights):
            waiting[..., :rest, :] = waiting[..., rows:, :].copy()
            waiting[..., rest:, :] = 0
        self._top += rows


def _ramp(length: int, ramp_px: float) -> npt.NDArray[np.float64]:
    """How much each pixel of a tile counts along one side: less towards its ends."""
    index = np.arange(length) + 0.5
    return np.asarray(np.clip(np.minimum(index, length - index) / ramp_px, 1e-3, 1.0), np.float64)


def _means(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> Floats:
    means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return np.asarray(means, np.float32)


def _entropy(probabilities_chw: Floats) -> Floats:
    """(rows, columns) entropy over that of a uniform guess, in [0, 1]."""
    if len(probabilities_chw) == 1:
        return np.zeros(probabilities_chw.shape[1:], np.float32)
    total = np.zeros(probabilities_chw.shape[1:], np.float32)
    for one in probabilities_chw:
        total -= one * np.log(np.maximum(one, 1e-12))
    return np.asarray(np.clip(total / np.log(len(probabilities_chw)), 0.0, 1.0), np.float32)


def _mean_at_boundary(values: npt.NDArray[np.floating[Any]], classes: ClassMap) -> float | None:
    """The mean over the pixels that have a neighbour (of four) of another class."""
    below, beside = classes[1:] != classes[:-1], classes[:, 1:] != classes[:, :-1]
    edge = np.zeros(classes.shape, np.bool_)
    edge[1:] |= below
    edge[:-1] |= below
    edge[:, 1:] |= beside
    edge[:, :-1] |= beside
    return float(values[edge].mean(dtype=np.float64)) if edge.any() else None


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
