"""A YCCK JPEG, as Photoshop writes them: its inks are known, since it is made here, and OpenCV reads the same."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from winnow_workers.decode import DecodeLimits, decode

ADOBE = b"\xff\xee\x00\x0eAdobe"
TRANSFORM_AT = 15  # behind the marker: length, "Adobe", version, two flags
CMYK, YCCK = 0, 2


def inks(height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth cyan, magenta, yellow and black, 0 to 1, (height, width, 4)."""
    y, x = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    return np.stack([x, y, 1 - x, 0.4 * (1 - y)], axis=2)


def ycck(ink: np.ndarray, **options: object) -> bytes:
    """By Pillow's encoder, which is told that it were CMYK; then the Adobe marker's transform says YCCK.

    In such a file stand Y, Cb and Cr of 255 less each inverted colour ink, and black inverted (Adobe's technical note
    5116, libjpeg's jccolor.c); Pillow inverts what it is given.
    """
    cyan_magenta_yellow, black = np.rint(ink[:, :, :3] * 255).astype(np.uint8), np.rint(ink[:, :, 3:] * 255)
    luma_chroma = np.asarray(Image.fromarray(cyan_magenta_yellow).convert("YCbCr"))
    planes = np.concatenate([255 - luma_chroma, black.astype(np.uint8)], axis=2)
    sink = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(planes), "CMYK").save(sink, "JPEG", quality=98, subsampling=0, **options)
    data = bytearray(sink.getvalue())
    at = data.index(ADOBE) + TRANSFORM_AT
    assert data[at] == CMYK
    data[at] = YCCK
    return bytes(data)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_decode__ycck(options: dict[str, object]) -> None:
    ink = inks()
    file = ycck(ink, **options)
    pixels = decode(file, needed_side_px=None, limits=DecodeLimits()).pixels.astype(int)
    wanted = 255 * (1 - ink[:, :, :3]) * (1 - ink[:, :, 3:])
    assert np.abs(pixels - wanted).max() <= 6
    theirs = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1].astype(int)
    assert np.abs(pixels - theirs).max() <= 3


def test_decode__the_same_planes_as_plain_cmyk_are_other_colours() -> None:
    file = bytearray(ycck(inks()))
    file[file.index(ADOBE) + TRANSFORM_AT] = CMYK
    pixels = decode(bytes(file), needed_side_px=None, limits=DecodeLimits()).pixels.astype(int)
    wanted = 255 * (1 - inks()[:, :, :3]) * (1 - inks()[:, :, 3:])
    assert np.abs(pixels - wanted).mean() > 40


@pytest.mark.parametrize(("needed_side_px", "shorter_px"), [(24, 24), (12, 12)])
def test_decode__ycck_is_scaled_like_any_jpeg(needed_side_px: int, shorter_px: int) -> None:
    ink = inks()
    found = decode(ycck(ink), needed_side_px=needed_side_px, limits=DecodeLimits())
    assert (found.width_px, found.height_px, min(found.pixels.shape[:2])) == (64, 48, shorter_px)
    wanted = Image.fromarray(np.rint(255 * (1 - ink[:, :, :3]) * (1 - ink[:, :, 3:])).astype(np.uint8))
    small = np.asarray(wanted.resize(found.pixels.shape[1::-1], Image.Resampling.BOX)).astype(int)
    assert np.abs(found.pixels - small).max() <= 10
