"""How do timm's networks give features that are pooled in another way than their own? From `forward_features`."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from winnow_storage.errors import ModelError
from winnow_workers.models.pooling import PoolMaps, PoolTokens, Wish, check_has


class TimmFeatures(nn.Module):
    """(n, 3, h, w) images to (n, features). What norm a network has after pooling, its vectors get too."""

    def __init__(self, network: nn.Module, wish: Wish, name: str) -> None:
        """Raises:
        ModelError: the network has not what the pooling needs.
        """
        super().__init__()
        self.network, self._wish, self._name = network, wish, name
        known: Any = network
        self._has_class_token = bool(getattr(known, "has_class_token", getattr(known, "cls_token", None) is not None))
        self._prefix = int(getattr(known, "num_prefix_tokens", int(self._has_class_token)))
        self._has_attention = getattr(known, "attn_pool", None) is not None and hasattr(known, "pool")
        check_has(name, wish, class_token=self._has_class_token, attention=self._has_attention)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Pooled."""
        network: Any = self.network
        found = network.forward_features(images_nchw)
        if not isinstance(found, Tensor) or found.ndim not in (3, 4):
            raise ModelError(
                f"{self._name}: its features are no map and no tokens, so they cannot be pooled by "
                f"{self._wish.pooling}",
                hint="leave pooling out of the task",
            )
        if found.ndim == 4:
            pooled: Tensor = PoolMaps(self._wish, channels_last=self._is_channels_last(found.shape))(found)
            return pooled.flatten(1)
        norm: Any = getattr(network, "fc_norm", None) or nn.Identity()
        if self._wish.pooling == "map":
            return cast("Tensor", norm(network.pool(found)))
        if self._wish.pooling == "mean+cls":
            parts = [PoolTokens(one, self._prefix)(found) for one in (Wish("cls"), Wish("mean"))]
            return torch.cat([norm(part) for part in parts], dim=1)
        return cast("Tensor", norm(PoolTokens(self._wish, self._prefix)(found)))

    def _is_channels_last(self, shape: torch.Size) -> bool:
        network: Any = self.network
        features = int(network.num_features)
        if shape[1] != features and shape[3] == features:
            return True
        return str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC") and shape[3] == features
