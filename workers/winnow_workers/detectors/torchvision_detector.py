"""How does a torchvision detector run? SSD, SSDlite, RetinaNet, FCOS, Faster, Mask and Keypoint R-CNN, one by one.

The library pads the images of a batch to a common size, so that what it finds in one depends on the others: each view
is a batch of its own here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_value
from winnow_workers.boxes import clipped
from winnow_workers.detectors.detector import Detector, Search
from winnow_workers.detectors.found import Found, Patch, strongest
from winnow_workers.models.build import architecture_of, build_network, fill, open_weights
from winnow_workers.models.hub import public_labels
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.operator import View

if TYPE_CHECKING:
    import torch
    from torch import nn

    from winnow_workers.operator import PixelsHWC

BACKGROUND = ("__background__", "background")
_EVERYTHING = 1_000_000  # the library's own cap, which would drop boxes silently
_MAX_ASPECT = 32  # a longer strip is padded: scaled to the model's size, its short side would vanish
_MASK_LEVEL = 0.5
_GREY = 114  # what is laid around an image
_REVISION = 1


class TorchvisionDetector(Detector):
    """A network of torchvision's detection module. Boxes of its own non-maximum suppression, class by class."""

    def __init__(self, model: ResolvedModel, search: Search, device: str) -> None:
        """Build the network around its weights; no backbone is downloaded.

        Raises:
            ModelError: the weights do not fit, the labels are of another number, or it draws no masks.
        """
        loaded = open_weights(model)
        self._architecture = architecture_of(model, loaded.card)
        self._search = search
        self._device = device
        arguments = dict(loaded.card.arguments) if loaded.card is not None else {}
        labels = search.labels or (loaded.card.labels if loaded.card is not None else ())
        if labels and _has_background(self._architecture) and labels[0] not in BACKGROUND:
            labels = (BACKGROUND[0], *labels)
        seed = model.weights.seed or 0
        module = build_network(self._architecture, arguments, n_labels=len(labels) or None, seed=seed, device=device)
        if model.weights.kind != "random":
            fill(module, loaded.tensors, where=f"{model.name} ({self._architecture})")
        self._cuts: list[int] = []
        self.max_iou = _settle(module, search, self._cuts)
        self._resize(module, model)
        self.labels = _label_set(model, self._architecture, labels, count=_class_count(module))
        self._module = module.eval().to(device)

    def _resize(self, module: "nn.Module", model: ResolvedModel) -> None:
        transform: Any = module.transform
        transform.postprocess = _only_boxes
        if self._search.input is not None or (
            transform.fixed_size is not None and (self._search.min_side_px or self._search.max_side_px)
        ):
            raise ModelError(
                f"{model.name}: {self._architecture} has its own input, which the task cannot replace",
                hint="remove input:"
                if self._search.input is not None
                else "remove min_side_px: and max_side_px:, which are for R-CNN, RetinaNet and FCOS",
            )
        if self._search.min_side_px is not None:
            transform.min_size = (self._search.min_side_px,)
        if self._search.max_side_px is not None:
            transform.max_size = self._search.max_side_px
        self._sides = tuple(transform.fixed_size or (transform.min_size[-1], transform.max_size))
        self._is_fixed = transform.fixed_size is not None

    @property
    def preproc(self) -> str:
        """The id of the library's own scaling and normalisation."""
        from torchvision import __version__

        transform: Any = self._module.transform
        what = {
            "revision": _REVISION,
            "torchvision": __version__.partition("+")[0],
            "sides": list(self._sides),
            "mean": list(transform.image_mean),
            "std": list(transform.image_std),
        }
        kind = "fixed" if self._is_fixed else "shorter"
        return f"tv{_REVISION}-{self._sides[0]}x{self._sides[1]}-{kind}-{digest_value(what)[:8]}"

    @property
    def needed_side_px(self) -> int:
        """The shorter side to which the library scales."""
        return int(max(self._sides) if self._is_fixed else self._sides[0])

    def at_one_size(self) -> "tuple[nn.Module, Preprocessing]":
        """Have the network take images of one size only, which an ONNX file needs: itself, and what that input is.

        One that keeps an image's aspect takes the square of its longest side, in which an image is letterboxed.
        """
        transform: Any = self._module.transform
        height, width = self._sides
        if not self._is_fixed:
            step = int(transform.size_divisible)
            height = width = -(-int(transform.max_size) // step) * step
            transform.min_size, transform.max_size = (height,), height
            self._sides = (height, width)
        plain = Preprocessing(
            height_px=height,
            width_px=width,
            fit="stretch" if self._is_fixed else "pad",
            pad_value=None if self._is_fixed else _GREY,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        return self._module, plain

    def find(self, views: Sequence[View]) -> list[Found]:
        """What is in each view."""
        return [self._find(view) for view in views]

    def _find(self, view: View) -> Found:
        import torch

        pixels = _not_too_thin(view.pixels)
        whole = np.require(pixels, requirements=["C", "W"])  # torch takes no arrays that cannot be written to
        image = torch.from_numpy(whole).permute(2, 0, 1).to(self._device).float().div_(255.0)
        self._cuts.clear()
        with torch.inference_mode():
            found = self._module([image])[0]
        scale_x, scale_y = view.width_px / view.pixels.shape[1], view.height_px / view.pixels.shape[0]
        boxes = found["boxes"].cpu().numpy() * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        scores = found["scores"].cpu().numpy()
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ArithmeticError("the model's boxes or scores are not finite")
        masks = None
        if self._search.masks:
            raw = found["masks"].float().cpu()
            masks = tuple(_pasted(one[0], box, view) for one, box in zip(raw, torch.from_numpy(boxes), strict=True))
        boxes = clipped(boxes, width_px=view.width_px, height_px=view.height_px)
        everything = Found(boxes, found["labels"].cpu().numpy().astype(np.int64), scores, masks, sum(self._cuts))
        return strongest(everything, most=self._search.most, floor=self._search.floor)


def _has_background(architecture: str) -> bool:
    """Whether class 0 is the background: of softmax heads, not of RetinaNet's and FCOS's sigmoids."""
    return not architecture.partition("/")[2].startswith(("retinanet", "fcos"))


def _settle(module: "nn.Module", search: Search, cuts: list[int]) -> float:
    """Open the network's own filters as far as `search` says; the IoU of its suppression."""
    heads: Any = getattr(module, "roi_heads", module)
    heads.score_thresh = search.floor
    heads.detections_per_img = _EVERYTHING
    if search.max_iou is not None:
        heads.nms_thresh = search.max_iou
    if heads is not module:
        if search.masks:
            _cap_before_masks(heads, search.most, cuts)
        else:
            heads.mask_roi_pool = None
        heads.keypoint_roi_pool = None
    return float(heads.nms_thresh)


def _cap_before_masks(heads: Any, most: int, cuts: list[int]) -> None:
    """Have masks drawn for the strongest `most` boxes only, and the others counted in `cuts`."""
    inner = heads.postprocess_detections

    def capped(*args: Any) -> Any:
        boxes, scores, labels = inner(*args)
        cuts.extend(max(0, len(one) - most) for one in scores)
        return tuple([one[:most] for one in kind] for kind in (boxes, scores, labels))

    heads.postprocess_detections = capped


def _only_boxes(found: list[dict[str, "torch.Tensor"]], sizes: Any, originals: Any) -> list[dict[str, "torch.Tensor"]]:
    """Boxes in pixels of the original images. The library would also paste each mask into a full-size image."""
    from torchvision.models.detection.transform import resize_boxes

    for one, size, original in zip(found, sizes, originals, strict=True):
        one["boxes"] = resize_boxes(one["boxes"], size, original)
    return found


def _class_count(module: Any) -> int:
    if hasattr(module, "roi_heads"):
        return int(module.roi_heads.box_predictor.cls_score.out_features)
    head = module.head.classification_head
    return int(head.num_classes if hasattr(head, "num_classes") else head.num_columns)


def _label_set(model: ResolvedModel, architecture: str, labels: tuple[str, ...], *, count: int) -> tuple[str, ...]:
    if not labels and model.weights.kind == "pretrained":
        labels = public_labels(architecture, count) or ()
    if not labels and model.weights.kind == "random":
        labels = tuple(str(index) for index in range(count))
    if len(labels) != count:
        background = " and one for the background, which is added" if _has_background(architecture) else ""
        raise ModelError(
            f"{model.name}: {len(labels)} labels for a model with {count} classes",
            hint=f"add labels: [...] to the task, one per class of the model in its order{background}",
        )
    return labels


def _not_too_thin(pixels: "PixelsHWC") -> "PixelsHWC":
    """The same, padded with grey to the right or below, where coordinates do not move."""
    height, width = pixels.shape[:2]
    least = -(-max(height, width) // _MAX_ASPECT)
    if min(height, width) >= least:
        return pixels
    canvas = np.full((max(height, least), max(width, least), 3), _GREY, np.uint8)
    canvas[:height, :width] = pixels
    return canvas


def _pasted(mask: "torch.Tensor", box: "torch.Tensor", view: View) -> Patch:
    """A (m, m) mask of probabilities laid over its box, cut at a half, within the view at its full size.

    The same arithmetic as the library's `paste_masks_in_image`, without an image of its own for every mask.
    """
    from torch.nn import functional

    side = mask.shape[-1]
    padded = functional.pad(mask, (1, 1, 1, 1))
    half = (box[2:] - box[:2]) * 0.5 * (float(side + 2) / side)
    centre = (box[2:] + box[:2]) * 0.5
    left, top = (int(value) for value in centre - half)
    right, bottom = (int(value) for value in centre + half)
    width, height = max(right - left + 1, 1), max(bottom - top + 1, 1)
    drawn = functional.interpolate(padded[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(right + 1, view.width_px), min(bottom + 1, view.height_px)
    bits = drawn[y0 - top : max(y1, y0) - top, x0 - left : max(x1, x0) - left] > _MASK_LEVEL
    return Patch(x0, y0, bits.numpy())
