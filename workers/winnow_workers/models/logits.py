"""How does a transformers network answer like any other? With its logits alone."""

from typing import Any

from torch import Tensor, nn


class PlainLogits(nn.Module):
    """Another network, called with `pixel_values`; answers with the tensor `logits` of what it says."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self._inner = inner

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Logits, of the inner network's shape."""
        said: Any = self._inner(pixel_values=images_nchw)
        logits: Tensor = said.logits
        return logits
