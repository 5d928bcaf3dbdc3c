"""How do an item's bytes become pixels? Bounded, upright, sRGB, 8 bit, whatever the file holds.

Files are hostile until decoded: what their headers claim is held against the limits before pixels are allocated, only
the formats listed here are tried, and whatever a parser raises on odd bytes ends the item, never the run.
docs/decoding.md says how each kind of file is treated.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from winnow_workers import jpeg, plain, png_rows, png_samples, tiff_samples
from winnow_workers.colour import Rgb, to_srgb
from winnow_workers.device_jpegs import NVJPEG, DeviceJpegs
from winnow_workers.headers import avif, bmp, gif, png, tiff, webp
from winnow_workers.headers import jpeg as jpeg_header
from winnow_workers.headers.tags import ORIENTATION, Directory, exif_orientation
from winnow_workers.limits import (
    WHITE,
    Claim,
    DecodeLimits,
    DecodeSettings,
    check_bytes,
    check_claim,
    check_format,
    check_pixels,
    is_bomb,
)
from winnow_workers.signals import OutOfMemory, Rejected, Unavailable, Unreadable

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

__all__ = ["DecodeLimits", "DecodeSettings", "Decoded", "decode"]

_Claims = Callable[[bytes, DecodeLimits], Claim]
# importing a plugin registers it; Pillow may be built without AVIF, which then is a format like any unknown one
_KINDS: dict[str, tuple[str, _Claims]] = {
    name: (plugin.format, claims)
    for name, plugin, claims in (
        ("jpeg", JpegImagePlugin.JpegImageFile, jpeg_header.claim_of),
        ("png", PngImagePlugin.PngImageFile, png.claim_of),
        ("webp", WebPImagePlugin.WebPImageFile, webp.claim_of),
        ("tiff", TiffImagePlugin.TiffImageFile, tiff.claim_of),
        ("gif", GifImagePlugin.GifImageFile, gif.claim_of),
        ("bmp", BmpImagePlugin.BmpImageFile, bmp.claim_of),
        ("avif", AvifImagePlugin.AvifImageFile, avif.claim_of),
    )
    if plugin.format in Image.OPEN and (name != "avif" or AvifImagePlugin.SUPPORTED)
}
_AVIF_BRANDS = (b"avif", b"avis", b"mif1", b"msf1")

# What Pillow's parsers raise on damaged files; DecompressionBombError is about a limit and handled apart
_PARSER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, EOFError,
    RuntimeError, struct.error, zlib.error,
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
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
# Pillow's own limit is a second fence: of bytes, since samples of up to 8 bytes are shown to it as bytes
_WIDEST_PIXEL_BYTES = 48


@dataclass(frozen=True, slots=True)
class Decoded:
    """`pixels` is uint8 RGB (height, width, 3), possibly scaled down; the two sizes are the upright image's full ones.

    `format` is lower-case, such as "jpeg"; `decoder` the one that made the pixels, where it is not the CPU's.
    """

    pixels: "PixelsHWC"
    width_px: int
    height_px: int
    format: str
    decoder: str | None = None


def decode(
    data: bytes,
    *,
    needed_side_px: int | None,
    limits: DecodeLimits,
    settings: DecodeSettings = WHITE,
    page: int = 1,
    on_device: DeviceJpegs | None = None,
) -> Decoded:
    """The pixels of the first frame, or of a page of a TIFF (from 1; 0 only asks what is wrong with it all).

    A JPEG whose shorter side is at least twice `needed_side_px` is decoded at 1/2, 1/4 or 1/8 (DCT scaling), never
    below `needed_side_px`; None asks for every pixel. `on_device` is asked first for a usual JPEG.

    Raises:
        Unreadable: empty, truncated, damaged, or of a format that is not listed.
        Rejected: over a limit.
        OutOfMemory: its pixels take more memory than there is.
        Unavailable: page 0 was asked for, and nothing is wrong.
    """
    check_bytes(len(data), limits)
    if not data:
        raise Unreadable("the file is empty")
    name = kind_of(data)
    if name is None:
        raise Unreadable("no image format that is read here: " + ", ".join(_KINDS))
    check_format(name, limits)
    # Warnings about odd files concern nobody. Set on each call because it costs microseconds and, unlike
    # catch_warnings, is safe in threads; it covers Pillow's own modules only.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        if name == "jpeg":
            usual = _decode_plain_jpeg(data, needed_side_px=needed_side_px, limits=limits, on_device=on_device)
            if usual is not None:
                return usual
        if name == "tiff":
            return _decode_tiff(data, page, limits=limits, settings=settings)
        claim = _KINDS[name][1](data, limits)
        check_claim(claim, len(data), limits)
        pixels = plain.decode_plain(data, name, (claim.width_px, claim.height_px))
        if pixels is not None:
            return Decoded(pixels, claim.width_px, claim.height_px, name)
        return _decode_by_pillow(data, name, needed_side_px=needed_side_px, limits=limits, settings=settings)
    except MemoryError as error:
        raise OutOfMemory(f"decoding its {len(data)} bytes takes more memory than there is") from error


def kind_of(data: bytes) -> str | None:
    """The format that a file begins as."""
    if data[:2] == b"\xff\xd8":
        name = "jpeg"
    elif data[:8] == png.MAGIC:
        name = "png"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        name = "webp"
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        name = "tiff"
    elif data[:6] in (b"GIF87a", b"GIF89a"):
        name = "gif"
    elif data[:2] == b"BM":
        name = "bmp"
    elif data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS:
        name = "avif"
    else:
        return None
    return name if name in _KINDS else None


def _decode_plain_jpeg(
    data: bytes, *, needed_side_px: int | None, limits: DecodeLimits, on_device: DeviceJpegs | None
) -> Decoded | None:
    found = jpeg.read_markers(data)
    if found is None or found.width_px * found.height_px > limits.max_pixels:
        return None
    width, height = found.width_px, found.height_px
    if is_bomb(3 * width * height, len(data), limits) or jpeg_header.has_many_scans(data, limits.max_scans):
        return None
    scale = jpeg.scale_for(width, height, needed_side_px)
    pixels = None if on_device is None else on_device.decode(data, found, scale)
    decoder = None if pixels is None else NVJPEG
    if pixels is None:
        pixels = jpeg.decode_plain(data, found, scale)
    if pixels is None:
        return None
    if found.orientation in _UPRIGHT:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[found.orientation]))
    if found.orientation in _SWAPS_SIDES:
        width, height = height, width
    return Decoded(pixels, width, height, "jpeg", decoder)


def _decode_tiff(data: bytes, page: int, *, limits: DecodeLimits, settings: DecodeSettings) -> Decoded:
    directory, claim = tiff.page_of(data, page, limits)
    check_claim(claim, len(data), limits)
    if directory is None:
        raise _no_page(data, page, claim.frames)
    wide = tiff_samples.wide_page(data, directory)
    if wide is None:
        only = data if page == 1 else tiff.with_first(data, directory)
        return _decode_by_pillow(only, "tiff", needed_side_px=None, limits=limits, settings=settings)
    with _parsing("tiff", limits):
        image = tiff_samples.to_image(tiff_samples.read_samples(data, wide), wide)
    profile = directory.value(data, tiff.ICC_PROFILE)
    rgb = to_srgb(image, profile, settings.background_rgb)
    return _turned(rgb, _tag_orientation(data, directory), image.size, "tiff")


def _no_page(data: bytes, page: int, pages: int) -> Unreadable | Unavailable:
    wrong = tiff.broken_chain(data)
    if wrong is not None:
        return Unreadable(f"damaged tiff: {wrong}")
    if page == 0 and pages:
        return Unavailable("it could not be opened when it was listed, and can be now")
    return Unreadable(f"damaged tiff: it has {pages} pages, and no page {page}")


def _tag_orientation(data: bytes, directory: Directory) -> int:
    return directory.number(data, ORIENTATION, 1)


def _decode_by_pillow(
    data: bytes, name: str, *, needed_side_px: int | None, limits: DecodeLimits, settings: DecodeSettings = WHITE
) -> Decoded:
    # its own limits of what a text or a profile unpacks to; ours was checked
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = limits.max_metadata_bytes
    # not by Image.open, which keeps the reason to itself when a plugin cannot open a file
    with _parsing(name, limits), Image.OPEN[_KINDS[name][0]][0](io.BytesIO(data), "") as image:
        return _decode_image(
            image, data, name, needed_side_px=needed_side_px, limits=limits, background=settings.background_rgb
        )


@contextmanager
def _parsing(name: str, limits: DecodeLimits) -> Iterator[None]:
    """What Pillow raises on odd bytes ends the item."""
    Image.MAX_IMAGE_PIXELS = limits.max_pixels * _WIDEST_PIXEL_BYTES
    try:
        yield
    except Image.DecompressionBombError as error:
        raise Rejected(f"more pixels than the limit of {limits.max_pixels} (limits.max_pixels)") from error
    except _PARSER_ERRORS as error:
        raise Unreadable(f"damaged {name}: {str(error)[:200] or type(error).__name__}") from error


def _decode_image(
    image: ImageFile.ImageFile,
    data: bytes,
    name: str,
    *,
    needed_side_px: int | None,
    limits: DecodeLimits,
    background: Rgb,
) -> Decoded:
    size = image.size
    check_pixels(*size, limits)
    if min(size) < 1:
        raise Unreadable(f"{size[0]} x {size[1]} px by its header")
    if needed_side_px is not None and name == "jpeg":
        scale = jpeg.scale_for(*size, needed_side_px)
        if scale > 1:
            image.draft(None, (size[0] // scale, size[1] // scale))
    image.load()
    if image.mode == "P" and image.palette is None:
        raise Unreadable(f"damaged {name}: its pixels are numbers in a palette, and it has none")
    if name == "png" and png_rows.lacks_rows(image, data):
        raise Unreadable("damaged png: its pixels end before its last row")
    # after load: a PNG may carry its EXIF behind the pixels. Pillow turns TIFFs itself.
    orientation = 1 if name == "tiff" else _orientation(image)
    whole = png_samples.rounded(image, data) if name == "png" else image
    return _turned(to_srgb(whole, whole.info.get("icc_profile"), background), orientation, size, name)


def _turned(rgb: Image.Image, orientation: int, size: tuple[int, int], name: str) -> Decoded:
    """`size` is that of the image as it is stored, at full size."""
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    width, height = size[::-1] if orientation in _SWAPS_SIDES else size
    return Decoded(np.asarray(rgb), width, height, name)


def _orientation(image: Image.Image) -> int:
    """By EXIF, else by XMP; 1 where both are broken, which says nothing about the pixels."""
    info = image.info
    exif = info.get("exif")
    if exif is None and isinstance(raw := info.get("Raw profile type exif"), str):  # as ImageMagick writes PNGs
        try:
            exif = bytes.fromhex("".join(raw.split("\n")[3:]))
        except ValueError:
            exif = None
    found = exif_orientation(exif) if isinstance(exif, bytes) else None
    if found is None:
        xmp = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
        match = _XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
        found = int(match[1]) if match else 1
    return found
