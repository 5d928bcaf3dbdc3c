"""Which detectors do the tests compare with the library? Small ones with random weights that are sure of some boxes."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision import models

from tests.workers.operators.making import view, write_model
from winnow_workers.models.model_file import ModelCard
from winnow_workers.operator import View

CLASSES = 4
SIDES = {"min_size": 96, "max_size": 160}


def torchvision_detector(name: str) -> nn.Module:
    """The library's own, in evaluation mode; random scores are stretched until they cover the whole range."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        sides = {} if name.startswith("ssd") else SIDES
        module = models.get_model(name, weights=None, weights_backbone=None, num_classes=CLASSES, **sides)
        heads = [module.roi_heads.box_predictor.cls_score] if hasattr(module, "roi_heads") else _convolutions(module)
        with torch.no_grad():
            for head in heads:
                head.weight.normal_(std=0.05 if hasattr(module, "roi_heads") else 0.2)
                if head.bias is not None:
                    head.bias.normal_(std=0.5)
    module = module.eval()
    _settle_norms(module)
    return module


def _convolutions(module: Any) -> list[nn.Module]:
    head = module.head.classification_head
    if hasattr(head, "cls_logits"):
        return [head.cls_logits]
    return [part if isinstance(part, nn.Conv2d) else part[-1] for part in head.module_list]


def _settle_norms(module: nn.Module) -> None:
    """Give the batch norms statistics that real weights have: random ones let activations grow without end."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.train()
        part.momentum = None
    with torch.no_grad():
        drawn = torch.Generator().manual_seed(9)  # two: a norm needs more than one value
        module([torch.rand(3, 120, 160, generator=drawn), torch.rand(3, 120, 160, generator=drawn)])
    for part in norms:
        part.eval()
        part.momentum = 0.1


def model_file(folder: Path, name: str, module: nn.Module) -> str:
    """Its weights with a card."""
    labels = ("__background__", "a", "b", "c")
    sides = {} if name.startswith("ssd") else SIDES
    card = ModelCard(architecture=f"torchvision/{name}", arguments=sides, labels=labels)
    return write_model(folder / f"{name}.safetensors", dict(module.state_dict()), card)


def pictures() -> list[View]:
    """Three images of different shapes with something on them."""
    rng = np.random.default_rng(5)
    found = []
    for height, width in ((90, 130), (120, 80), (100, 100)):
        pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(6):
            y, x = int(rng.integers(0, height - 20)), int(rng.integers(0, width - 20))
            pixels[y : y + int(rng.integers(8, 40)), x : x + int(rng.integers(8, 40))] = rng.integers(0, 256, 3)
        found.append(view(pixels))
    return found


def as_input(pixels: np.ndarray) -> torch.Tensor:
    """What torchvision's own documentation feeds: (3, height, width) float32 in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
