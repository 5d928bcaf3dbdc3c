"""The direct way to a JPEG's pixels gives what Pillow gives, and leaves to Pillow whatever is not usual."""

import io
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data

from winnow_workers import jpeg
from winnow_workers.decode import Decoded, DecodeLimits, decode
from winnow_workers.signals import ItemSignal

LIMITS = DecodeLimits()
PHOTO = Image.fromarray(data.chelsea())  # 451 x 300


def _encoded(mode: str = "RGB", size: tuple[int, int] = (451, 300), **options: Any) -> bytes:
    sink = io.BytesIO()
    PHOTO.resize(size).convert(mode).save(sink, "JPEG", **options)
    return sink.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _outcome(decoder: Any, file: bytes, needed_side_px: int | None) -> Decoded | str:
    try:
        found: Decoded = decoder(file, needed_side_px=needed_side_px, limits=LIMITS)
    except ItemSignal as signal:
        return f"{type(signal).__name__}: {signal}"
    return found


def _by_pillow(file: bytes, *, needed_side_px: int | None, limits: DecodeLimits) -> Decoded:
    with mock.patch.object(jpeg, "read_markers", return_value=None):
        return decode(file, needed_side_px=needed_side_px, limits=limits)


def _assert_as_pillow(file: bytes, needed_side_px: int | None) -> None:
    ours, pillows = _outcome(decode, file, needed_side_px), _outcome(_by_pillow, file, needed_side_px)
    if isinstance(ours, str) or isinstance(pillows, str):
        assert ours == pillows
        return
    assert (ours.width_px, ours.height_px, ours.format) == (pillows.width_px, pillows.height_px, pillows.format)
    assert np.array_equal(ours.pixels, pillows.pixels)


USUAL = {
    "baseline": _encoded(),
    "progressive": _encoded(progressive=True),
    "grey": _encoded("L"),
    "full chroma": _encoded(subsampling=0, quality=97),
    "half chroma": _encoded(subsampling=1),
    "restart markers": _encoded(restart_marker_blocks=4),
    "comment": _encoded(comment=b"hello"),
    **{f"orientation {value}": _encoded(exif=_exif(value)) for value in range(1, 9)},
}
UNUSUAL = {
    "cmyk": _encoded("CMYK"),
    "icc": _encoded(icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
    "xmp": _encoded(xmp=b'<x tiff:Orientation="6"/>'),
    "stored as rgb": _encoded(keep_rgb=True),
    "png": b"\x89PNG\r\n\x1a\n",
    "nothing behind the start": b"\xff\xd8",
    "a length beyond the end": b"\xff\xd8\xff\xe0\xff\xff",
}


@pytest.mark.parametrize("needed_side_px", [None, 32, 75, 150, 299, 2000])
@pytest.mark.parametrize("name", USUAL)
def test_decode__usual_jpegs_have_pillows_pixels(name: str, needed_side_px: int | None) -> None:
    found = jpeg.read_markers(USUAL[name])
    assert found is not None
    assert (found.width_px, found.height_px) == (451, 300)
    _assert_as_pillow(USUAL[name], needed_side_px)


@pytest.mark.parametrize("name", UNUSUAL)
def test_read_markers__the_unusual_is_left_to_pillow(name: str) -> None:
    assert jpeg.read_markers(UNUSUAL[name]) is None
    _assert_as_pillow(UNUSUAL[name], 75)


@pytest.mark.parametrize("size", [(1, 1), (7, 500), (63, 63), (64, 64), (129, 1030)])
def test_decode__odd_sizes(size: tuple[int, int]) -> None:
    for needed_side_px in (None, 1, 16, 64):
        _assert_as_pillow(_encoded(size=size), needed_side_px)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(1, len(USUAL["baseline"]) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_decode__damage_ends_as_with_pillow(at: int, byte: int, cut: bool) -> None:
    file = USUAL["baseline"]
    damaged = file[:at] if cut else file[:at] + bytes([byte]) + file[at + 1 :]
    _assert_as_pillow(damaged, 75)


def test_decode__damage_in_the_pixels_is_left_to_pillow() -> None:
    file = USUAL["baseline"]
    cut = file[: len(file) // 2]
    found = jpeg.read_markers(cut)
    assert found is not None
    assert jpeg.decode_plain(cut, found, 1) is None


def test_decode__limits_bind_the_direct_way_too() -> None:
    outcome = _outcome(lambda file, **_: decode(file, needed_side_px=None, limits=DecodeLimits(max_pixels=1000)),
                       USUAL["baseline"], None)  # fmt: skip
    assert isinstance(outcome, str)
    assert outcome.startswith("Rejected: ")
