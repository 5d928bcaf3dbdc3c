"""How is a picture spoiled? Blur, grain, and a plain patch over part of it.

Every picture has a damage of its own: most have little, some are ruined. `how_much` draws it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AtOne:
    """What damage 1 is: `blur_px` at most and `grain` (levels of 255), standard deviations; the side of the patch."""

    blur_px: float
    grain: float
    patch_px: int


def how_much(rng: np.random.Generator, strongest: float, rarity: float) -> float:
    """From 0 to `strongest`: the power `rarity` of a uniform draw."""
    return strongest * float(rng.uniform()) ** rarity


def damaged(
    rng: np.random.Generator, picture: npt.NDArray[Any], damage: float, at_one: AtOne
) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """A picture (height, width) or (height, width, 3) of levels of 255, spoiled; and where a patch is."""
    is_patch = np.zeros(picture.shape[:2], np.bool_)
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    blur = ImageFilter.GaussianBlur(at_one.blur_px * damage * rng.uniform())
    blurred = np.asarray(image.filter(blur), np.float64).copy()
    if rng.uniform() < damage:
        left, top = rng.integers(0, picture.shape[1] - at_one.patch_px, 2)
        is_patch[top : top + at_one.patch_px, left : left + at_one.patch_px] = True
        blurred[is_patch] = rng.uniform(0, 255, picture.shape[2:])
    grained = blurred + rng.normal(size=blurred.shape) * at_one.grain * damage
    return np.clip(grained, 0, 255).astype(np.uint8), is_patch
