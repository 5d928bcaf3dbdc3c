"""How does a DETR run? RT-DETR, RT-DETRv2, D-FINE, RF-DETR and its kin from a transformers folder, without suppression.

The folder's own image processor makes the input and reads the boxes: they differ in filters and in what a score is.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import nn

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_value
from winnow_workers.boxes import clipped
from winnow_workers.detectors.detector import Detector, Search
from winnow_workers.detectors.found import Found, Patch, strongest
from winnow_workers.models.fixed_batch import FixedBatch
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.preprocess import to_tensor
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.transformers_model import open_transformers, quiet_import
from winnow_workers.operator import View

if TYPE_CHECKING:
    from pathlib import Path

_REVISION = 1
_SAME_INPUT = 1e-3  # of numbers about -2 to 2: less than a tenth of a level of 255
_MERGE_IOU = 0.5  # of boxes of two tiles; within one look a DETR has had its say


class DetrDetector(Detector):
    """A set predictor: a fixed number of queries, each with a box, a score per class and, in RF-DETR-Seg, a mask."""

    def __init__(self, model: ResolvedModel, search: Search, device: str) -> None:
        """Load the folder.

        Raises:
            ModelError: it is no detector, draws no masks where they are asked for, or lacks its preprocessor.
        """
        opened = open_transformers(model, "instances" if search.masks else "detect", device=device)
        if search.input is not None or search.min_side_px is not None or search.max_side_px is not None:
            raise ModelError(
                f"{model.name}: its preprocessor_config.json says its input, which the task cannot replace",
                hint="remove input:, min_side_px: and max_side_px:, or save the folder with another size",
            )
        self._name = model.name
        self._processor = _open_processor(opened.folder, model.name)
        self._search = search
        self.max_iou = search.max_iou if search.max_iou is not None else _MERGE_IOU
        self.labels = _settle_labels(search.labels or opened.labels, opened.module, model.name)
        self._raw = _Joined(opened.module, masks=search.masks)
        self._device = device
        shape = self._input(View(np.zeros((40, 60, 3), np.uint8), 60, 40)).shape
        turned = self._input(View(np.zeros((60, 40, 3), np.uint8), 40, 60)).shape
        # one that keeps an image's aspect runs each by itself: padded to a common size, one would change the other
        self._batch = FixedBatch(self._raw, device) if shape == turned else None
        self._side_px = int(max(shape[1:])) if shape == turned else int(min(shape[1:]))

    @property
    def preproc(self) -> str:
        """The id of what the folder's image processor does."""
        said = self._processor.to_dict()
        return f"hf{_REVISION}-{self._side_px}-{digest_value({'revision': _REVISION, 'processor': said})[:8]}"

    @property
    def needed_side_px(self) -> int:
        """The input's side."""
        return self._side_px

    @property
    def batch_size(self) -> int:
        """The fixed batch, where all inputs are of one size."""
        return 8 if self._batch is None else self._batch.at_once

    def of_queries(self) -> tuple[nn.Module, Preprocessing]:
        """The network that answers (n, 3, height, width) with boxes, scores and labels, and its input.

        Raises:
            ModelError: the folder's processor makes an input that Winnow's own preprocessing does not make.
        """
        return _Queries(self._raw), self._plain_input()

    def _plain_input(self) -> Preprocessing:
        """What the processor does, as a card says it: tried on images that are scaled up, and down."""
        drawn = np.random.default_rng(0)
        looks = [drawn.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((40, 60), (1500, 1100))]
        made = [self._input(View(pixels, pixels.shape[1], pixels.shape[0])) for pixels in looks]
        says_colours = bool(getattr(self._processor, "do_normalize", True))
        height, width = made[0].shape[1:]
        try:
            given = Preprocessing(
                height_px=height,
                width_px=width,
                mean=tuple(self._processor.image_mean) if says_colours else (0.0, 0.0, 0.0),
                std=tuple(self._processor.image_std) if says_colours else (1.0, 1.0, 1.0),
            )
        except (ValidationError, TypeError, AttributeError):
            given = None
        if given is None or not all(
            one.shape == ours.shape and float((one - ours).abs().max()) <= _SAME_INPUT
            for one, ours in zip(made, (to_tensor(pixels, given) for pixels in looks), strict=True)
        ):
            raise ModelError(
                f"{self._name}: its own image processor makes its input, in a way that the card of an ONNX file "
                "cannot say",
                hint="run the folder as it is, or save it with a processor that stretches to one size, bilinear",
            )
        return given

    def find(self, views: Sequence[View]) -> list[Found]:
        """What is in each view."""
        inputs = [self._input(view) for view in views]
        if self._batch is not None:
            outputs = self._batch(inputs)
        else:
            with torch.inference_mode():
                outputs = [self._raw(one[None].to(self._device))[0].float().cpu() for one in inputs]
        return [self._read(output, view) for output, view in zip(outputs, views, strict=True)]

    def _input(self, view: View) -> torch.Tensor:
        image = torch.from_numpy(np.require(view.pixels, requirements=["C", "W"])).permute(2, 0, 1)
        made = self._processor(images=[image], return_tensors="pt", input_data_format="channels_first")
        values: torch.Tensor = made["pixel_values"][0]
        return values

    def _read(self, output: torch.Tensor, view: View) -> Found:
        logits, boxes, masks = self._raw.parted(output)
        if not (torch.isfinite(logits).all() and torch.isfinite(boxes).all()):
            raise ArithmeticError("the model's scores or boxes are not finite")
        if masks is not None:
            return self._read_masks(logits, boxes, masks, view)
        said = self._processor.post_process_object_detection(
            SimpleNamespace(logits=logits[None], pred_boxes=boxes[None]),
            threshold=float(np.nextafter(self._search.floor, 0)),  # it keeps what is above; the floor itself is kept
            target_sizes=[(view.height_px, view.width_px)],
        )[0]
        found = Found(
            clipped(said["boxes"].numpy().astype(np.float32), width_px=view.width_px, height_px=view.height_px),
            said["labels"].numpy().astype(np.int64),
            said["scores"].numpy().astype(np.float32),
        )
        return strongest(found, most=self._search.most, floor=self._search.floor)

    def _read_masks(self, logits: torch.Tensor, boxes: torch.Tensor, masks: torch.Tensor, view: View) -> Found:
        """As RF-DETR's own: the strongest (query, class) pairs, as many as queries; each mask is drawn by itself."""
        scores = logits.sigmoid().flatten()
        top = torch.topk(scores, len(logits))
        queries, classes = top.indices // logits.shape[1], top.indices % logits.shape[1]
        centre, size = boxes[queries, :2], boxes[queries, 2:]
        sides = torch.tensor([view.width_px, view.height_px], dtype=torch.float32).repeat(2)
        corners = torch.cat([centre - size / 2, centre + size / 2], dim=1) * sides
        numbers = np.arange(len(top.values))
        found = Found(
            clipped(corners.numpy(), width_px=view.width_px, height_px=view.height_px),
            classes.numpy().astype(np.int64),
            top.values.numpy(),
            tuple(Patch(int(number), 0, _NO_BITS) for number in numbers),  # drawn for those that are kept only
        )
        kept = strongest(found, most=self._search.most, floor=self._search.floor)
        drawn = tuple(_drawn(masks[queries[one.left]], view) for one in kept.masks or ())
        return Found(kept.boxes, kept.classes, kept.scores, drawn, kept.cut)


