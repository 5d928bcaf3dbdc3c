"""What is there to find and to paint? One to three discs, squares and triangles on a shaded ground, with damage.

Discs tend to red, squares to green, triangles to blue, on grounds of any colour. Later things hide parts of earlier
ones; boxes are around what is to be seen. Every scene has a damage of its own. What is under its patch is not to be
seen, so nobody is asked for it: neither for its pixels, nor for a thing of which less than _LEAST_LEFT is left.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tests.benchmarks.confidence.damage import AtOne, Pixels, damaged, how_much

LABELS = ("disc", "square", "triangle")
SIDE_PX = 48
_TINTS = np.array([[1.0, -0.4, -0.4], [-0.4, 1.0, -0.4], [-0.4, -0.4, 1.0]])
_LEAST_SEEN = 0.8  # of a thing: what would hide more of another is left out
_LEAST_LEFT = 0.25  # of a thing, beside a patch
_AT_ONE = AtOne(blur_px=2.5, grain=110.0, patch_px=12)


@dataclass(frozen=True, slots=True)
class Scene:
    """`pixels` (48, 48, 3); `classes` (48, 48): 0 is the ground, then LABELS; `boxes`: (label, xyxy px) each."""

    pixels: Pixels
    classes: Pixels
    boxes: tuple[tuple[int, tuple[int, int, int, int]], ...]


def scenes(count: int, strongest: float, seed: int, *, contrast: float = 1.0, rarity: float = 3.0) -> list[Scene]:
    """Damage from 0 to `strongest`, the power `rarity` of a uniform draw; `contrast` is taken before the damage."""
    rngs = (np.random.default_rng([seed, number]) for number in range(count))
    return [_scene(rng, how_much(rng, strongest, rarity), contrast) for rng in rngs]


def _scene(rng: np.random.Generator, damage: float, contrast: float) -> Scene:
    base = rng.uniform(60, 195, 3)
    ramp = np.linspace(-1, 1, SIDE_PX)
    shade = rng.uniform(-25, 25) * ramp[:, None] + rng.uniform(-25, 25) * ramp[None, :]
    picture = base[None, None, :] + shade[..., None]
    owners = np.zeros((SIDE_PX, SIDE_PX), np.int64)
    shapes, areas = [0], [0]
    for number in range(1, int(rng.integers(1, 4)) + 1):
        shape = int(rng.integers(len(LABELS)))
        mask = _stencil(rng, shape)
        others = [(owners == one).sum() - ((owners == one) & mask).sum() for one in range(1, number)]
        if any(seen < _LEAST_SEEN * area for seen, area in zip(others, areas[1:], strict=True)):
            shapes, areas = [*shapes, shape], [*areas, 0]
            continue
        offset = rng.uniform(55, 95) * _TINTS[shape] + rng.uniform(-15, 15, 3)
        picture[mask] = (picture[mask].mean(axis=0) + offset)[None, :]
        owners[mask] = number
        shapes, areas = [*shapes, shape], [*areas, int(mask.sum())]
    pixels, is_patch = damaged(rng, 128 + contrast * (picture - 128), damage, _AT_ONE)
    shown = np.where(is_patch, 0, owners)
    for one in range(1, len(shapes)):
        if (shown == one).sum() < _LEAST_LEFT * (owners == one).sum():
            shown[shown == one] = 0
    classes = np.array([0, *(shape + 1 for shape in shapes[1:])], np.uint8)[shown]
    boxes = tuple((shapes[one], _around(shown == one)) for one in range(1, len(shapes)) if (shown == one).any())
    return Scene(pixels, classes, boxes)


def _stencil(rng: np.random.Generator, shape: int) -> npt.NDArray[np.bool_]:
    radius = rng.uniform(6, 10)
    x, y = rng.uniform(radius, SIDE_PX - radius, 2)
    image = Image.new("L", (SIDE_PX, SIDE_PX), 0)
    draw = ImageDraw.Draw(image)
    if LABELS[shape] == "disc":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    else:
        corners = 4 if LABELS[shape] == "square" else 3
        turns = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
        draw.polygon([(x + radius * np.cos(one), y + radius * np.sin(one)) for one in turns], fill=255)
    return np.asarray(image) > 127


def _around(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1] + 1), int(rows[-1] + 1)
