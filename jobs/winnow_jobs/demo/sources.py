"""Which real pixels does the demo start from, and which part of them may a trainer see?

Everything comes from files inside the scikit-image and scikit-learn wheels; nothing is downloaded. `training` is what
the trainers see, `evaluation` what the demo corpus is made of; for each task the two share no pixel:

- classify: handwritten digits by their index; every sixth from 0 evaluates, every sixth from 1 calibrates; pieces of
  the training pictures are what is no digit.
- segment: backgrounds are halves of two photographs and of the textures, the upper one trains, the lower one
  evaluates; the coins, cut out of one photograph, go to the two parts by turns.
- anomaly: textures, the upper half trains; things that lie on them are from the part's `PHOTOGRAPHS`.
- embed: photographs of the part, whole.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Part = Literal["training", "evaluation"]
PixelsRGB = npt.NDArray[np.uint8]  # (height, width, 3)
Mask = npt.NDArray[np.bool_]  # (height, width)

TEXTURES = ("brick", "grass", "gravel")
PHOTOGRAPHS = MappingProxyType(
    {
        "training": (
            "skimage/cell.png",
            "skimage/clock_motion.png",
            "skimage/color.png",
            "skimage/horse.png",
            "skimage/hubble_deep_field.jpg",
            "skimage/ihc.png",
            "skimage/moon.png",
        ),
        "evaluation": (
            "skimage/astronaut.png",
            "skimage/camera.png",
            "skimage/chelsea.png",
            "skimage/coffee.png",
            "skimage/motorcycle_left.png",
            "skimage/retina.jpg",
            "skimage/rocket.jpg",
            "sklearn/china.jpg",
            "sklearn/flower.jpg",
        ),
    }
)
_CALM = ("skimage/moon.png", "skimage/retina.jpg")
_PACKAGES = MappingProxyType({"skimage": "skimage.data", "sklearn": "sklearn.datasets.images"})


@dataclass(frozen=True, slots=True)
class Digits:
    """Handwritten digits: `inks` (n, 8, 8) float64 in 0..1, 1 is full ink; `labels` (n,) 0..9."""

    inks: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cutout:
    """One coin: its pixels (h, w, 3) and which of them are coin (h, w)."""

    pixels: PixelsRGB
    mask: Mask


@cache
def photograph(name: str) -> PixelsRGB:
    """A bundled photograph, `skimage/FILE` or `sklearn/FILE`; read-only."""
    package, _, file_name = name.partition("/")
    with as_file(files(_PACKAGES[package]) / file_name) as path, Image.open(path) as image:
        pixels = np.array(image.convert("RGB"))
    pixels.setflags(write=False)
    return pixels


def texture(kind: str, part: Part) -> PixelsRGB:
    """Half of a texture, (256, 512, 3): the upper one trains, the lower one evaluates."""
    return _half(photograph(f"skimage/{kind}.png"), part)


def backdrops(part: Part) -> list[PixelsRGB]:
    """What coins and stickers are laid on: halves of calm photographs and of the textures, the upper ones train."""
    halves = [_half(photograph(name), part) for name in _CALM]
    return [*halves, *(texture(kind, part) for kind in TEXTURES)]


def pictures(part: Part) -> list[PixelsRGB]:
    """The photographs of a part, whole, and its halves of the textures."""
    return [*(photograph(name) for name in PHOTOGRAPHS[part]), *(texture(kind, part) for kind in TEXTURES)]


def _half(pixels: PixelsRGB, part: Part) -> PixelsRGB:
    middle_px = pixels.shape[0] // 2
    return pixels[:middle_px] if part == "training" else pixels[middle_px:]


def digits(part: Literal["training", "held_out", "evaluation"]) -> Digits:
    """The handwritten digits of a part, by their index modulo 6: 0 evaluates, 1 is held out, the rest trains."""
    inks, labels = _all_digits()
    turn = np.arange(len(labels)) % 6
    chosen = {"evaluation": turn == 0, "held_out": turn == 1, "training": turn > 1}[part]
    return Digits(inks=inks[chosen], labels=labels[chosen])


def coins(part: Part) -> list[Cutout]:
    """Every second coin of the photograph, in reading order."""
    return list(_all_coins()[0 if part == "training" else 1 :: 2])


@cache
def _all_digits() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images / 16.0, bunch.target.astype(np.int64)


@cache
def _all_coins() -> tuple[Cutout, ...]:
    """The coins that stand alone, cut out by a fixed procedure.

    Brighter than Otsu's threshold, closed with a 3 x 3 square, holes filled, 4-connected; kept where the region is
    round (eccentricity under 0.6), convex (solidity over 0.94) and at least 900 px: 22 of the photograph's 24 coins,
    without its bright upper left corner.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu
    from skimage.measure import regionprops

    pixels = photograph("skimage/coins.png")
    grey = pixels[..., 0]
    bright = ndimage.binary_closing(grey > threshold_otsu(grey), np.ones((3, 3)))
    regions, _ = ndimage.label(ndimage.binary_fill_holes(bright))
    found = []
    for region in regionprops(regions):
        if region.area < 900 or region.eccentricity > 0.6 or region.solidity < 0.94:
            continue
        top, left, bottom, right = region.bbox
        found.append(Cutout(pixels=pixels[top:bottom, left:right], mask=region.image.astype(bool)))
    return tuple(found)
