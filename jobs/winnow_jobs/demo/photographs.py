"""Which photographs are there to embed? Views of nine pictures: whole, cropped, turned, enlarged, saved again."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from winnow_jobs.demo.image_files import KINDS, FileKind, encode
from winnow_jobs.demo.sample import Sample, Samples, Truth
from winnow_jobs.demo.sources import PHOTOGRAPHS, PixelsRGB, photograph

_GROUP = 4
_LARGE = {"china": 4256, "flower": 3000, "rocket": 2600}  # px of width; 4256 x 2840 is 12.1 megapixels
_TURNED = ("jpeg_turned_left", "jpeg_turned_right", "jpeg_upside_down")
_WHOLE = ("jpeg", "jpeg_progressive", "png", "webp", "tiff")


def samples(seed: int) -> Samples:
    """Each evaluation photograph whole and in four or five other ones; `label` is the photograph's name."""
    for number, source in enumerate(PHOTOGRAPHS["evaluation"]):
        name = source.partition("/")[2].partition(".")[0]
        rng = np.random.default_rng([seed, _GROUP, number])
        pixels = photograph(source)
        views: list[tuple[str, PixelsRGB, FileKind]] = [
            ("whole", pixels, KINDS[_WHOLE[number % len(_WHOLE)]]),
            ("again", pixels, FileKind("jpg", "RGB", {"quality": 60})),
            ("exif", pixels, KINDS[_TURNED[number % len(_TURNED)]]),
            *((view, change(pixels, rng), KINDS["jpeg"]) for view, change in _CHANGES.items()),
        ]
        if name in _LARGE:
            views.append(
                ("large", _enlarged(pixels, _LARGE[name]), KINDS["jpeg_progressive" if number % 2 else "jpeg"])
            )
        for view, shown, kind in views:
            yield Sample(
                f"photos/{name}_{view}.{kind.suffix}", encode(shown, kind), Truth(operator="embed", label=name)
            )


def _crop(pixels: PixelsRGB, rng: np.random.Generator) -> PixelsRGB:
    height_px, width_px = pixels.shape[:2]
    keep = rng.uniform(0.75, 0.9)
    crop_height_px, crop_width_px = int(height_px * keep), int(width_px * keep)
    top_px = int(rng.integers(0, height_px - crop_height_px + 1))
    left_px = int(rng.integers(0, width_px - crop_width_px + 1))
    return pixels[top_px : top_px + crop_height_px, left_px : left_px + crop_width_px]


def _dimmed(pixels: PixelsRGB, rng: np.random.Generator) -> PixelsRGB:
    return np.clip(pixels * rng.uniform(0.7, 0.85) + 10, 0, 255).astype(np.uint8)


def _enlarged(pixels: PixelsRGB, width_px: int) -> PixelsRGB:
    height_px = round(pixels.shape[0] * width_px / pixels.shape[1])
    return np.asarray(Image.fromarray(pixels).resize((width_px, height_px), Image.Resampling.BICUBIC))


_CHANGES: Mapping[str, Callable[[PixelsRGB, np.random.Generator], PixelsRGB]] = {
    "crop": _crop,
    "dimmed": _dimmed,
}
