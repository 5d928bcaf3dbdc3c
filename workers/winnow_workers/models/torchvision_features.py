"""How do torchvision's classifiers give features? Without their heads, and pooled by their own way or another one."""

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from winnow_storage.errors import ModelError
from winnow_workers.models.pooling import PoolMaps, PoolTokens, Wish, check_has

if TYPE_CHECKING:
    from collections.abc import Sequence

# networks that pool inside `forward`: the parts before that, in order; the last number is that of the network's parts
_PARTS: dict[str, "Sequence[str]"] = {
    "DenseNet": ("features",),
    "MobileNetV2": ("features",),
    "SqueezeNet": ("features",),
    "MNASNet": ("layers",),
    "ShuffleNetV2": ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"),
    "MaxVit": ("stem", "blocks"),
}


def take_off_head(module: nn.Module) -> None:
    """Replace the last linear layer, in place, so that what comes before it comes out."""
    name, head = list(module.named_children())[-1]
    linear = [path for path, part in head.named_modules() if isinstance(part, nn.Linear)]
    if not linear:  # squeezenet: its head is a convolution
        setattr(module, name, nn.AdaptiveAvgPool2d(1))
    elif linear[-1] == "":
        setattr(module, name, nn.Identity())
    else:
        parent, _, last = linear[-1].rpartition(".")
        setattr(head.get_submodule(parent), last, nn.Identity())


def torchvision_features(module: nn.Module, wish: Wish, name: str) -> nn.Module:
    """(n, 3, h, w) images to (n, features): the last maps before the network's own pooling, or its tokens.

    Raises:
        ModelError: the network has no class token, no attention pooler, or is of a family that is not known here.
    """
    kind = type(module).__name__
    is_vit = kind == "VisionTransformer"
    check_has(name, wish, class_token=is_vit, attention=False)
    if is_vit:
        # `forward` takes the first token of what the encoder gives
        vit = cast("Any", module)
        vit.encoder, vit.heads = nn.Sequential(vit.encoder, _OneToken(wish)), nn.Identity()
        return module
    if kind in _PARTS:
        parts: list[nn.Module] = []
        for part in (module.get_submodule(one) for one in _PARTS[kind]):
            parts += part if isinstance(part, nn.ModuleList) else [part]
        if kind == "DenseNet":  # in its `forward`
            parts.append(nn.ReLU())
        return nn.Sequential(*parts, PoolMaps(wish), nn.Flatten())
    if isinstance(getattr(module, "avgpool", None), nn.Module):
        last, _ = list(module.named_children())[-1]
        cast("Any", module).avgpool = PoolMaps(wish)
        setattr(module, last, nn.Identity())
        return nn.Sequential(module, nn.Flatten())
    raise ModelError(f"{name}: where {kind} pools is not known here", hint="leave pooling out of the task")


class _OneToken(nn.Module):
    def __init__(self, wish: Wish) -> None:
        super().__init__()
        self._pool = PoolTokens(wish, prefix=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, tokens, features) to (n, 1, features)."""
        pooled: Tensor = self._pool(tokens)
        return pooled.unsqueeze(1)
