"""What is there to segment? Coins and stickers on real backgrounds, with the mask of each by construction."""

import colorsys
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from winnow_jobs.demo.image_files import KINDS, encode
from winnow_jobs.demo.sample import Rle, Sample, Samples, Truth, rle
from winnow_jobs.demo.sources import Cutout, Mask, Part, PixelsRGB, backdrops, coins

LABELS = ("background", "coin", "shape")
_GROUP = 2
_COINS_COUNT = 24
_SHAPES_COUNT = 32
_KINDS = ("jpeg", "png", "webp", "jpeg_progressive", "tiff", "jpeg_turned_right", "png_alpha", "jpeg_cmyk")


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture (height, width, 3) and the class of each of its pixels, (height, width), an index into LABELS."""

    pixels: PixelsRGB
    classes: npt.NDArray[np.uint8]


def samples(seed: int) -> Samples:
    """`coins/`: one to six coins each. `shapes/`: one to four boxes and triangles, some with a coin among them."""
    for number in range(_COINS_COUNT + _SHAPES_COUNT):
        rng = np.random.default_rng([seed, _GROUP, number])
        of_coins = number < _COINS_COUNT
        width_px = int(rng.integers(260, 1000))
        height_px = int(width_px * rng.uniform(0.75, 1.25))
        kinds = ["coin"] * int(rng.integers(1, 7)) if of_coins else _mixed(rng)
        scene = compose(rng, part="evaluation", size_px=(width_px, height_px), kinds=kinds)
        kind = KINDS[_KINDS[number % len(_KINDS)]]
        folder, count = ("coins", number) if of_coins else ("shapes", number - _COINS_COUNT)
        key = f"{folder}/{folder}_{count:03d}.{kind.suffix}"
        yield Sample(key, encode(scene.pixels, kind), Truth(operator="segment", masks=_masks(scene)))


def compose(rng: np.random.Generator, *, part: Part, size_px: tuple[int, int], kinds: list[str] | None = None) -> Scene:
    """A scene of (width, height) px from the backgrounds and coins of a part; later things hide earlier ones."""
    grounds = backdrops(part)
    pixels = _crop(grounds[rng.integers(len(grounds))], rng, size_px).astype(np.float64)
    classes = np.zeros(pixels.shape[:2], dtype=np.uint8)
    cutouts = coins(part)
    for kind in _mixed(rng) if kinds is None else kinds:
        side_px = int(min(size_px) * rng.uniform(0.3, 0.5))
        if kind == "coin":
            paint, mask = _coin(cutouts[rng.integers(len(cutouts))], rng, side_px)
        else:
            paint, mask = _sticker(kind, rng, side_px)
        top_px = int(rng.integers(0, size_px[1] - side_px))
        left_px = int(rng.integers(0, size_px[0] - side_px))
        window = (slice(top_px, top_px + side_px), slice(left_px, left_px + side_px))
        shine = 0.15 * (pixels[window] - pixels[window].mean())  # the ground's grain shows through a little
        pixels[window] = np.where(mask[..., None], paint + shine, pixels[window])
        classes[window][mask] = LABELS.index("coin" if kind == "coin" else "shape")
    noisy = pixels + rng.normal(0.0, rng.uniform(0, 6), size=pixels.shape[:2])[..., None]
    return Scene(pixels=np.clip(noisy, 0, 255).astype(np.uint8), classes=classes)


def _mixed(rng: np.random.Generator) -> list[str]:
    kinds = [str(kind) for kind in rng.choice(["box", "triangle"], size=int(rng.integers(1, 5)))]
    return [*kinds, "coin"] if rng.random() < 0.4 else kinds


def _masks(scene: Scene) -> dict[str, Rle]:
    present = (index for index in range(1, len(LABELS)) if (scene.classes == index).any())
    return {LABELS[index]: rle(scene.classes == index) for index in present}


def _crop(ground: PixelsRGB, rng: np.random.Generator, size_px: tuple[int, int]) -> PixelsRGB:
    """A random window of the ground in the asked proportions, 50 to 100 % of what fits, enlarged to `size_px`."""
    height_px, width_px = ground.shape[:2]
    scale = min(width_px / size_px[0], height_px / size_px[1]) * rng.uniform(0.5, 1.0)
    crop_width_px, crop_height_px = int(size_px[0] * scale), int(size_px[1] * scale)
    left_px = int(rng.integers(0, width_px - crop_width_px + 1))
    top_px = int(rng.integers(0, height_px - crop_height_px + 1))
    window = ground[top_px : top_px + crop_height_px, left_px : left_px + crop_width_px]
    return np.asarray(Image.fromarray(window).resize(size_px, Image.Resampling.BICUBIC))


def _coin(cutout: Cutout, rng: np.random.Generator, side_px: int) -> tuple[npt.NDArray[np.float64], Mask]:
    """A cut-out in a square of `side_px`, turned by any angle, in copper, bronze or brass."""
    angle = rng.uniform(0, 360)
    size = (side_px, side_px)
    face = Image.fromarray(cutout.pixels).resize(size, Image.Resampling.BICUBIC)
    mask = Image.fromarray((cutout.mask * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    turned = np.asarray(face.rotate(angle, Image.Resampling.BICUBIC), dtype=np.float64)
    metals = np.array([(1.1, 0.8, 0.65), (1.0, 0.85, 0.6), (1.1, 0.95, 0.55)])
    inside = np.asarray(mask.rotate(angle, Image.Resampling.BILINEAR)) > 127
    return turned * metals[rng.integers(3)] * rng.uniform(0.85, 1.1), inside


def _sticker(kind: str, rng: np.random.Generator, side_px: int) -> tuple[npt.NDArray[np.float64], Mask]:
    """A box or triangle of one strong colour with a white rim, shaded from one side, in a square of `side_px`."""
    turn = rng.uniform(0, 2 * math.pi)
    if kind == "triangle":
        angles = turn + np.array([0.0, 2.1, 4.2]) + rng.uniform(-0.2, 0.2, size=3)
    else:
        half = rng.uniform(0.55, 1.0)  # half the angle that the short side spans: 0.785 is a square
        angles = turn + np.array([-half, half, math.pi - half, math.pi + half])
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.6, 1.0), rng.uniform(0.45, 0.95))
    face = _polygon(angles, side_px, radius=0.78)[..., None] * (np.array([red, green, blue]) * 255 - 245) + 245
    shade = np.linspace(-1, 1, side_px)[:, None, None] * rng.uniform(0, 10)
    return face + shade, _polygon(angles, side_px, radius=0.98)


def _polygon(angles: npt.NDArray[np.float64], side_px: int, *, radius: float) -> Mask:
    """A polygon around the middle of a square of `side_px`, its corners at `radius` half sides."""
    half_px = side_px / 2
    corners = [(half_px * (1 + radius * math.cos(a)), half_px * (1 + radius * math.sin(a))) for a in angles]
    stencil = Image.new("L", (side_px, side_px), 0)
    ImageDraw.Draw(stencil).polygon(corners, fill=255)
    return np.asarray(stencil) > 127
