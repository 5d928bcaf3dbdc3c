"""How does a classifier become an embedder? Its head is taken off, and what is left gives one vector per image."""

from typing import TYPE_CHECKING

from winnow_storage.errors import ModelError
from winnow_workers.models.architectures import is_segmenter, split

if TYPE_CHECKING:
    from torch import nn


def pooled_features(module: "nn.Module", architecture: str) -> "nn.Module":
    """A module from images to (n, features), around (and changing) the given one.

    Raises:
        ModelError: the architecture has no features of a whole image.
    """
    from torch import nn

    from winnow_workers.models.nets import Pooled

    library, _ = split(architecture)
    reset = getattr(module, "reset_classifier", None)
    if is_segmenter(architecture) or (library == "timm" and reset is None):
        raise ModelError(
            f"{architecture} gives no features of a whole image",
            hint="name a classifier's or an embedder's architecture",
        )
    if reset is not None:
        reset(0)
        return Pooled(module)
    if library == "torchvision":
        name, head = list(module.named_children())[-1]
        linear = [path for path, part in head.named_modules() if isinstance(part, nn.Linear)]
        if not linear:  # squeezenet: its head is a convolution
            setattr(module, name, nn.AdaptiveAvgPool2d(1))
        elif linear[-1] == "":
            setattr(module, name, nn.Identity())
        else:
            parent, _, last = linear[-1].rpartition(".")
            setattr(head.get_submodule(parent), last, nn.Identity())
        return Pooled(module)
    return Pooled(module)
