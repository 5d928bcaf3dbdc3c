"""Folded batch normalisations: the same outputs from fewer layers, and nothing folded that is not a pair."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from winnow_workers.models.fold import fold_batch_norms


def settled(module: nn.Module) -> nn.Module:
    """With running statistics that are not the initial ones, in eval mode."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = torch.randn_like(part.running_mean) * 0.1
            part.running_var = torch.rand_like(part.running_var) + 0.5
    return module.eval()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "resnet18", "squeezenet1_1"])
def test_fold_batch_norms__gives_the_same_outputs(name: str) -> None:
    module = settled(getattr(torchvision.models, name)(weights=None))
    folded = copy.deepcopy(module)
    fold_batch_norms(folded)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        expected, found = module(images), folded(images)
    assert torch.allclose(expected, found, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    left = sum(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    before = sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    assert left < before or before == 0


def test_fold_batch_norms__only_what_follows_a_convolution_in_a_sequence() -> None:
    kept = settled(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)))
    fold_batch_norms(kept)
    assert [type(part) for part in kept] == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    taken = settled(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)))
    fold_batch_norms(taken)
    assert [type(part) for part in taken] == [nn.Conv2d, nn.Identity]


def test_fold_batch_norms__a_convolution_that_two_places_share_stays() -> None:
    conv = nn.Conv2d(3, 3, 1)

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Sequential(conv, nn.BatchNorm2d(3))
            self.other = nn.Sequential(conv, nn.BatchNorm2d(3))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.one(images) + self.other(images)

    module = settled(Shared())
    images = torch.randn(1, 3, 8, 8)
    expected = module(images)
    fold_batch_norms(module)
    assert torch.equal(module(images), expected)
