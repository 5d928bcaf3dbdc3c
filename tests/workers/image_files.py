"""Image files for tests of decoding: one small picture, encoded in every way."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import tifffile
from PIL import Image, ImageCms

RNG_SEED = 11


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """By Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def tiff_of(values: np.ndarray, **options: object) -> bytes:
    """By tifffile, which shares no code with libtiff."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def pages_of(pages: Sequence[np.ndarray], **options: object) -> bytes:
    """A TIFF of several pages, by tifffile."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as writer:
        for page in pages:
            writer.write(page, photometric="rgb", metadata=None)
    return buffer.getvalue()


def scene(width: int = 48, height: int = 32) -> np.ndarray:
    """A smooth picture that has no symmetry, (height, width, 3) uint8."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - (x + y) / 2], axis=2).round().astype(np.uint8)


def noise(dtype: str, samples: int = 3, width: int = 48, height: int = 32) -> np.ndarray:
    """Random values over the whole range of an integer dtype."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(RNG_SEED).integers(0, top, (height, width, samples), dtype=dtype, endpoint=True)


def chunk(name: bytes, body: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(rows: Sequence[bytes], width: int, depth: int, colour: int, extra: bytes = b"") -> bytes:
    """A PNG by hand: `rows` are packed and unfiltered, `extra` stands before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0))
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def exif_of(orientation: int) -> Image.Exif:
    """With nothing else in it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def profile(name: str = "sRGB") -> bytes:
    """One of LittleCMS' own."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()
