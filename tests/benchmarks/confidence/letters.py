"""Which letter is it? A turned capital in the font that Pillow bundles, on shaded paper, with a damage of its own.

Every letter is painted anew from its seed and number: its place, size, turn, ink, paper and damage are its own, so no
two are draws of one picture.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.benchmarks.confidence.damage import AtOne, Pixels, damaged, how_much

LABELS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SIDE_PX = 28
_AT_ONE = AtOne(blur_px=3.0, grain=130.0, patch_px=9)
_MOST_TURNED = 20.0  # degrees, either way


@dataclass(frozen=True, slots=True)
class Letter:
    """`pixels` (28, 28, 3), grey; `label`: its place in LABELS."""

    pixels: Pixels
    label: int


def letters(count: int, strongest: float, seed: int, *, contrast: float = 1.0, rarity: float = 10.0) -> list[Letter]:
    """Damage from 0 to `strongest`; `contrast` is taken before the damage."""
    rngs = (np.random.default_rng([seed, number]) for number in range(count))
    return [_letter(rng, how_much(rng, strongest, rarity), contrast) for rng in rngs]


def _letter(rng: np.random.Generator, damage: float, contrast: float) -> Letter:
    label = int(rng.integers(len(LABELS)))
    middle = tuple(float(one) for one in SIDE_PX / 2 + rng.uniform(-3, 3, 2))
    stencil = Image.new("L", (SIDE_PX, SIDE_PX), 0)
    font = _font(int(rng.integers(15, 23)))
    ImageDraw.Draw(stencil).text(middle, LABELS[label], font=font, fill=255, anchor="mm")
    turned = stencil.rotate(rng.uniform(-_MOST_TURNED, _MOST_TURNED), Image.Resampling.BILINEAR, center=middle)
    ramp = np.linspace(-1, 1, SIDE_PX)
    paper = rng.uniform(90, 165) + rng.uniform(-25, 25) * ramp[:, None] + rng.uniform(-25, 25) * ramp[None, :]
    ink = rng.choice([-1.0, 1.0]) * rng.uniform(50, 90)
    picture = paper + ink * np.asarray(turned, np.float64) / 255
    pixels, _ = damaged(rng, 128 + contrast * (picture - 128), damage, _AT_ONE)
    return Letter(np.repeat(pixels[..., None], 3, axis=2), label)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size_px)
