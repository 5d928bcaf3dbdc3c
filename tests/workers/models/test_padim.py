"""Are PaDiM's distances Mahalanobis's, place by place?"""

import numpy as np
import pytest
import torch

from winnow_storage.errors import ModelError
from winnow_workers.models import padim

SHAPE = (12, 3, 4)  # channels, rows, columns


def maps(count: int, *, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(shape[0], shape[0], generator=generator)
    return torch.einsum("ij,njrc->nirc", mixing, torch.randn(count, *shape, generator=generator)) + 3


def test_distance_map__against_numpy() -> None:
    normal, new = maps(40), maps(1, seed=9)[0]
    fitted = padim.fit_gaussians(iter(normal), features=7, seed=4)
    channels = padim.choose_channels(12, 7, seed=4)
    assert len(set(channels.tolist())) == 7
    ours = fitted.distance_map(new).numpy()
    for row in range(3):
        for column in range(4):
            values = normal[:, channels, row, column].double().numpy()
            covariance = np.cov(values, rowvar=False) + 0.01 * np.eye(7)
            apart = new[channels, row, column].double().numpy() - values.mean(axis=0)
            expected = np.sqrt(apart @ np.linalg.inv(covariance) @ apart)
            assert ours[row, column] == pytest.approx(expected, rel=1e-4)


def test_fit__the_same_whatever_the_order_and_read_once() -> None:
    normal = maps(20)
    one = padim.fit_gaussians(iter(normal), features=5, seed=0)
    other = padim.fit_gaussians(iter(normal.flip(0)), features=5, seed=0)
    assert torch.allclose(one.whitening, other.whitening, rtol=1e-4, atol=1e-5)
    assert one.distance_map(one.mean.permute(2, 0, 1).new_zeros(SHAPE)).shape == (3, 4)


def test_file__there_and_back() -> None:
    fitted = padim.fit_gaussians(maps(9), features=100, seed=0)
    assert len(fitted.channels) == 12
    back = padim.read_gaussians(fitted.tensors(), where="a file")
    new = maps(1, seed=3)[0]
    assert torch.equal(back.distance_map(new), fitted.distance_map(new))


def test_fit__too_few_and_too_much() -> None:
    with pytest.raises(ModelError, match="two normal images"):
        padim.fit_gaussians(maps(1), features=5, seed=0)
    with pytest.raises(ModelError, match=r"need .* GiB"):
        padim.fit_gaussians(iter([torch.zeros(600, 64, 64)]), features=600, seed=0)


def test_read__damaged() -> None:
    tensors = dict(padim.fit_gaussians(maps(9), features=5, seed=0).tensors())
    with pytest.raises(ModelError, match="do not belong together"):
        padim.read_gaussians(tensors | {padim.MEAN: torch.zeros(3, 4, 6)}, where="a file")
    del tensors[padim.MEAN]
    with pytest.raises(ModelError, match=r"lacks padim\.mean"):
        padim.read_gaussians(tensors, where="a file")


def test_distance_map__another_size() -> None:
    fitted = padim.fit_gaussians(maps(9), features=5, seed=0)
    with pytest.raises(ValueError, match="instead of"):
        fitted.distance_map(torch.zeros(12, 4, 4))
