"""What is odd on a plate? A milled plate with two holes and a groove, always at the same place; some have a defect.

Every plate is painted anew from its seed and number: its light, grain, blur and the tolerances of what is milled are
its own, normal or not, so a normal plate of a test is like the normal ones that a detector was fitted on. A defect is a
blot or a scratch somewhere on it, dark or light.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.benchmarks.confidence.damage import AtOne, Pixels, damaged

SIDE_PX = 48
_LEVEL = 130.0  # of the plate, of 255
_DEPTH = 90.0  # of a defect that is as visible as any
_LEAST_VISIBLE = 0.7  # of _DEPTH
_AT_ONE = AtOne(blur_px=0.3, grain=4.0, patch_px=0)
_LEAST_WORN = 0.7  # of that

Levels = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plate:
    """`pixels` (48, 48, 3), grey; whether there is a defect."""

    pixels: Pixels
    is_odd: bool


def plates(count: int, faintness: float, seed: int, *, odd: float, contrast: float = 1.0) -> list[Plate]:
    """A share of `odd` has a defect, of _DEPTH / `faintness` at most; `contrast` is taken before grain and blur."""
    rngs = (np.random.default_rng([seed, number]) for number in range(count))
    return [_plate(rng, faintness, contrast, is_odd=bool(rng.uniform() < odd)) for rng in rngs]


def _plate(rng: np.random.Generator, faintness: float, contrast: float, *, is_odd: bool) -> Plate:
    x, y = np.meshgrid(np.arange(SIDE_PX) + 0.5, np.arange(SIDE_PX) + 0.5)
    ramp = np.linspace(-1, 1, SIDE_PX)
    picture = _LEVEL + rng.uniform(-6, 6) + rng.uniform(-8, 8) * ramp[:, None] + rng.uniform(-8, 8) * ramp[None, :]
    for middle_x in (13.0, 35.0):
        hole = _disc(x - middle_x - rng.normal() * 0.1, y - 16.0 - rng.normal() * 0.1, 4.0 + rng.normal() * 0.05)
        picture = picture - 70.0 * hole
    picture = picture - 40.0 * np.clip(1.5 - np.abs(y - 34.0 - rng.normal() * 0.1), 0, 1)
    if is_odd:
        depth = rng.choice([-1.0, 1.0]) * rng.uniform(_LEAST_VISIBLE, 1.0) * _DEPTH / faintness
        picture = picture + depth * _defect(rng, x, y)
    pixels, _ = damaged(rng, 128 + contrast * (picture - 128), rng.uniform(_LEAST_WORN, 1.0), _AT_ONE)
    return Plate(np.repeat(pixels[..., None], 3, axis=2), is_odd)


def _defect(rng: np.random.Generator, x: Levels, y: Levels) -> Levels:
    """(48, 48), from 0 to 1: a blot, or a scratch."""
    middle_x, middle_y = rng.uniform(6, SIDE_PX - 6, 2)
    if rng.uniform() < 0.5:
        return _disc(x - middle_x, y - middle_y, rng.uniform(1.5, 3.5))
    turn, reach = rng.uniform(0, np.pi), rng.uniform(4, 10)
    along = (x - middle_x) * np.cos(turn) + (y - middle_y) * np.sin(turn)
    across = (y - middle_y) * np.cos(turn) - (x - middle_x) * np.sin(turn)
    found: Levels = np.clip(1.3 - np.abs(across), 0, 1) * np.clip(reach - np.abs(along), 0, 1)
    return found


def _disc(x: Levels, y: Levels, radius: float) -> Levels:
    found: Levels = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return found
