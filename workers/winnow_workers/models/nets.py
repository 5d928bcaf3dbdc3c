"""Which small networks does Winnow bring itself? The `builtin/` architectures that the demo trains in seconds."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class DigitCnn(nn.Module):
    """A classifier for small glyphs: (n, channels, h, w) float32 to (n, n_labels) logits; made for 32 x 32 px."""

    def __init__(self, n_labels: int = 10, *, channels: int = 1, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(channels, width),
            _conv(width, width),
            nn.MaxPool2d(2),
            _conv(width, 2 * width),
            _conv(2 * width, 2 * width),
            nn.MaxPool2d(2),
            _conv(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16 * width, n_labels))

    def embed(self, images_nchw: Tensor) -> Tensor:
        """(n, 16 * width) pooled features."""
        pooled: Tensor = self.features(images_nchw)
        return pooled

    def forward(self, images_nchw: Tensor) -> Tensor:
        """(n, n_labels) logits."""
        logits: Tensor = self.head(self.features(images_nchw))
        return logits


class _DoubleConv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        # GroupNorm: training in small batches, and no running statistics to drift
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(4, outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(4, outputs),
            nn.ReLU(inplace=True),
        )


class SmallUnet(nn.Module):
    """An encoder-decoder with skips on three levels (Ronneberger et al., 2015), `width` a multiple of 4.

    (n, channels, h, w) float32 to (n, n_labels, h, w) logits, for any h and w from 4 px on.
    """

    def __init__(self, n_labels: int = 2, *, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.down1 = _DoubleConv(channels, width)
        self.down2 = _DoubleConv(width, 2 * width)
        self.bottom = _DoubleConv(2 * width, 4 * width)
        self.up2 = _DoubleConv(6 * width, 2 * width)
        self.up1 = _DoubleConv(3 * width, width)
        self.head = nn.Conv2d(width, n_labels, 1)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """(n, n_labels, h, w) logits."""
        first = self.down1(images_nchw)
        second = self.down2(functional.max_pool2d(first, 2))
        deep = self.bottom(functional.max_pool2d(second, 2))
        second = self.up2(torch.cat([_resize_like(deep, second), second], dim=1))
        first = self.up1(torch.cat([_resize_like(second, first), first], dim=1))
        logits: Tensor = self.head(first)
        return logits


def _resize_like(images_nchw: Tensor, other: Tensor) -> Tensor:
    return functional.interpolate(images_nchw, size=other.shape[-2:], mode="bilinear", align_corners=False)


class PatchFeatures(nn.Module):
    """Local features for the anomaly detector: (n, channels, h, w) to (n, 6 * width, h / 4, w / 4).

    Two scales side by side, each averaged over 3 x 3 neighbours, as in PatchCore (Roth et al., 2022).
    """

    def __init__(self, *, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self.stem = _conv(channels, width)
        self.level1 = nn.Sequential(_conv(width, 2 * width, stride=2), _conv(2 * width, 2 * width, stride=2))
        self.level2 = _conv(2 * width, 4 * width, stride=2)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """(n, 6 * width, h / 4, w / 4) features, sides rounded up."""
        fine = self.level1(self.stem(images_nchw))
        return _join_levels([fine, self.level2(fine)])


class Pooled(nn.Module):
    """One vector per image from another network's features: its `embed` where it has one; maps are averaged."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images_nchw: Tensor) -> Tensor:
        """(n, features)."""
        found: Tensor = getattr(self.inner, "embed", self.inner)(images_nchw)
        if found.ndim == 4:  # (n, c, h, w), squeezenet and the like
            return found.mean(dim=(2, 3))
        return found


class PooledLevels(nn.Module):
    """The feature maps of several levels of another network as one, at the finest level's size, as in PatchCore."""

    def __init__(self, levels: nn.Module) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, images_nchw: Tensor) -> Tensor:
        """(n, features, rows, columns)."""
        found = self.levels(images_nchw)
        return _join_levels(list(found.values()) if isinstance(found, dict) else list(found))


def _join_levels(levels: list[Tensor]) -> Tensor:
    pooled = [functional.avg_pool2d(level, 3, stride=1, padding=1) for level in levels]
    return torch.cat([pooled[0], *(_resize_like(level, pooled[0]) for level in pooled[1:])], dim=1)


class SmallEmbedder(nn.Module):
    """A small image embedder: (n, channels, h, w) float32 to (n, dim); made for sides around 64 px."""

    def __init__(self, *, dim: int = 64, channels: int = 3, width: int = 24) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(channels, width),
            _conv(width, 2 * width, stride=2),
            _conv(2 * width, 4 * width, stride=2),
            _conv(4 * width, 4 * width, stride=2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * width, dim),
        )

    def forward(self, images_nchw: Tensor) -> Tensor:
        """(n, dim) features, not normalised."""
        features: Tensor = self.features(images_nchw)
        return features


def _digit_cnn(n_labels: int, arguments: Mapping[str, int]) -> nn.Module:
    return DigitCnn(n_labels, **arguments)


def _small_unet(n_labels: int, arguments: Mapping[str, int]) -> nn.Module:
    return SmallUnet(n_labels, **arguments)


def _patch_features(_n_labels: int, arguments: Mapping[str, int]) -> nn.Module:
    return PatchFeatures(**arguments)


def _small_embedder(_n_labels: int, arguments: Mapping[str, int]) -> nn.Module:
    return SmallEmbedder(**arguments)


# name after `builtin/` -> builder of (n_labels, arguments); networks without labels ignore n_labels
NETS: Mapping[str, Callable[[int, Mapping[str, int]], nn.Module]] = MappingProxyType(
    {
        "digit_cnn": _digit_cnn,
        "small_unet": _small_unet,
        "patch_features": _patch_features,
        "small_embedder": _small_embedder,
    }
)
