"""16-bit PNGs are rounded to 8 bits, sample by sample; the samples here are known, since the files are written here."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageCms

from winnow_workers.decode import DecodeLimits, DecodeSettings, decode
from winnow_workers.signals import Unreadable

COLOURS = {1: 0, 3: 2, 2: 4, 4: 6}  # channels -> PNG's colour type
HEIGHT, WIDTH = 13, 17
IEND_BYTES = 12


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png16(samples: np.ndarray, more: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """A PNG of (height, width, channels) uint16; row after row another of the five filters (PNG 1.2, section 6)."""
    height, width, channels = samples.shape
    raw = samples.astype(">u2").view(np.uint8).reshape(height, -1).astype(np.int64)
    step = 2 * channels
    rows = []
    for number, row in enumerate(raw):
        left = np.concatenate([np.zeros(step, np.int64), row[:-step]])
        up = raw[number - 1] if number else np.zeros_like(row)
        corner = np.concatenate([np.zeros(step, np.int64), up[:-step]])
        guess = left + up - corner
        near = [np.abs(guess - one) for one in (left, up, corner)]
        paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], up, corner))
        below = (np.zeros_like(row), left, up, (left + up) // 2, paeth)[number % 5]
        rows.append(bytes([number % 5]) + ((row - below) % 256).astype(np.uint8).tobytes())
    head = struct.pack(">IIBBBBB", width, height, 16, COLOURS[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), *more, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def samples_of(channels: int) -> np.ndarray:
    """All kinds of values, those around the halves between two levels among them."""
    rng = np.random.default_rng(channels)
    values = rng.integers(0, 65536, (HEIGHT, WIDTH, channels), dtype=np.uint16)
    values[0, :8, 0] = (0, 128, 129, 385, 386, 65406, 65407, 65535)
    return values


def pixels_of(data: bytes, background: str = "#ffffff") -> np.ndarray:
    settings = DecodeSettings(background=background)
    return decode(data, needed_side_px=None, limits=DecodeLimits(), settings=settings).pixels.astype(int)


def rounded(samples: np.ndarray) -> np.ndarray:
    return np.floor(samples / 257.0 + 0.5).astype(int)


@pytest.mark.parametrize("channels", [1, 3])
def test_decode__sixteen_bits_are_rounded(channels: int) -> None:
    samples = samples_of(channels)
    pixels = pixels_of(png16(samples))
    assert np.array_equal(pixels, np.broadcast_to(rounded(samples), (HEIGHT, WIDTH, 3)))
    assert (rounded(samples) != samples >> 8).any()  # what would be left by cutting the lower byte off


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("background", ["#ffffff", "#204060"])
def test_decode__sixteen_bits_with_alpha(channels: int, background: str) -> None:
    samples = samples_of(channels)
    samples[:3, :, -1], samples[3:6, :, -1] = 65535, 0
    below = np.array([int(background[at : at + 2], 16) for at in (1, 3, 5)])
    colours, alpha = samples[:, :, :-1].astype(float) / 257, samples[:, :, -1:] / 65535.0
    pixels = pixels_of(png16(samples), background)
    assert np.abs(pixels - (colours * alpha + below * (1 - alpha))).max() <= 1.5  # alpha is rounded too
    assert np.array_equal(pixels[:3], np.broadcast_to(rounded(samples[:3, :, :-1]), (3, WIDTH, 3)))
    assert (pixels[3:6] == below).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_decode__a_transparent_colour_is_that_colour_in_all_sixteen_bits(channels: int) -> None:
    samples = np.full((2, 2, channels), 0x1234, np.uint16)
    samples[0, 0, 0] = 0x1235  # equal in its upper byte
    pixels = pixels_of(png16(samples, [(b"tRNS", struct.pack(f">{channels}H", *[0x1234] * channels))]), "#ff0000")
    assert (pixels[1] == (255, 0, 0)).all()
    assert (pixels[0, 0] == 0x12).all()


def test_decode__profile_and_orientation_of_sixteen_bits() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    samples = np.zeros((2, 3, 3), np.uint16)
    samples[0, :, 0] = 65535  # red above: green, by the profile
    exif = Image.Exif()
    exif[0x0112] = 3
    more = [(b"iCCP", b"p\0\0" + zlib.compress(profile)), (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))]
    pixels = pixels_of(png16(samples, more))
    assert np.abs(pixels[1] - (0, 255, 0)).max() <= 8
    assert np.abs(pixels[0]).max() <= 8


def test_decode__damaged_sixteen_bits_are_unreadable() -> None:
    data = png16(samples_of(4))
    for bad in (data[: len(data) // 2], data[:-30], data.replace(b"IDAT", b"IDAT\xff")):
        with pytest.raises(Unreadable):
            pixels_of(bad)


def test_decode__eight_bits_stay_as_they_are() -> None:
    buffer = io.BytesIO()
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(grey).save(buffer, "PNG")
    assert np.array_equal(pixels_of(buffer.getvalue())[:, :, 0], grey)


@pytest.mark.parametrize("is_shown", [True, False])  # as the first frame; PNG lets it be what others show instead
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_decode__an_animations_default_image_is_rounded_like_any_other(channels: int, is_shown: bool) -> None:
    samples = samples_of(channels)
    if channels in (2, 4):
        samples[:, :, -1] = 65535
    moves = [(b"acTL", struct.pack(">II", 2, 0)), *([frame(0)] if is_shown else [])]
    later = b"".join(
        chunk(*frame(2 * number + 1)) + chunk(b"fdAT", struct.pack(">I", 2 * number + 2) + packed_black(channels))
        for number in range(1 if is_shown else 2)
    )
    still = png16(samples, moves)
    animated = still[:-IEND_BYTES] + later + still[-IEND_BYTES:]
    with Image.open(io.BytesIO(animated)) as opened:
        assert opened.n_frames == (2 if is_shown else 3)  # Pillow counts one that is not shown
    assert np.array_equal(pixels_of(animated), pixels_of(png16(samples)))


def frame(number: int) -> tuple[bytes, bytes]:
    """The chunk that begins a frame of full size."""
    return b"fcTL", struct.pack(">IIIIIHHBB", number, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)


def packed_black(channels: int) -> bytes:
    """The content of a black frame."""
    return zlib.compress(bytes(HEIGHT * (1 + 2 * channels * WIDTH)))