_NO_BITS = np.zeros((0, 0), np.bool_)


class _Joined(nn.Module):
    """The outputs of a DETR as one tensor, (n, queries, classes + 4 [+ rows * columns]), for the fixed batch."""

    def __init__(self, inner: nn.Module, *, masks: bool) -> None:
        super().__init__()
        self.inner = inner
        self._masks = masks
        self._grid = (0, 0)

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        """Logits, boxes (cxcywh over the image's sides) and mask logits, side by side."""
        said: Any = self.inner(pixel_values=images_nchw)
        parts = [said.logits, said.pred_boxes]
        if self._masks:
            self._grid = tuple(said.pred_masks.shape[-2:])
            parts.append(said.pred_masks.flatten(2))
        return torch.cat(parts, dim=2)

    def parted(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(queries, classes) logits, (queries, 4) boxes and (queries, rows, columns) mask logits of one image."""
        rows, columns = self._grid
        classes = output.shape[1] - 4 - rows * columns
        masks = output[:, classes + 4 :].reshape(-1, rows, columns) if self._masks else None
        return output[:, :classes], output[:, classes : classes + 4], masks


class _Queries(nn.Module):
    """The strongest (query, class) pairs, as many as queries: what RT-DETR and its kin make of their outputs."""

    def __init__(self, joined: _Joined) -> None:
        super().__init__()
        self._inner = joined.inner

    def forward(self, images_nchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(n, k, 4) boxes, cxcywh over the image's sides, (n, k) scores and (n, k) labels."""
        said: Any = self._inner(pixel_values=images_nchw)
        queries, classes = said.logits.shape[1:]
        scores, places = torch.topk(said.logits.sigmoid().flatten(1), queries, dim=1)
        rows = (places // classes)[..., None].expand(-1, -1, 4)
        return torch.gather(said.pred_boxes, 1, rows), scores, places % classes


def _drawn(logits: torch.Tensor, view: View) -> Patch:
    """A mask at the full size of the view, cut to where it is true."""
    size = (view.height_px, view.width_px)
    full = nn.functional.interpolate(logits[None, None], size=size, mode="bilinear", align_corners=False)[0, 0] > 0
    bits = full.numpy()
    rows, columns = np.flatnonzero(bits.any(axis=1)), np.flatnonzero(bits.any(axis=0))
    if len(rows) == 0:
        return Patch(0, 0, _NO_BITS)
    part = bits[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return Patch(int(columns[0]), int(rows[0]), part)


def _open_processor(folder: "Path", name: str) -> Any:
    if not (folder / "preprocessor_config.json").exists():
        raise ModelError(
            f"{name}: the folder has no preprocessor_config.json, which says what the model's input is",
            hint="save the image processor into the folder too: save_pretrained",
        )
    try:
        with quiet_import():
            from transformers import AutoImageProcessor

            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, OSError, ImportError) as error:
        raise ModelError(
            f"{name}: its preprocessor_config.json cannot be used: {error}", hint="save the image processor again"
        ) from error
    if not hasattr(processor, "post_process_object_detection"):
        raise ModelError(
            f"{name}: {type(processor).__name__} reads no boxes", hint="use the image processor of a detector"
        )
    return processor


def _settle_labels(labels: tuple[str, ...], module: Any, name: str) -> tuple[str, ...]:
    count = int(module.config.num_labels)
    if len(labels) != count:
        raise ModelError(
            f"{name}: {len(labels)} labels for a model with {count} classes",
            hint="add labels: [...] to the task, one per class of the model in its order",
        )
    return labels
