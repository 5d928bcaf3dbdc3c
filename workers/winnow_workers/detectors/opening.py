"""Which detector does a model mean? By its architecture's library, or by the kind of its file."""

from winnow_storage.errors import ModelError
from winnow_workers.detectors.detector import Detector, Search
from winnow_workers.models.architectures import is_detector
from winnow_workers.models.build import architecture_of, open_weights
from winnow_workers.models.folder import local_folder, read_config
from winnow_workers.models.onnx_file import is_onnx
from winnow_workers.models.reference import ResolvedModel

_EXAMPLES = (
    "torchvision/fasterrcnn_resnet50_fpn, transformers/FOLDER of a DETR, or an ONNX file whose card names its layout"
)


def open_detector(model: ResolvedModel, search: Search, *, device: str, threads: int = 1) -> Detector:
    """The detector of a model, ready to run; `threads` are those of ONNX Runtime.

    Raises:
        ModelError: the model is no detector, its weights do not fit, or its labels are of another number.
    """
    if model.weights.kind == "folder":
        from winnow_workers.detectors.detr import DetrDetector

        return DetrDetector(model, search, device)
    if is_onnx(model):
        from winnow_workers.detectors.onnx_detector import OnnxDetector

        return OnnxDetector(model, search, device, threads=threads)
    if search.layout is not None:
        raise ModelError(f"{model.name}: layout: is for ONNX files", hint="remove layout: from the task")
    architecture = model.architecture or architecture_of(model, open_weights(model).card)
    if is_detector(architecture):
        from winnow_workers.detectors.torchvision_detector import TorchvisionDetector

        return TorchvisionDetector(model, search, device)
    raise ModelError(f"{model.name}: {architecture} is no detector", hint=f"name one, such as {_EXAMPLES}")


def draws_masks(model: ResolvedModel) -> bool:
    """Whether a model finds single things and draws a mask of each, rather than painting classes.

    Raises:
        ModelError: its weights or its folder cannot be read.
    """
    if model.weights.kind == "folder":
        place = local_folder(model) / "config.json"
        named = read_config(place.read_bytes(), where=str(place)).get("architectures") or ()
        return any(str(one).endswith("ForInstanceSegmentation") for one in named)
    if is_onnx(model):
        return False
    architecture = model.architecture or architecture_of(model, open_weights(model).card)
    return architecture.startswith("torchvision/maskrcnn")
