"""What is an operator checked on? Noise in odd shapes, drawn images, those of a folder; vectors if it takes those."""

from pathlib import Path

import numpy as np

from winnow_storage.errors import UsageError
from winnow_storage.schemas import IMAGE_SUFFIXES
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.models.sample_images import sample_images
from winnow_workers.operator import NO_PIXELS, View
from winnow_workers.signals import ItemSignal

MOST = 32  # images of a folder: one goes through an operator about ten times
_DRAWN = 3
_SIZES = ((40, 50), (1, 1), (3, 1500), (1500, 3), (64, 64), (33, 47), (50, 40))


def noise_views() -> list[View]:
    """Noise in many shapes: small, wide, tall, one pixel, and one that is shown at half its size."""
    rng = np.random.default_rng(0)
    plain = [View(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), w, h) for h, w in _SIZES]
    return [*plain, View(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), 80, 60)]


def drawn_views() -> list[View]:
    """A few images with shapes and fields of colour."""
    return [View(pixels, pixels.shape[1], pixels.shape[0]) for pixels in sample_images(_DRAWN)]


def vector_views(dimensions: int) -> list[View]:
    """Vectors in both types in which they are stored, as many as `noise_views` has images."""
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(len(_SIZES) + 1, dimensions))
    return [
        View(NO_PIXELS, 0, 0, one.astype(np.float32 if number % 2 else np.float16)) for number, one in enumerate(drawn)
    ]


def folder_views(folder: Path) -> list[View]:
    """The first images below a folder, in the order of their names, decoded as a run does.

    Raises:
        UsageError: there is no image in it that can be read.
    """
    views: list[View] = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if len(views) == MOST:
            break
        if path.suffix.lower().lstrip(".") in IMAGE_SUFFIXES and path.is_file():
            try:
                found = decode(path.read_bytes(), needed_side_px=None, limits=DecodeLimits())
            except ItemSignal:
                continue
            views.append(View(found.pixels, found.width_px, found.height_px))
    if not views:
        raise UsageError(f"--images {folder}: no image there can be read", hint="name a folder with images")
    return views
