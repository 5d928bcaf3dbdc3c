"""The direct way to pixels of PNG, WebP and BMP gives what Pillow gives, and leaves to Pillow what is not plain."""

import io
import struct
import zlib
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from skimage import data

from tests.workers.image_files import chunk, encoded, exif_of, png_of, profile
from winnow_workers import plain
from winnow_workers.decode import Decoded, DecodeLimits, decode
from winnow_workers.signals import ItemSignal

LIMITS = DecodeLimits()
SIZE_PX = (151, 100)
PHOTO = Image.fromarray(data.chelsea()).resize(SIZE_PX)


def _see_through() -> Image.Image:
    image = PHOTO.copy()
    image.putalpha(Image.linear_gradient("L").resize(SIZE_PX))
    return image


def _with_text(keyword: str, text: str = "some") -> PngInfo:
    info = PngInfo()
    info.add_text(keyword, text)
    return info


def _with_chunks(*chunks: bytes, behind_pixels: bool = False) -> bytes:
    """The photograph as a PNG with further chunks."""
    file = encoded(PHOTO, "PNG")
    at = len(file) - 12 if behind_pixels else 33
    return file[:at] + b"".join(chunks) + file[at:]


def _from_the_top() -> bytes:
    """A BMP with a negative height."""
    file = bytearray(encoded(PHOTO, "BMP"))
    file[22:26] = struct.pack("<i", -SIZE_PX[1])
    return bytes(file)


TEXT = chunk(b"tEXt", b"date:create\0today")
TIME = chunk(b"tIME", bytes((7, 234, 11, 28, 1, 2, 3)))
WITHOUT_CONSEQUENCE = (
    chunk(b"gAMA", struct.pack(">I", 45455)),
    chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    chunk(b"sRGB", b"\0"),
    chunk(b"pHYs", bytes(9)),
)
PLAIN = {
    "png": encoded(PHOTO, "PNG"),
    "png: grey": encoded(PHOTO.convert("L"), "PNG"),
    "png: not packed": encoded(PHOTO, "PNG", compress_level=0),
    "png: with text": encoded(PHOTO, "PNG", pnginfo=_with_text("Software")),
    "png: of a scanner": _with_chunks(*WITHOUT_CONSEQUENCE),
    "png: more behind the pixels": _with_chunks(TEXT, TIME, behind_pixels=True),
    "png: bytes behind the end": encoded(PHOTO, "PNG") + b"more",
    "webp: lossy": encoded(PHOTO, "WEBP", quality=80),
    "webp: coarse": encoded(PHOTO, "WEBP", quality=5, method=0),
    "webp: lossless": encoded(PHOTO, "WEBP", lossless=True),
    "bmp": encoded(PHOTO, "BMP"),
    "bmp: from the top": _from_the_top(),
}
_LOSSY = encoded(PHOTO, "WEBP", quality=80)
NOT_PLAIN = {
    "png: alpha": encoded(_see_through(), "PNG"),
    "png: palette": encoded(PHOTO.quantize(16), "PNG"),
    "png: bilevel": encoded(PHOTO.convert("1"), "PNG"),
    "png: a transparent colour": encoded(PHOTO, "PNG", transparency=PHOTO.getpixel((3, 3))),
    "png: 16 bits": png_of([bytes(range(0, 252, 2))] * 9, 21, 16, 2),
    "png: profile": encoded(PHOTO, "PNG", icc_profile=profile()),
    "png: turned": encoded(PHOTO, "PNG", exif=exif_of(6)),
    "png: turned, as ImageMagick says it": encoded(
        PHOTO, "PNG", pnginfo=_with_text("Raw profile type exif", "\nexif\n26\n" + exif_of(6).tobytes().hex())
    ),
    "png: a text that Pillow takes for a profile": encoded(PHOTO, "PNG", pnginfo=_with_text("icc_profile")),
    "png: animation": encoded(PHOTO, "PNG", save_all=True, append_images=[PHOTO.rotate(180)]),
    "png: an unknown chunk": _with_chunks(chunk(b"abCd", b"")),
    "png: a wrong checksum": _with_chunks(TIME[:-1] + b"\0"),
    "png: a chunk that is too short": _with_chunks(chunk(b"cHRM", bytes(31))),
    "png: nothing behind the start": b"\x89PNG\r\n\x1a\n",
    "png: no end": encoded(PHOTO, "PNG")[:-12],
    "webp: alpha": encoded(_see_through(), "WEBP"),
    "webp: lossless alpha": encoded(_see_through(), "WEBP", lossless=True),
    "webp: profile": encoded(PHOTO, "WEBP", icc_profile=profile()),
    "webp: turned": encoded(PHOTO, "WEBP", exif=exif_of(6)),
    "webp: animation": encoded(PHOTO, "WEBP", save_all=True, append_images=[PHOTO.rotate(180)]),
    "webp: bytes behind the end": _LOSSY + b"more",
    "webp: shorter than it says": _LOSSY[:-1],
    "webp: nothing behind the start": b"RIFF\x04\0\0\0WEBP",
    "bmp: alpha": encoded(_see_through(), "BMP"),
    "bmp: palette": encoded(PHOTO.quantize(16), "BMP"),
    "bmp: grey": encoded(PHOTO.convert("L"), "BMP"),
    "bmp: cut off": encoded(PHOTO, "BMP")[:-1],
    "bmp: nothing behind the start": b"BM",
    "gif": encoded(PHOTO, "GIF"),
}


