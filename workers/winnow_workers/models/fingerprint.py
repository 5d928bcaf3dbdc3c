"""What does an image look like at a glance? A descriptor without weights, for near-duplicates and not for meaning.

Three parts of equal weight, from the image scaled to 64 x 64 px: colour (a soft histogram over 3 levels per channel,
and mean and deviation of each channel in 2 x 2 cells), edges (8 orientations, weighted by their strength, in 2 x 2
cells) and layout (the low frequencies of the luma's cosine transform).
"""

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

SIDE_PX = 64
_LEVELS = 3
_ORIENTATIONS = 8
_FREQUENCIES = 8  # 8 x 8 low frequencies, all but the constant one
LENGTH = _LEVELS**3 + 2 * 3 * 4 + _ORIENTATIONS * 4 + _FREQUENCIES**2 - 1

Floats = npt.NDArray[np.floating[Any]]


def fingerprint(pixels: "PixelsHWC") -> npt.NDArray[np.float32]:
    """(LENGTH,) float32 of length one; a flat image gives one too."""
    interpolation = cv2.INTER_AREA if min(pixels.shape[:2]) >= SIDE_PX else cv2.INTER_LINEAR
    small = cv2.resize(pixels, (SIDE_PX, SIDE_PX), interpolation=interpolation).astype(np.float64) / 255.0
    luma = small @ np.array([0.299, 0.587, 0.114])
    parts = [_colour(small), _edges(luma), _layout(luma)]
    joined = np.concatenate([_unit(part) for part in parts])
    return _unit(joined).astype(np.float32)


def _cells(values: Floats) -> list[Floats]:
    half = SIDE_PX // 2
    return [values[top : top + half, left : left + half] for top in (0, half) for left in (0, half)]


def _colour(small: Floats) -> Floats:
    # each pixel is shared between the two nearest levels of each channel, so that a small shift moves little
    place = small.reshape(-1, 3) * (_LEVELS - 1)
    shares = np.clip(1.0 - np.abs(place[:, :, None] - np.arange(_LEVELS)), 0.0, None)
    histogram = np.einsum("na,nb,nc->abc", shares[:, 0], shares[:, 1], shares[:, 2]).ravel() / len(place)
    moments = [moment for cell in _cells(small) for moment in (cell.mean(axis=(0, 1)), cell.std(axis=(0, 1)))]
    return np.concatenate([_unit(np.sqrt(histogram)), _unit(np.concatenate(moments))])


def _edges(luma: Floats) -> Floats:
    across = cv2.Sobel(luma, cv2.CV_64F, 1, 0, ksize=3)
    down = cv2.Sobel(luma, cv2.CV_64F, 0, 1, ksize=3)
    strength = np.hypot(across, down)
    place = (np.arctan2(down, across) % np.pi) / np.pi * _ORIENTATIONS
    lower = np.floor(place).astype(int) % _ORIENTATIONS
    share = place - np.floor(place)
    parts = []
    for low, upper_share, weight in zip(_cells(lower), _cells(share), _cells(strength), strict=True):
        index = low.astype(int).ravel()
        weights = weight.ravel()
        upper = upper_share.ravel()
        counts = np.bincount(index, weights * (1 - upper), _ORIENTATIONS)
        counts += np.bincount((index + 1) % _ORIENTATIONS, weights * upper, _ORIENTATIONS)
        parts.append(counts)
    return np.sqrt(np.concatenate(parts) / SIDE_PX**2)


def _layout(luma: Floats) -> Floats:
    frequencies = cv2.dct(luma)[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]
    signed: Floats = np.sign(frequencies) * np.sqrt(np.abs(frequencies))
    return signed


def _unit(values: Floats) -> Floats:
    length = float(np.linalg.norm(values))
    return values / length if length > 1e-9 else values
