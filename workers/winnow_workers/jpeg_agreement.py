"""How alike do two decoders decode JPEGs? By the mean difference of their pixels over files that are made here.

One that repeats colour stored at half the size, where libjpeg-turbo interpolates it, was measured at 1.35 levels on
these drawings and 0.84 on photographs; means of pixels, instead of scaling in the DCT, at 0.9. Swapped channels, pixels
in the wrong place and pictures that are not ready yet are farther away (tests).
"""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from winnow_workers import jpeg
from winnow_workers.models.sample_images import sample_images

if TYPE_CHECKING:
    from winnow_workers.device_jpegs import DeviceJpegs

MOST_LEVELS = 2.0  # of 255, in the mean over an image
_COUNT = 3
_QUALITY = 90
_SCALES = (1, 2)


def farthest_levels(decoder: "DeviceJpegs") -> float | None:
    """The largest mean difference to the CPU's decoder over the files, in levels of 255; None if one is refused."""
    farthest = 0.0
    for data in sample_jpegs():
        found = jpeg.read_markers(data)
        for scale in _SCALES:
            ours = None if found is None else jpeg.decode_plain(data, found, scale)
            theirs = None if found is None else decoder.decode(data, found, scale)
            if ours is None or theirs is None or ours.shape != theirs.shape:
                return None
            farthest = max(farthest, float(np.abs(ours.astype(np.int16) - theirs).mean()))
    return farthest


def sample_jpegs() -> Iterator[bytes]:
    """Baseline and progressive, colour at full and at half size, and grey; sides that fill no block."""
    for pixels in sample_images(_COUNT):
        image = Image.fromarray(pixels[:251, :203])
        for subsampling in ("4:4:4", "4:2:0"):
            for progressive in (False, True):
                yield _encoded(image, subsampling=subsampling, progressive=progressive)
        yield _encoded(image.convert("L"))


def _encoded(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, **options)
    return buffer.getvalue()
