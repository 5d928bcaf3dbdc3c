"""How does a transformers network give feature maps? Its hidden states; tokens are laid out as the patches they are."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from winnow_storage.errors import ModelError
from winnow_workers.models.transformers_model import quiet_import

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class HiddenMaps(nn.Module):
    """(n, 3, h, w) images to the maps (n, features, rows, columns) of the chosen hidden states."""

    def __init__(self, network: nn.Module, layers: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self._layers = tuple(layers)

    def forward(self, images_nchw: Tensor) -> list[Tensor]:
        """One map per layer."""
        states = self.network(pixel_values=images_nchw, output_hidden_states=True).hidden_states
        if max(self._layers) >= len(states) or min(self._layers) < -len(states):
            raise ValueError(f"layers {list(self._layers)} of {len(states)} hidden states")
        return [self._as_map(states[layer], images_nchw.shape) for layer in self._layers]

    def _as_map(self, state: Tensor, shape: torch.Size) -> Tensor:
        if state.ndim == 4:
            return state
        patch: Any = cast("Any", self.network.config).patch_size
        side: int = patch if isinstance(patch, int) else patch[0]
        rows, columns = shape[2] // side, shape[3] // side
        tokens = state[:, state.shape[1] - rows * columns :]  # those of the class and the registers stand before
        return tokens.transpose(1, 2).reshape(len(state), -1, rows, columns)


def empty_network(config: Mapping[str, Any]) -> nn.Module:
    """A network of a `config.json`, with weights drawn from torch's present random state; nothing is downloaded.

    Raises:
        ModelError: the library knows no such model.
    """
    try:
        with quiet_import():
            from transformers import AutoConfig, AutoModel

            said = dict(config)
            described: PretrainedConfig = AutoConfig.for_model(said.pop("model_type"), **said)
            network: nn.Module = AutoModel.from_config(described)
    except (KeyError, ValueError, TypeError, ImportError) as error:
        raise ModelError(
            f"transformers knows no network of this configuration: {error}", hint="fit the detector again"
        ) from error
    return network
