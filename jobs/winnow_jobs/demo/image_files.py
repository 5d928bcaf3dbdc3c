"""How do pixels become a file? Every format, mode and orientation that the demo corpus shows, by name."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from winnow_jobs.demo.sources import PixelsRGB

_ORIENTATION_TAG = 0x0112
# orientation in EXIF -> what is done to the upright image before it is stored
_STORED_AS = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,  # a reader turns it by 270 degrees counter-clockwise
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True, slots=True)
class FileKind:
    """A way to store an image. `mode` is Pillow's, or `I;16` for grey with 16 bits."""

    suffix: str
    mode: str
    options: Mapping[str, object] = field(default_factory=dict)
    orientation: int = 1  # EXIF


_QUICK = {"compress_level": 1}  # grain does not compress; level 6 takes five times as long
KINDS: Mapping[str, FileKind] = {
    "jpeg": FileKind("jpg", "RGB", {"quality": 90}),
    "jpeg_progressive": FileKind("jpg", "RGB", {"quality": 88, "progressive": True}),
    "jpeg_grey": FileKind("jpeg", "L", {"quality": 90}),
    "jpeg_cmyk": FileKind("jpg", "CMYK", {"quality": 92}),
    "jpeg_turned_left": FileKind("jpg", "RGB", {"quality": 90}, orientation=6),
    "jpeg_turned_right": FileKind("jpg", "RGB", {"quality": 90}, orientation=8),
    "jpeg_upside_down": FileKind("jpg", "RGB", {"quality": 90}, orientation=3),
    "png": FileKind("png", "RGB", _QUICK),
    "png_grey": FileKind("png", "L", _QUICK),
    "png_16": FileKind("png", "I;16", _QUICK),
    "png_alpha": FileKind("png", "RGBA", _QUICK),
    "webp": FileKind("webp", "RGB", {"quality": 90, "method": 2}),
    "tiff": FileKind("tif", "RGB", {"compression": "tiff_lzw"}),
    "tiff_16": FileKind("tiff", "I;16", {"compression": "tiff_lzw"}),
    "tiff_cmyk": FileKind("tif", "CMYK", {"compression": "tiff_lzw"}),
}
_PILLOW_FORMAT = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF", "tiff": "TIFF"}


def encode(pixels: PixelsRGB, kind: FileKind) -> bytes:
    """The bytes of a file that shows `pixels` upright once its orientation is applied; the same on every call."""
    image = _in_mode(pixels, kind.mode)
    turn = _STORED_AS[kind.orientation]
    options = dict(kind.options)
    if turn is not None:
        image = image.transpose(turn)
        exif = Image.Exif()
        exif[_ORIENTATION_TAG] = kind.orientation
        options["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, format=_PILLOW_FORMAT[kind.suffix], **options)
    return buffer.getvalue()


def _in_mode(pixels: PixelsRGB, mode: str) -> Image.Image:
    image = Image.fromarray(pixels)
    if mode == "I;16":  # 8 bits spread over 16: 255 becomes 65535
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "RGBA":
        image.putalpha(_faded_edge(image.size))
        return image
    return image.convert(mode)


def _faded_edge(size: tuple[int, int]) -> Image.Image:
    """Alpha that is opaque but for the outermost 2 % of each side; the colour below it stays."""
    width_px, height_px = size
    edge_px = max(1, min(size) // 50)
    alpha = Image.new("L", size, 128)
    alpha.paste(255, (edge_px, edge_px, width_px - edge_px, height_px - edge_px))
    return alpha
