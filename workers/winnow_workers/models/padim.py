"""How far is a patch from what is normal at its place? A Gaussian for every place, after PaDiM (Defard et al., 2021).

A channel selection of the backbone's features, drawn from a seed, has a mean and a covariance at each of the map's
places; to the covariance `_RIDGE` times the identity is added, as in the paper. The distance is Mahalanobis's, kept as
|W (x - mean)| with W the inverse of the covariance's Cholesky factor. Made for images in which things stand at the same
place; where they do not, the memory bank is the better one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from winnow_storage.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

MEAN, WHITENING, CHANNELS = "padim.mean", "padim.whitening", "padim.channels"
_RIDGE = 0.01
_MOST_BYTES = 2 * 2**30  # of the sums of squares


@dataclass(frozen=True, slots=True)
class Gaussians:
    """`mean` (rows, columns, d) and `whitening` (rows * columns, d, d) float32, `channels` (d,) int64."""

    mean: "torch.Tensor"
    whitening: "torch.Tensor"
    channels: "torch.Tensor"

    def distance_map(self, features_chw: "torch.Tensor") -> "torch.Tensor":
        """(rows, columns) Mahalanobis distances, float32.

        Raises:
            ValueError: the map has another size than the one that was fitted.
        """
        import torch

        rows, columns, depth = self.mean.shape
        if tuple(features_chw.shape[1:]) != (rows, columns):
            raise ValueError(f"a feature map of {tuple(features_chw.shape[1:])} instead of {(rows, columns)}")
        values = features_chw[self.channels].permute(1, 2, 0).float()
        apart = (values - self.mean).reshape(rows * columns, depth, 1)
        return torch.bmm(self.whitening, apart).square().sum(dim=(1, 2)).sqrt().reshape(rows, columns)

    def tensors(self) -> "Mapping[str, torch.Tensor]":
        """As a model file holds them."""
        return {MEAN: self.mean, WHITENING: self.whitening, CHANNELS: self.channels}


def fit_gaussians(maps_chw: "Iterable[torch.Tensor]", *, features: int, seed: int) -> Gaussians:
    """The Gaussians of the (c, rows, columns) feature maps of normal images, read once; at most `features` channels.

    Raises:
        ModelError: fewer than two maps, or more places and channels than fit in memory.
    """
    import torch

    count, total, squares, channels, size = 0, None, None, None, (0, 0)
    for one in maps_chw:
        if channels is None:
            channels = choose_channels(one.shape[0], features, seed=seed)
            size = (one.shape[1], one.shape[2])
            _check_size(size, len(channels))
        values = one[channels].permute(1, 2, 0).reshape(-1, len(channels)).double()
        outer = values.unsqueeze(2) * values.unsqueeze(1)
        total = values if total is None else total + values
        squares = outer if squares is None else squares.add_(outer)
        count += 1
    if count < 2 or total is None or squares is None or channels is None:
        raise ModelError("a Gaussian needs two normal images at least", hint="give more images")
    mean = total / count
    covariance = (squares - count * (mean.unsqueeze(2) * mean.unsqueeze(1))) / (count - 1)
    covariance += _RIDGE * torch.eye(len(channels), dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance)
    unit = torch.eye(len(channels), dtype=torch.float64).expand_as(factor)
    whitening = torch.linalg.solve_triangular(factor, unit, upper=False)
    return Gaussians(mean.float().reshape(*size, -1), whitening.float(), channels)


def choose_channels(available: int, wanted: int, *, seed: int) -> "torch.Tensor":
    """Which channels are looked at, sorted: all, or `wanted` of them drawn from the seed."""
    import torch

    chosen = np.random.default_rng(seed).permutation(available)[: min(available, wanted)]
    return torch.from_numpy(np.sort(chosen).astype(np.int64))


def read_gaussians(tensors: "Mapping[str, torch.Tensor]", *, where: str) -> Gaussians:
    """The Gaussians of a detector's file.

    Raises:
        ModelError: some are missing, or their shapes do not belong together.
    """
    mean, whitening, channels = (tensors.get(name) for name in (MEAN, WHITENING, CHANNELS))
    if mean is None or whitening is None or channels is None:
        raise ModelError(f"{where} lacks {MEAN}, {WHITENING} or {CHANNELS}", hint="fit the detector again")
    whole = mean.ndim == 3 and whitening.shape == (mean.shape[0] * mean.shape[1], mean.shape[2], mean.shape[2])
    if not whole or channels.shape != mean.shape[2:]:
        raise ModelError(f"{where}: the shapes of its Gaussians do not belong together", hint="fit the detector again")
    return Gaussians(mean.float(), whitening.float(), channels.long())


def _check_size(size: tuple[int, int], depth: int) -> None:
    needed = size[0] * size[1] * depth * depth * 8
    if needed > _MOST_BYTES:
        raise ModelError(
            f"Gaussians of {depth} features at {size[0]} x {size[1]} places need {needed / 2**30:.1f} GiB",
            hint="take fewer features, deeper layers, a smaller input, or the method patchcore",
        )
