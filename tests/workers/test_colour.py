"""Do profiles, inks, bit depths and transparency become the colours that arithmetic and other decoders say?"""

import itertools
import struct

import numpy as np
import pytest
from PIL import Image

from tests.workers.image_files import chunk, encoded, exif_of, png_of, profile, scene
from winnow_workers.decode import DecodeLimits, DecodeSettings, decode

LIMITS = DecodeLimits()
PICTURE = Image.fromarray(scene())
D50 = (0.9642, 1.0, 0.8249)


def pixels_of(data: bytes, background: str = "#ffffff") -> np.ndarray:
    settings = DecodeSettings(background=background)
    return decode(data, needed_side_px=None, limits=LIMITS, settings=settings).pixels


def srgb_of(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, 0..1 to 0..255."""
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def linear_of(srgb: np.ndarray) -> np.ndarray:
    """The inverse of `srgb_of`."""
    part = srgb / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def icc(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile of version 2, by hand."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50), **tags}
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"\0\0\0\0", 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + fixed(*D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


GREY_LINEAR = icc(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": gamma(1.0)})


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_decode__a_grey_profile(mode: str, image_format: str) -> None:
    grey = scene()[:, :, 0]
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    pixels = pixels_of(encoded(image, image_format, icc_profile=GREY_LINEAR))
    assert np.abs(pixels - srgb_of(grey / 255)[:, :, None]).max() <= 2


def test_decode__a_wide_gamut_by_the_matrix_of_its_primaries() -> None:
    adobe = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
    ours = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
    tags = {name: b"XYZ \0\0\0\0" + fixed(*column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adobe.T, strict=True)}  # fmt: skip
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(563 / 256))
    linear = (scene() / 255) ** (563 / 256) @ (np.linalg.inv(ours) @ adobe).T
    for image_format in ("PNG", "TIFF"):
        pixels = pixels_of(encoded(PICTURE, image_format, icc_profile=icc(b"mntr", b"RGB ", b"XYZ ", tags)))
        inside = ((linear > 0.01) & (linear < 0.99)).all(axis=2)
        assert inside.sum() > 300
        assert np.abs(pixels - srgb_of(linear))[inside].max() <= 2


@pytest.mark.parametrize("image_format", ["TIFF", "JPEG"])
def test_decode__a_profile_of_inks(image_format: str) -> None:
    lightness = {inks: 100 - 25 * sum(inks) for inks in itertools.product((0, 1), repeat=4)}
    grid = b"".join(bytes([round(lightness[inks] * 2.55), 128, 128]) for inks in sorted(lightness))
    ramp = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + ramp * 4 + grid + ramp * 3
    made = icc(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})
    for inks in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0), (0, 0, 0, 1)):
        image = Image.new("CMYK", (16, 16), tuple(255 * ink for ink in inks))
        luminance = ((lightness[inks] + 16) / 116) ** 3  # CIE 1976
        pixels = pixels_of(encoded(image, image_format, icc_profile=made))
        assert np.abs(pixels - srgb_of(np.array(luminance))).max() <= 4


def test_decode__inks_of_a_jpeg_without_adobes_marker() -> None:
    inks = np.dstack([255 - scene(), np.zeros((32, 48), np.uint8)])
    data = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=98, subsampling=0)
    at = data.index(b"\xff\xee")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    with_marker, without = pixels_of(data), pixels_of(data[:at] + data[at + 2 + length :])
    assert np.abs(with_marker.astype(int) - scene()).max() <= 8
    assert np.array_equal(without, with_marker)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_decode__png_greys_of_every_depth(depth: int) -> None:
    values = np.arange(8) * ((1 << depth) - 1) // 7
    bits = "".join(f"{value:0{depth}b}" for value in values)
    row = int(bits, 2).to_bytes(depth, "big")
    expected = np.rint(values * 255 / ((1 << depth) - 1))
    assert np.array_equal(pixels_of(png_of([row], 8, depth, 0))[0, :, 0], expected)
    palette = chunk(b"PLTE", bytes(range(3 << min(depth, 3))))
    if depth <= 8:
        few = png_of([bytes([0b0100_0000])], 8 // depth, depth, 3, palette)
        assert pixels_of(few).shape == (1, 8 // depth, 3)


@pytest.mark.parametrize("background", ["#ffffff", "#000000", "#ff8000"])
@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_decode__transparency_lies_on_the_background(image_format: str, background: str) -> None:
    clear = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    colour = np.frombuffer(bytes.fromhex(background[1:]), np.uint8)
    data = encoded(clear, image_format, **({"lossless": True} if image_format == "WEBP" else {}))
    assert np.abs(pixels_of(data, background).astype(int) - colour).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode__avif_and_profiled_jpegs_are_turned(orientation: int) -> None:
    upright = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
               5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[:, ::-1],
               7: lambda a: a.swapaxes(0, 1)[::-1, ::-1], 8: lambda a: a.swapaxes(0, 1)[::-1]}  # fmt: skip
    for image_format, options in (("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
                                  ("JPEG", {"quality": 97, "subsampling": 0, "icc_profile": profile()})):  # fmt: skip
        data = encoded(PICTURE, image_format, exif=exif_of(orientation), **options)
        assert np.abs(pixels_of(data).astype(int) - upright[orientation](scene())).max() <= 8
