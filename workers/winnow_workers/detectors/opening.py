"""Which detector does a model mean? By its architecture's library."""

from winnow_storage.errors import ModelError
from winnow_workers.detectors.detector import Detector, Search
from winnow_workers.models.architectures import is_detector
from winnow_workers.models.build import architecture_of, open_weights
from winnow_workers.models.reference import ResolvedModel

_EXAMPLES = "torchvision/fasterrcnn_resnet50_fpn or torchvision/ssdlite320_mobilenet_v3_large"


def open_detector(model: ResolvedModel, search: Search, *, device: str) -> Detector:
    """The detector of a model, ready to run.

    Raises:
        ModelError: the model is no detector, its weights do not fit, or its labels are of another number.
    """
    architecture = model.architecture or architecture_of(model, open_weights(model).card)
    if is_detector(architecture):
        from winnow_workers.detectors.torchvision_detector import TorchvisionDetector

        return TorchvisionDetector(model, search, device)
    raise ModelError(f"{model.name}: {architecture} is no detector", hint=f"name one, such as {_EXAMPLES}")


def draws_masks(architecture: str) -> bool:
    """Whether an architecture finds single things and draws a mask of each, rather than painting classes."""
    return architecture.startswith("torchvision/maskrcnn")
