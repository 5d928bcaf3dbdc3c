"""How does a transformers network give one vector per image? A ViT, DINOv2, a ResNet, the tower of CLIP or SigLIP."""

from typing import Any, cast

from torch import Tensor, nn

from winnow_storage.errors import ModelError
from winnow_workers.models.pooling import PoolMaps, PoolTokens, Wish, check_has

_CLASS_TOKENS = ("cls_token", "class_embedding")


class TransformersFeatures(nn.Module):
    """(n, 3, h, w) images to (n, features). Of a pair only the image's tower is kept.

    `model` is the projected vector of a CLIP pair or tower, in the space that its text tower shares; otherwise what the
    library calls `pooler_output`; without a trained one the class token, else the mean. Tokens are those behind the
    last norm.
    """

    def __init__(self, network: nn.Module, wish: Wish, name: str) -> None:
        """Raises:
        ModelError: the network takes no plain images, or has not what the pooling needs.
        """
        super().__init__()
        whole = cast("Any", network)
        self.tower: nn.Module = getattr(whole, "vision_model", network)
        self.projection: nn.Module | None = getattr(whole, "visual_projection", None)
        named = {path.rpartition(".")[2] for path, _ in self.tower.named_parameters()}
        config = getattr(self.tower, "config", whole.config)
        self._has_class_token = bool(named & {*_CLASS_TOKENS})
        self._prefix = (
            int(self._has_class_token)
            + int("distillation_token" in named)
            + int(getattr(config, "num_register_tokens", 0) or 0)
        )
        self._wish = wish
        # CLIP norms the class token only, inside its pooler
        self.norm: nn.Module = (
            getattr(self.tower, "post_layernorm", nn.Identity()) if "class_embedding" in named else nn.Identity()
        )
        has_attention = bool(getattr(config, "vision_use_head", False)) and hasattr(self.tower, "head")
        check_has(name, wish, class_token=self._has_class_token, attention=has_attention)
        if getattr(self.tower, "main_input_name", "pixel_values") != "pixel_values":
            raise ModelError(f"{name} takes no images", hint="name the folder of a vision model")

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Pooled."""
        found: Any = self.tower(pixel_values=images_nchw)
        pooled: Tensor | None = getattr(found, "pooler_output", None)
        if self._wish.pooling == "map" and pooled is not None:
            return pooled
        if self._wish.pooling == "model" and pooled is not None:
            pooled = pooled.flatten(1)
            return pooled if self.projection is None else cast("Tensor", self.projection(pooled))
        state: Tensor = found.last_hidden_state
        if state.ndim == 4:
            return cast("Tensor", PoolMaps(self._wish)(state)).flatten(1)
        wish = self._wish
        if wish.pooling == "model":
            wish = Wish("cls" if self._has_class_token else "mean")
        return cast("Tensor", PoolTokens(wish, self._prefix)(self.norm(state)))
