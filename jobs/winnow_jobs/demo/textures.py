"""What is an anomaly here? Crops of brick, grass and gravel, some with a defect painted on."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from winnow_jobs.demo.image_files import KINDS, encode
from winnow_jobs.demo.sample import Sample, Samples, Truth
from winnow_jobs.demo.sources import PHOTOGRAPHS, TEXTURES, Part, PixelsRGB, photograph, texture

DEFECTS = ("stain", "hole", "smear", "foreign")
_GROUP = 3
_COUNT = 54
_KINDS = ("jpeg", "png_grey", "png", "jpeg_grey", "tiff_16", "webp", "png_16", "jpeg_progressive", "tiff_cmyk")


def samples(seed: int) -> Samples:
    """Eighteen crops per texture from its evaluation half: ten as they are, eight with a defect, strong or faint."""
    for number in range(_COUNT):
        rng = np.random.default_rng([seed, _GROUP, number])
        name = TEXTURES[number % len(TEXTURES)]
        turn = number // len(TEXTURES)
        anomalous = turn >= 10
        pixels = crop(name, rng, part="evaluation")
        if anomalous:
            defect = DEFECTS[turn % len(DEFECTS)]
            pixels = spoil(pixels, rng, part="evaluation", defect=defect)
        side_px = int(rng.integers(224, 900))
        pixels = np.asarray(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC))
        kind = KINDS[_KINDS[(number + turn) % len(_KINDS)]]
        truth = Truth(operator="anomaly", anomalous=anomalous, label=name)
        yield Sample(f"textures/{name}_{turn:02d}.{kind.suffix}", encode(pixels, kind), truth)


def crop(name: str, rng: np.random.Generator, *, part: Part) -> PixelsRGB:
    """A square of 200 (training: 160) to 256 px of a half, possibly mirrored, a little lighter or darker."""
    half = texture(name, part)
    side_px = int(rng.integers(160 if part == "training" else 200, 257))
    top_px = int(rng.integers(0, half.shape[0] - side_px + 1))
    left_px = int(rng.integers(0, half.shape[1] - side_px + 1))
    window = half[top_px : top_px + side_px, left_px : left_px + side_px]
    if rng.random() < 0.5:
        window = window[:, ::-1]
    lit = window * rng.uniform(0.92, 1.08) + rng.normal(0.0, 2.0, size=window.shape[:2])[..., None]
    return np.clip(lit, 0, 255).astype(np.uint8)


def spoil(pixels: PixelsRGB, rng: np.random.Generator, *, part: Part, defect: str) -> PixelsRGB:
    """The crop with one defect of 14 to 28 % of its side; one in eight is faint: the texture shows through."""
    side_px = pixels.shape[0]
    radius_px = side_px * rng.uniform(0.07, 0.14)
    centre = rng.uniform(2 * radius_px, side_px - 2 * radius_px, size=2)
    strength = rng.uniform(0.55, 0.7) if rng.random() < 1 / 8 else rng.uniform(0.85, 1.0)
    stencil = _blot(rng, side_px=side_px, radius_px=radius_px, centre=centre)
    cover = (stencil * strength)[..., None]
    return np.clip(pixels * (1 - cover) + _paint(pixels, rng, part=part, defect=defect) * cover, 0, 255).astype(
        np.uint8
    )


def _blot(
    rng: np.random.Generator, *, side_px: int, radius_px: float, centre: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Where the defect covers the crop, (side, side) in 0..1."""
    sheet = Image.new("L", (side_px, side_px), 0)
    pen = ImageDraw.Draw(sheet)
    x, y = centre
    angles = np.linspace(0, 2 * math.pi, 12, endpoint=False)
    radii_px = radius_px * rng.uniform(0.8, 1.25, size=12)
    blob = [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, radii_px, strict=True)]
    pen.polygon(blob, fill=255)
    return np.asarray(sheet.filter(ImageFilter.GaussianBlur(1.2)), dtype=np.float64) / 255.0


def _paint(pixels: PixelsRGB, rng: np.random.Generator, *, part: Part, defect: str) -> npt.NDArray[np.float64]:
    """What the defect shows, (side, side, 3)."""
    if defect == "smear":  # the texture is rubbed away
        return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(8)), dtype=np.float64)
    if defect == "foreign":  # something else lies there: a piece of a photograph
        names = PHOTOGRAPHS[part]
        other = Image.fromarray(photograph(names[rng.integers(len(names))]))
        return np.asarray(other.resize((pixels.shape[1], pixels.shape[0])), dtype=np.float64)
    colours = {"stain": rng.uniform(45, 75), "hole": rng.uniform(5, 25)}
    return np.full(pixels.shape, colours[defect])
