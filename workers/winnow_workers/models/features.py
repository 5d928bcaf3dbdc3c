"""How does a classifier become an embedder? Its head is taken off, and what is left gives one vector per image."""

from typing import TYPE_CHECKING

from winnow_storage.errors import ModelError
from winnow_workers.models.architectures import is_detector, is_segmenter, split

if TYPE_CHECKING:
    from torch import nn

    from winnow_workers.models.pooling import Wish


def pooled_features(module: "nn.Module", architecture: str, wish: "Wish | None" = None) -> "nn.Module":
    """A module from images to (n, features), around (and changing) the given one; by default by its own pooling.

    Raises:
        ModelError: the architecture has no features of a whole image, or not what the pooling needs.
    """
    from winnow_workers.models.nets import Pooled

    library, _ = split(architecture)
    if getattr(module, "kind", None) in ("classify", "segment", "detect"):  # of an ONNX file
        raise ModelError(
            f"the card of this ONNX file says kind: {module.kind}, it gives no features",
            hint="export the model as an embedder: winnow models export NAME@VERSION --kind embed --onnx FILE",
        )
    reset = getattr(module, "reset_classifier", None)
    if is_segmenter(architecture) or is_detector(architecture) or (library == "timm" and reset is None):
        raise ModelError(
            f"{architecture} gives no features of a whole image",
            hint="name a classifier's or an embedder's architecture",
        )
    if wish is not None and wish.pooling != "model":
        return _chosen(module, architecture, wish)
    if reset is not None:
        reset(0)
    elif library == "torchvision":
        from winnow_workers.models.torchvision_features import take_off_head

        take_off_head(module)
    return Pooled(module)


def _chosen(module: "nn.Module", architecture: str, wish: "Wish") -> "nn.Module":
    library, _ = split(architecture)
    if library == "timm":
        from winnow_workers.models.timm_features import TimmFeatures

        return TimmFeatures(module, wish, architecture)
    if library == "torchvision":
        from winnow_workers.models.torchvision_features import torchvision_features

        return torchvision_features(module, wish, architecture)
    raise ModelError(f"{architecture} has one vector only", hint="leave pooling out of the task")
