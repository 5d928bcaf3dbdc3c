"""How does a detector become an ONNX file? Traced at one input size, and only kept if it finds the same.

The file answers in the layout `named`. Of torchvision's the suppression of doubles, class by class, is in it; of DETRs,
which leave none, the choice of the strongest pairs of query and class. The exporter that traces is used: torch.export
cannot follow filters whose number of boxes depends on the pixels.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_bytes
from winnow_workers.detectors.detector import Detector, Search
from winnow_workers.detectors.found import Found
from winnow_workers.detectors.onnx_detector import FLOOR_KEY, OnnxDetector
from winnow_workers.detectors.torchvision_detector import TorchvisionDetector
from winnow_workers.models.architectures import is_detector
from winnow_workers.models.folder import local_folder
from winnow_workers.models.folder_card import folder_card
from winnow_workers.models.load import keep
from winnow_workers.models.model_file import ModelCard, Preprocessing
from winnow_workers.models.onnx_export import AGREES, OPSET, TOLERANCE, first_line, quietly
from winnow_workers.models.onnx_file import with_card
from winnow_workers.models.preprocess import to_canvas
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.variants import Compared, Pixels, card_alone, file_model
from winnow_workers.operator import View

if TYPE_CHECKING:
    from torch import Tensor, nn

FLOOR = 0.05  # of a task that names none; boxes below it are not in the file's answers
_MOST = 300
_CLOSE_PX = 0.5


def exports_boxes(model: ResolvedModel) -> bool:
    """Whether a model is a detector that is exported here: a DETR's folder, or torchvision's without masks, keypoints.

    Raises:
        ModelError, StoreError: it cannot be read.
    """
    if model.weights.kind == "folder":
        return folder_card(local_folder(model)).kind == "detect"
    card = card_alone(model)
    if card is None or not is_detector(card.architecture):
        return False
    return not card.architecture.startswith(("torchvision/maskrcnn", "torchvision/keypointrcnn"))


def exported_detector(model: ResolvedModel, images: Sequence[Pixels]) -> tuple[bytes, Compared]:
    """The ONNX file of such a detector, with its parity on the images in its card.

    Raises:
        ModelError: torch cannot export it, it finds something else as an ONNX file, or nothing to compare.
    """
    search = Search(floor=FLOOR, most=_MOST)
    detector, network, card = _opened(model, search)
    given = card.preprocessing
    assert given is not None  # noqa: S101 - _opened puts it there
    data = with_card(_traced(network, given, where=model.name), card, where=model.name)
    sha256 = digest_bytes(data)
    keep(data, sha256)  # so that it is found by its digest; it has no other place yet
    file = file_model(f"file:///{sha256}.onnx", sha256, name=model.name)
    found = _compared(detector, OnnxDetector(file, search, "cpu", threads=1), given, images)
    if found.largest_output == 0:
        raise ModelError(
            f"{model.name} finds nothing in {found.images} images, so that nothing can be compared",
            hint="name a folder of images that show what it finds: --images FOLDER",
        )
    if found.agreement < AGREES:
        raise ModelError(
            f"the ONNX file of {model.name} finds other things than torch in {found.images} images: "
            f"{found.agreement:.4f} of the boxes are in both (needed {AGREES})",
            hint="nothing was written; run it as it is",
        )
    metrics = dict(card.metrics) | {
        "parity_images": found.images,
        "parity_agreement": found.agreement,
        "parity_max_abs_difference": found.max_abs_difference,
    }
    return with_card(data, card.model_copy(update={"metrics": metrics}), where=model.name), found


def _opened(model: ResolvedModel, search: Search) -> tuple[Detector, "nn.Module", ModelCard]:
    """A detector, its network as ONNX has it, and the file's card."""
    if model.weights.kind == "folder":
        from winnow_workers.detectors.detr import DetrDetector

        queries = DetrDetector(model, search, "cpu")
        network, given = queries.of_queries()
        own = folder_card(local_folder(model))
        of_boxes = {"layout": {"kind": "named", "box": "cxcywh", "unit": "ratio"}}
        return queries, network.eval(), _card(own, model.name, queries.labels, given, of_boxes)
    detector = TorchvisionDetector(model, search, "cpu")
    network, given = detector.at_one_size()
    found = card_alone(model)
    assert found is not None  # noqa: S101 - it is a detector by its card
    card = _card(found, model.name, detector.labels, given, {"layout": {"kind": "named"}, FLOOR_KEY: FLOOR})
    return detector, _Batched.of(network), card


def _card(
    card: ModelCard, parent: str, labels: tuple[str, ...], given: Preprocessing, extra: Mapping[str, Any]
) -> ModelCard:
    return card.model_copy(
        update={
            "arguments": {},
            "kind": "detect",
            "labels": labels,
            "parent": parent,
            "preprocessing": given,
            "extra": dict(card.extra) | dict(extra),
        }
    )


class _Batched:
    """A network of lists and dictionaries, as ONNX has it: (1, 3, height, width) to boxes, scores and labels."""

    @staticmethod
    def of(module: "nn.Module") -> "nn.Module":
        """The module, within one that takes and gives tensors with a first axis of one."""
        from torch import Tensor, nn

        class Batched(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                found = self.inner([images[0]])[0]
                return found["boxes"][None], found["scores"][None], found["labels"][None]

        return Batched(module).eval()


def _traced(module: "nn.Module", given: Preprocessing, *, where: str) -> bytes:
    import torch

    sample: Tensor = torch.rand(1, 3, given.height_px, given.width_px, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory(prefix="winnow-onnx-") as folder:
        file = Path(folder) / "made.onnx"
        try:
            with quietly(), torch.inference_mode(mode=False), torch.no_grad():
                torch.onnx.export(
                    module,
                    (sample,),
                    str(file),
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=["images"],
                    output_names=["boxes", "scores", "labels"],
                    dynamic_axes={name: {1: "found"} for name in ("boxes", "scores", "labels")},
                )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
            raise ModelError(
                f"{where}: torch cannot export it to ONNX: {first_line(error)}", hint="run it as it is"
            ) from error
        return file.read_bytes()


def _compared(ours: Detector, theirs: Detector, given: Preprocessing, images: Sequence[Pixels]) -> Compared:
    """`agreement` is the share of boxes that both find, `max_abs_difference` that of their scores."""
    both = everything = 0
    difference = largest = 0.0
    for pixels in images:
        canvas = to_canvas(pixels, given)[:3].permute(1, 2, 0).contiguous().numpy()
        view = View(canvas, given.width_px, given.height_px)
        (one,), (other,) = ours.find([view]), theirs.find([view])
        apart = _apart(one, other)
        both += len(apart)
        everything += max(len(one), len(other))
        difference = max([difference, *apart])
        largest = max([largest, *one.scores.tolist()])
    return Compared(len(images), both / everything if everything else 1.0, difference, largest)


def _apart(one: Found, other: Found) -> list[float]:
    """How far the scores are from each other of every pair of boxes that are one: of a class, a place and a score."""
    left = np.ones(len(other), np.bool_)
    apart = []
    for box, label, score in zip(one.boxes, one.classes, one.scores, strict=True):
        differences: Any = np.abs(other.scores - score)
        near = left & (other.classes == label) & (np.abs(other.boxes - box).max(axis=1, initial=0.0) <= _CLOSE_PX)
        near &= differences <= TOLERANCE
        if near.any():
            chosen = int(np.where(near, differences, np.inf).argmin())
            left[chosen] = False
            apart.append(float(differences[chosen]))
    return apart