def _outcome(file: bytes, limits: DecodeLimits = LIMITS) -> Decoded | str:
    try:
        return decode(file, needed_side_px=None, limits=limits)
    except ItemSignal as signal:
        return f"{type(signal).__name__}: {signal}"


def _assert_as_pillow(file: bytes) -> None:
    ours = _outcome(file)
    with mock.patch.object(plain, "decode_plain", return_value=None):
        pillows = _outcome(file)
    if isinstance(ours, str) or isinstance(pillows, str):
        assert ours == pillows
        return
    assert (ours.width_px, ours.height_px, ours.format) == (pillows.width_px, pillows.height_px, pillows.format)
    assert np.array_equal(ours.pixels, pillows.pixels)


def _decoded_plain(name: str, file: bytes, size_px: tuple[int, int] = SIZE_PX) -> Any:
    return plain.decode_plain(file, name.partition(":")[0], size_px)


@pytest.mark.parametrize("name", PLAIN)
def test_decode__plain_files_have_pillows_pixels(name: str) -> None:
    pixels = _decoded_plain(name, PLAIN[name])
    assert pixels is not None
    assert (pixels.shape, pixels.dtype) == ((100, 151, 3), np.uint8)
    with Image.open(io.BytesIO(PLAIN[name])) as opened:
        assert np.array_equal(pixels, np.asarray(opened.convert("RGB")))
    _assert_as_pillow(PLAIN[name])


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_decode__what_is_not_plain_is_left_to_pillow(name: str) -> None:
    assert _decoded_plain(name, NOT_PLAIN[name]) is None
    _assert_as_pillow(NOT_PLAIN[name])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 500), (64, 64), (129, 1030)])
@pytest.mark.parametrize(
    ("image_format", "options"), [("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("BMP", {})]
)
def test_decode__odd_sizes(size: tuple[int, int], image_format: str, options: dict[str, Any]) -> None:
    _assert_as_pillow(encoded(PHOTO.resize(size), image_format, **options))


def test_decode_plain__a_size_that_the_header_did_not_say_is_none() -> None:
    for name, file in PLAIN.items():
        assert _decoded_plain(name, file, (100, 151)) is None


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(sorted(PLAIN)),
    at=st.floats(0, 1),
    byte=st.integers(0, 255),
    cut=st.sampled_from([False, False, True]),
)
def test_decode__damage_ends_as_with_pillow(name: str, at: float, byte: int, cut: bool) -> None:
    file = PLAIN[name]
    place = min(len(file) - 1, 2 + int(at**4 * len(file)))  # more often in the headers
    _assert_as_pillow(file[:place] if cut else file[:place] + bytes([byte]) + file[place + 1 :])


@pytest.mark.parametrize("rows", [b"", bytes(303), bytes(304), bytes(303 * 2), bytes([9]) + bytes(911)])
def test_decode__a_sound_chunk_with_too_few_or_impossible_rows_ends_as_with_pillow(rows: bytes) -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 101, 3, 8, 2, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert plain.decode_plain(file, "png", (101, 3)) is None
    _assert_as_pillow(file)


@pytest.mark.parametrize("name", PLAIN)
def test_decode__limits_bind_the_direct_way_too(name: str) -> None:
    with mock.patch.object(plain, "decode_plain", side_effect=AssertionError):
        outcome = _outcome(PLAIN[name], DecodeLimits(max_pixels=1000))
    assert isinstance(outcome, str)
    assert outcome.startswith("Rejected: 151 x 100 px")
