"""How do an item's bytes become pixels? Bounded, upright, sRGB, 8 bit, whatever the file holds.

Files are hostile until decoded: the size that the header claims is checked before pixels are allocated, only the
formats listed here are tried, and whatever Pillow raises on odd bytes ends the item, never the run.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from pydantic import BaseModel, ConfigDict, Field

from winnow_workers import jpeg
from winnow_workers.signals import OutOfMemory, Rejected, Unreadable

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

# importing a plugin registers it; Pillow may be built without AVIF, which then is a format like any unknown one
FORMATS = tuple(
    kind.format
    for kind in (
        JpegImagePlugin.JpegImageFile,
        MpoImagePlugin.MpoImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        TiffImagePlugin.TiffImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        AvifImagePlugin.AvifImageFile,
    )
    if kind.format in Image.OPEN
)

# What Pillow's parsers raise on damaged files; DecompressionBombError is about a limit and handled apart
_PARSER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, EOFError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPS_SIDES = frozenset({5, 6, 7, 8})


class DecodeLimits(BaseModel):
    """How big an image may be; over a limit it is rejected before it is decoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=256 * 2**20, gt=0)
    max_pixels: int = Field(default=100_000_000, gt=0)


@dataclass(frozen=True, slots=True)
class Decoded:
    """`pixels` is uint8 RGB (height, width, 3), possibly scaled down; the two sizes are the upright image's full ones.

    `format` is lower-case, such as "jpeg".
    """

    pixels: "PixelsHWC"
    width_px: int
    height_px: int
    format: str


def decode(data: bytes, *, needed_side_px: int | None, limits: DecodeLimits) -> Decoded:
    """The pixels of the first frame.

    A JPEG whose shorter side is at least twice `needed_side_px` is decoded at 1/2, 1/4 or 1/8 (DCT scaling), never
    below `needed_side_px`; None asks for every pixel.

    Raises:
        Unreadable: empty, truncated, damaged, or of a format that is not listed.
        Rejected: over a limit.
        OutOfMemory: its pixels take more memory than there is.
    """
    if len(data) > limits.max_bytes:
        raise Rejected(f"{len(data)} bytes, over the limit of {limits.max_bytes}")
    if not data:
        raise Unreadable("the file is empty")
    # Warnings about odd files concern nobody. Set on each call because it costs microseconds and, unlike
    # catch_warnings, is safe in threads; it covers Pillow's own modules only.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        plain = _decode_plain_jpeg(data, needed_side_px=needed_side_px, limits=limits)
    except MemoryError as error:
        raise _no_memory(data) from error
    return plain if plain is not None else _decode_by_pillow(data, needed_side_px=needed_side_px, limits=limits)


def _decode_plain_jpeg(data: bytes, *, needed_side_px: int | None, limits: DecodeLimits) -> Decoded | None:
    found = jpeg.read_markers(data)
    if found is None or found.width_px * found.height_px > limits.max_pixels:
        return None
    width, height = found.width_px, found.height_px
    pixels = jpeg.decode_plain(data, found, jpeg.scale_for(width, height, needed_side_px))
    if pixels is None:
        return None
    if found.orientation in _UPRIGHT:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[found.orientation]))
    if found.orientation in _SWAPS_SIDES:
        width, height = height, width
    return Decoded(pixels, width, height, "jpeg")


def _no_memory(data: bytes) -> OutOfMemory:
    return OutOfMemory(f"decoding its {len(data)} bytes takes more memory than there is")


def _decode_by_pillow(data: bytes, *, needed_side_px: int | None, limits: DecodeLimits) -> Decoded:
    # Pillow raises at twice this number, also where a parser allocates before `open` returns (GIF frames, WebP)
    Image.MAX_IMAGE_PIXELS = limits.max_pixels // 2 + 1
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _decode_image(image, needed_side_px=needed_side_px, limits=limits)
    except Image.DecompressionBombError as error:
        raise Rejected(f"its header claims more pixels than the limit of {limits.max_pixels}") from error
    except MemoryError as error:
        raise _no_memory(data) from error
    except UnidentifiedImageError as error:
        raise Unreadable("no image format that is read here: " + ", ".join(FORMATS).lower()) from error
    except _PARSER_ERRORS as error:
        raise Unreadable(f"damaged: {type(error).__name__}: {str(error)[:200]}") from error


def _decode_image(image: Image.Image, *, needed_side_px: int | None, limits: DecodeLimits) -> Decoded:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise Rejected(f"{width} x {height} px by its header, over the limit of {limits.max_pixels} pixels")
    if width < 1 or height < 1:
        raise Unreadable(f"{width} x {height} px by its header")
    image_format = (image.format or "").lower().replace("mpo", "jpeg")
    if needed_side_px is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        _draft(image, needed_side_px)
    image.load()
    orientation = _orientation(image)  # after load: a PNG may carry its EXIF behind the pixels
    rgb = _to_srgb(image)
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    if orientation in _SWAPS_SIDES:
        width, height = height, width
    return Decoded(np.asarray(rgb), width, height, image_format)


def _draft(image: Image.Image, needed_side_px: int) -> None:
    width, height = image.size
    scale = jpeg.scale_for(width, height, needed_side_px)
    if scale > 1:
        image.draft(None, (width // scale, height // scale))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _PARSER_ERRORS:
        return 1  # broken EXIF says nothing about the pixels
    return value if isinstance(value, int) else 1


def _to_srgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scale_to_uint8(np.asarray(image))).convert("RGB")
    if not image.has_transparency_data:
        return _apply_profile(image, image.info.get("icc_profile"))
    rgba = image.convert("RGBA")
    colours = _apply_profile(rgba.convert("RGB"), image.info.get("icc_profile"))
    colours.putalpha(rgba.getchannel("A"))
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, colours).convert("RGB")


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode == "P":
        image = image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, *_PARSER_ERRORS):
            converted = None  # a broken profile, or one for other channels than the image has
        if converted is not None:
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy


def _scale_to_uint8(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Map wide grey values to 0..255 over the smallest usual range that holds them all, so that none is clipped.

    uint16: 0..65535 always. int32 and float32: 0..1 (floats only), 0..255 or 0..65535, else from minimum to maximum.
    """
    wide = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    if values.dtype.kind == "u":
        low, high = 0.0, 65535.0
    elif low >= 0 and high <= 65535:
        tops = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0)
        low, high = 0.0, next(top for top in tops if high <= top)
    return np.rint((wide - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
