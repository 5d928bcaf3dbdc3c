"""Which classifiers do the tests compare with the library? Random weights that are sure of different labels.

Weights as the libraries draw them let signals die out or grow on the way: every image gets the same label then, and a
comparison shows nothing.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

CLASSES = 10
_DRAWN = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")


@contextlib.contextmanager
def no_drawing() -> Iterator[None]:
    """Networks are built without drawing weights, which takes seconds, for those that get others anyway."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _DRAWN:
            patch.setattr(nn.init, name, lambda tensor, *_args, **_more: tensor)
        yield


def sharpen(module: nn.Module, images_nchw: torch.Tensor, *, seed: int = 5) -> nn.Module:
    """In evaluation mode, with weights whose two images have logits of about 1.5 in size and of opposite signs."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, part in module.named_parameters():
            part.copy_(_drawn(name, part, drawn))
        module.eval()
        _settle_norms(module, images_nchw)
        _spread(module, images_nchw)
    return module


def _drawn(name: str, part: torch.Tensor, drawn: torch.Generator) -> torch.Tensor:
    if "layer_scale" in name:
        return torch.full_like(part, 0.3)
    if part.ndim < 2:  # of norms, and biases
        return torch.ones_like(part) if name.endswith("weight") else torch.zeros_like(part)
    fan_in = part[0].numel()
    return torch.empty_like(part).normal_(generator=drawn) * (2.0 / fan_in) ** 0.5


def _settle_norms(module: nn.Module, images_nchw: torch.Tensor) -> None:
    norms: list[Any] = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.train()
        part.momentum = None
    module(images_nchw)
    for part in norms:
        part.eval()
        part.momentum = 0.1


def _spread(module: nn.Module, images_nchw: torch.Tensor) -> None:
    head: Any = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    logits: Any = module(images_nchw)
    logits = getattr(logits, "logits", logits)
    head.weight.mul_(3.0 / (logits[0] - logits[1]).std())
    head.bias.zero_()
    logits = module(images_nchw)
    head.bias.copy_(-getattr(logits, "logits", logits).mean(dim=0))
