"""What do the digits of the demo look like? Real handwriting on painted paper, some of it spoiled."""

import numpy as np
from PIL import Image, ImageFilter

from winnow_jobs.demo.image_files import KINDS, encode
from winnow_jobs.demo.sample import Sample, Samples, Truth
from winnow_jobs.demo.sources import PixelsRGB, digits

LABELS = tuple("0123456789")
_GROUP = 1  # separates this group's random numbers from the others'
_COUNT = 100
_SPOILED_EVERY = 8
_KINDS = ("jpeg", "png_grey", "png", "jpeg_grey", "webp", "jpeg_progressive", "png_16", "jpeg_turned_left", "tiff")


def samples(seed: int) -> Samples:
    """A hundred digits of the evaluation part, every eighth of them spoiled by blur and noise."""
    part = digits("evaluation")
    order = np.random.default_rng([seed, _GROUP]).permutation(len(part.labels))[:_COUNT]
    for number, index in enumerate(order):
        rng = np.random.default_rng([seed, _GROUP, number])
        clean = number % _SPOILED_EVERY != _SPOILED_EVERY - 1
        side_px = int(rng.integers(200, 480))
        pixels = draw(part.inks[index], rng, side_px=side_px, spoiled=not clean)
        kind = KINDS[_KINDS[number % len(_KINDS)]]
        truth = Truth(operator="classify", clean=clean, label=LABELS[part.labels[index]])
        yield Sample(f"digits/digit_{number:03d}.{kind.suffix}", encode(pixels, kind), truth)


def draw(
    ink: np.typing.NDArray[np.float64], rng: np.random.Generator, *, side_px: int, spoiled: bool = False
) -> PixelsRGB:
    """One digit on paper or, one time in six, in chalk on a board.

    `ink` is (8, 8) in 0..1. The digit fills 60 to 80 % of the shorter side; `side_px` is that side.
    """
    width_px, height_px = side_px, side_px
    if rng.random() < 0.3:
        width_px = int(side_px * rng.uniform(1.0, 1.25))
    shape = (height_px, width_px)
    coverage = _placed(ink, rng, shape)
    paper, pen = _colours(rng, spoiled=spoiled)
    shade = np.linspace(-1, 1, width_px)[None, :, None] * rng.uniform(0, 12)  # light falls from one side
    page = paper + shade + np.zeros((height_px, 1, 1))
    blended = page * (1 - coverage[..., None]) + pen * coverage[..., None]
    grain = rng.normal(0.0, rng.uniform(25, 45) if spoiled else rng.uniform(1, 8), size=shape)
    pixels = np.clip(blended + grain[..., None], 0, 255).astype(np.uint8)
    if spoiled:
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(side_px / rng.uniform(25, 45)))
        return np.asarray(blurred)
    return pixels


def _placed(
    ink: np.typing.NDArray[np.float64], rng: np.random.Generator, shape: tuple[int, int]
) -> np.typing.NDArray[np.float64]:
    """The digit, enlarged and slightly turned, somewhere on a sheet of (height, width) px; ink in 0..1."""
    height_px, width_px = shape
    side_px = int(min(shape) * rng.uniform(0.75, 1.0))
    framed = np.pad(ink, 1)  # so that no stroke is cut off where it is turned
    glyph = Image.fromarray((framed * 255).astype(np.uint8)).resize((side_px, side_px), Image.Resampling.BICUBIC)
    glyph = glyph.rotate(rng.uniform(-8, 8), Image.Resampling.BILINEAR)
    sheet = Image.new("L", (width_px, height_px), 0)
    left_px = int(rng.integers(0, width_px - side_px + 1))
    top_px = int(rng.integers(0, height_px - side_px + 1))
    sheet.paste(glyph, (left_px, top_px))
    return np.asarray(sheet, dtype=np.float64) / 255.0


def _colours(
    rng: np.random.Generator, *, spoiled: bool
) -> tuple[np.typing.NDArray[np.float64], np.typing.NDArray[np.float64]]:
    """Paper and pen as (3,) RGB; a spoiled image has a pale pen."""
    paper = rng.uniform(205, 250) + rng.uniform(-10, 5, size=3)
    pen = rng.uniform(5, 70, size=3)
    if spoiled:
        pen = paper - rng.uniform(60, 110)
    if rng.random() < 1 / 6:
        paper, pen = 255 - paper, 255 - pen
    return paper, pen
