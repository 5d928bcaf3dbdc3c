"""How do the features of an image's parts become one vector? Pooling, the same for maps and for tokens.

`model`: whatever the network itself takes its answer from. `cls`: the class token. `mean`: over all patches.
`mean+cls`: the class token, then the mean, as DINOv2 is evaluated (Oquab et al., 2023). `gem`: the generalised mean,
between mean and maximum (Radenovic et al., 2018). `map`: the network's own attention pooler, as SigLIP has one (Zhai et
al., 2023).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from winnow_storage.errors import ModelError

Pooling = Literal["model", "cls", "mean", "mean+cls", "gem", "map"]
_SMALLEST = 1e-6  # of gem: powers of what is below have no meaning


@dataclass(frozen=True, slots=True)
class Wish:
    """Which vector is asked for; `gem_power` is gem's exponent: 1 is the mean, infinity the maximum."""

    pooling: Pooling = "model"
    gem_power: float = 3.0


class PoolMaps(nn.Module):
    """(n, features, rows, columns), or (n, rows, columns, features) if `channels_last`, to (n, features, 1, 1)."""

    def __init__(self, wish: Wish, *, channels_last: bool = False) -> None:
        super().__init__()
        self._wish, self._channels_last = wish, channels_last

    def forward(self, maps: Tensor) -> Tensor:
        """Pooled over the places."""
        maps = maps.permute(0, 3, 1, 2) if self._channels_last else maps
        return _over_places(maps.flatten(2).transpose(1, 2), self._wish)[:, :, None, None]


class PoolTokens(nn.Module):
    """(n, tokens, features) to one vector each; `prefix` tokens come before the patches, the class token first."""

    def __init__(self, wish: Wish, prefix: int) -> None:
        super().__init__()
        self._wish, self._prefix = wish, prefix

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, features), or twice as many for mean+cls."""
        if self._wish.pooling == "cls":
            return tokens[:, 0]
        places = _over_places(tokens[:, self._prefix :], self._wish)
        return torch.cat([tokens[:, 0], places], dim=1) if self._wish.pooling == "mean+cls" else places


def _over_places(features: Tensor, wish: Wish) -> Tensor:
    """(n, places, features) to (n, features)."""
    if wish.pooling != "gem":
        return features.mean(dim=1)
    raised = features.float().clamp(min=_SMALLEST).pow(wish.gem_power)
    return raised.mean(dim=1).pow(1.0 / wish.gem_power)


def check_has(name: str, wish: Wish, *, class_token: bool, attention: bool) -> None:
    """Make sure that a network has what a pooling takes its vector from.

    Raises:
        ModelError: it has no class token, or no attention pooler; says which poolings it has.
    """
    lacks = None
    if wish.pooling in ("cls", "mean+cls") and not class_token:
        lacks = "class token"
    if wish.pooling == "map" and not attention:
        lacks = "attention pooler"
    if lacks is not None:
        there = ["model", "mean", "gem", *(["cls", "mean+cls"] if class_token else []), *(["map"] if attention else [])]
        raise ModelError(
            f"{name} has no {lacks}, which pooling: {wish.pooling} asks for", hint=f"it has {', '.join(there)}"
        )
