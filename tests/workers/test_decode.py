"""Does every kind of file become the pixels that it shows, and every bad one a signal?"""

import io
import random
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.workers.image_files import chunk, png_of
from winnow_storage.schemas import Outcome
from winnow_workers.decode import Decoded, DecodeLimits, decode
from winnow_workers.signals import ItemSignal, Rejected, Unreadable

LIMITS = DecodeLimits()


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def decoded(data: bytes, *, needed_side_px: int | None = None) -> Decoded:
    return decode(data, needed_side_px=needed_side_px, limits=LIMITS)


def scene(width: int = 48, height: int = 32) -> np.ndarray:
    """A smooth picture that has no symmetry, (height, width, 3) uint8."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - (x + y) / 2], axis=2).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("image_format", "options", "name", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, "jpeg", 6),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, "jpeg", 6),
        ("MPO", {"quality": 95, "subsampling": 0}, "jpeg", 6),
        ("PNG", {}, "png", 0),
        ("WEBP", {"lossless": True}, "webp", 0),
        ("TIFF", {}, "tiff", 0),
        ("TIFF", {"compression": "tiff_lzw"}, "tiff", 0),
        ("BMP", {}, "bmp", 0),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, "avif", 6),
    ],
)
def test_decode__colour(image_format: str, options: dict[str, object], name: str, tolerance: int) -> None:
    if image_format == "MPO":
        options = {**options, "save_all": True, "append_images": [Image.new("RGB", (48, 32))]}
    result = decoded(encoded(Image.fromarray(scene()), image_format, **options))
    assert (result.format, result.width_px, result.height_px) == (name, 48, 32)
    assert result.pixels.dtype == np.uint8
    assert result.pixels.shape == (32, 48, 3)
    assert np.abs(result.pixels.astype(int) - scene()).max() <= tolerance


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "JPEG"])
def test_decode__grey(image_format: str) -> None:
    grey = scene()[:, :, 0]
    pixels = decoded(encoded(Image.fromarray(grey), image_format)).pixels
    assert np.abs(pixels.astype(int) - grey[:, :, None]).max() <= (3 if image_format == "JPEG" else 0)


def test_decode__bilevel() -> None:
    bits = scene()[:, :, 0] > 127
    assert (decoded(encoded(Image.fromarray(bits), "PNG")).pixels == np.where(bits, 255, 0)[:, :, None]).all()


def test_decode__sixteen_bit_grey_is_scaled() -> None:
    wide = np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(np.uint16)
    for image_format in ("PNG", "TIFF"):
        pixels = decoded(encoded(Image.fromarray(wide), image_format)).pixels
        assert (pixels == np.rint(wide / 257.0)[:, :, None]).all()


def test_decode__sixteen_bit_colour_is_scaled() -> None:
    wide = scene().astype(np.uint16) * 257
    ok, data = cv2.imencode(".png", wide[:, :, ::-1])
    assert ok
    assert np.abs(decoded(data.tobytes()).pixels.astype(int) - scene()).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 100.0, 255.0]], np.float32), [0, 100, 255]),
        (np.array([[-10.0, 0.0, 10.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0.0, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[0, 25700, 65535]], np.int32), [0, 100, 255]),
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 500_000, 1_000_000]], np.int32), [0, 128, 255]),
    ],
)
def test_decode__wide_grey_takes_the_smallest_range_that_holds_it(values: np.ndarray, expected: list[int]) -> None:
    pixels = decoded(encoded(Image.fromarray(values), "TIFF")).pixels
    assert pixels[0, :, 0].tolist() == expected


def test_decode__cmyk() -> None:
    for ink, colour in (((0, 255, 255, 0), (255, 0, 0)), ((0, 0, 0, 0), (255, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))):
        for image_format in ("JPEG", "TIFF"):
            pixels = decoded(encoded(Image.new("CMYK", (16, 16), ink), image_format)).pixels
            assert np.abs(pixels.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_decode__alpha_lies_on_white(image_format: str) -> None:
    image = Image.new("RGBA", (8, 8), (200, 100, 0, 128))
    options = {"lossless": True} if image_format == "WEBP" else {}
    alpha = 128 / 255
    expected = [round(255 * (1 - alpha) + colour * alpha) for colour in (200, 100, 0)]
    assert np.abs(decoded(encoded(image, image_format, **options)).pixels.astype(int) - expected).max() <= 1


def test_decode__grey_alpha_and_transparent_colours() -> None:
    assert (decoded(encoded(Image.new("LA", (4, 4), (0, 0)), "PNG")).pixels == 255).all()
    keyed = encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert (decoded(keyed).pixels == 255).all()


def test_decode__palette_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert decoded(encoded(image, "PNG")).pixels.tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert decoded(encoded(image, "PNG", transparency=0)).pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]
    half = encoded(image, "PNG", transparency=bytes([0, 255]))
    assert decoded(half).pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_decode__first_frame(image_format: str) -> None:
    second = Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(Image.new("RGB", (8, 8), "red"), image_format, save_all=True, append_images=[second], **options)
    assert (decoded(data).pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("extra", [b"", chunk(b"tRNS", b"\0")])
def test_decode__a_palette_that_is_missing_is_unreadable(extra: bytes) -> None:
    with pytest.raises(Unreadable, match="damaged png: its pixels are numbers in a palette, and it has none"):
        decoded(png_of([bytes(4)], 4, 8, 3, extra))


def _shortened(depth: int, colour: int, rows: int, *, value: int = 200) -> bytes:
    """A PNG of 8 x 8 px whose sound stream holds so many rows."""
    row = 1 + depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]  # eight pixels are as many bytes as one has bits
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, depth, colour, 0, 0, 0))
    palette = chunk(b"PLTE", bytes([7, 8, 9] * 256)) if colour == 3 else b""
    pixels = zlib.compress((b"\0" + bytes([value]) * (row - 1)) * rows)
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (8, 4), (8, 6)])
def test_decode__a_png_whose_stream_ends_before_its_last_row_is_unreadable(depth: int, colour: int, rows: int) -> None:
    with pytest.raises(Unreadable, match="damaged png: its pixels end before its last row"):
        decoded(_shortened(depth, colour, rows))
    for value in (0, 200):
        assert decoded(_shortened(depth, colour, 8, value=value)).pixels.shape == (8, 8, 3)


def test_decode__an_interlaced_png_whose_stream_ends_early_is_unreadable() -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1))
    passes = [(1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8)]  # rows and columns of Adam7 in 8 x 8 px
    streams = [b"".join((b"\0" + bytes(columns)) * rows for rows, columns in passes[:count]) for count in (6, 7)]
    short, whole = (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(one)) + chunk(b"IEND", b"") for one in streams
    )
    assert not decoded(whole).pixels.any()
    with pytest.raises(Unreadable, match="damaged png"):
        decoded(short)


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    # from the EXIF standard: where row 0 and column 0 of the file lie in the picture
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", list(UPRIGHT))
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_decode__exif_orientation(orientation: int, image_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}.get(
        image_format, {}
    )
    result = decoded(encoded(Image.fromarray(scene()), image_format, exif=exif, **options))
    expected = UPRIGHT[orientation](scene())
    assert (result.height_px, result.width_px) == expected.shape[:2] == result.pixels.shape[:2]
    assert np.abs(result.pixels.astype(int) - expected).max() <= (6 if image_format == "JPEG" else 0)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x09garbage"]
)
def test_decode__broken_exif_is_ignored(exif: bytes) -> None:
    result = decoded(encoded(Image.fromarray(scene()), "JPEG", quality=95, subsampling=0, exif=exif))
    assert np.abs(result.pixels.astype(int) - scene()).max() <= 6


def swapped_primaries() -> bytes:
    """An sRGB profile whose red and green primaries changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_decode__profile_becomes_srgb(image_format: str) -> None:
    data = encoded(Image.new("RGB", (16, 16), (255, 0, 0)), image_format, icc_profile=swapped_primaries())
    assert np.abs(decoded(data).pixels.astype(int) - (0, 255, 0)).max() <= 8


def test_decode__profile_under_alpha_and_palette() -> None:
    rgba = encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 255)), "PNG", icc_profile=swapped_primaries())
    assert np.abs(decoded(rgba).pixels.astype(int) - (0, 255, 0)).max() <= 3
    palette = Image.new("P", (4, 4))
    palette.putpalette([255, 0, 0])
    assert (
        np.abs(decoded(encoded(palette, "PNG", icc_profile=swapped_primaries())).pixels.astype(int) - (0, 255, 0)).max()
        <= 3
    )


@pytest.mark.parametrize("profile", [b"no profile", swapped_primaries()[:200]])
def test_decode__broken_profile_is_ignored(profile: bytes) -> None:
    assert (decoded(encoded(Image.fromarray(scene()), "PNG", icc_profile=profile)).pixels == scene()).all()


def test_decode__profile_of_other_channels_is_ignored() -> None:
    grey = encoded(Image.fromarray(scene()[:, :, 0]), "PNG", icc_profile=swapped_primaries())
    assert (decoded(grey).pixels == scene()[:, :, :1]).all()


@pytest.mark.parametrize(
    ("needed_side_px", "shorter_px"),
    [(None, 800), (801, 800), (800, 800), (401, 800), (400, 400), (201, 400), (200, 200), (100, 100), (10, 100)],
)
@pytest.mark.parametrize("orientation", [1, 6])
def test_decode__scaled_jpeg_keeps_what_is_needed(
    needed_side_px: int | None, shorter_px: int, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = scene(1201, 800)
    result = decoded(encoded(Image.fromarray(picture), "JPEG", quality=95, exif=exif), needed_side_px=needed_side_px)
    size = (1201, 800) if orientation == 1 else (800, 1201)
    assert (result.width_px, result.height_px) == size  # the full size, whatever was decoded
    assert min(result.pixels.shape[:2]) == shorter_px
    small = Image.fromarray(UPRIGHT[orientation](picture)).resize(result.pixels.shape[1::-1], Image.Resampling.BOX)
    assert np.abs(result.pixels.astype(int) - np.asarray(small)).mean() < 3


def test_decode__only_jpeg_is_scaled() -> None:
    assert decoded(encoded(Image.fromarray(scene(400, 300)), "PNG"), needed_side_px=10).pixels.shape == (300, 400, 3)


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    body = zlib.compress(bytes(100))
    data = b"IDAT" + body
    return (
        b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", len(body)) + data + struct.pack(">I", zlib.crc32(data))
        + b"\0\0\0\0IEND\xaeB`\x82"
    )  # fmt: skip


def jpeg_bomb() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 65000, 65000)
    return bytes(data)


def gif_frame_bomb() -> bytes:
    """A small screen with a frame of 65535 x 65535 px that is to be disposed of."""
    control = b"\x21\xf9\x04\x08\0\0\0\0"
    return b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + control + b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02L\x01\0\x3b"  # fmt: skip  # noqa: E501


def webp_bomb() -> bytes:
    canvas = bytes([0x10, 0, 0, 0]) + (16382).to_bytes(3, "little") * 2
    payload = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


def tiff_bomb() -> bytes:
    tags = [(256, 4, 1, 90000), (257, 4, 1, 90000), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 90000), (279, 4, 1, 10)]  # fmt: skip  # noqa: E501
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)


def bmp_bomb() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "BMP"))
    data[18:26] = struct.pack("<ii", 60000, 60000)
    return bytes(data)


@pytest.mark.parametrize(
    "bomb", [png_header(50000, 50000), jpeg_bomb(), gif_frame_bomb(), webp_bomb(), tiff_bomb(), bmp_bomb()],
    ids=["png", "jpeg", "gif", "webp", "tiff", "bmp"],
)  # fmt: skip
def test_decode__bomb_by_header_is_rejected(bomb: bytes) -> None:
    with pytest.raises(Rejected, match="pixels") as raised:
        decoded(bomb)
    assert raised.value.outcome is Outcome.REJECTED


def test_decode__the_limits_are_inclusive() -> None:
    data = encoded(Image.new("RGB", (10, 10)), "PNG")
    exact = DecodeLimits(max_pixels=100, max_bytes=len(data))
    assert decode(data, needed_side_px=None, limits=exact).width_px == 10
    with pytest.raises(Rejected, match="10 x 10 px by its header, over the limit of 99"):
        decode(data, needed_side_px=None, limits=DecodeLimits(max_pixels=99))
    with pytest.raises(Rejected, match=f"{len(data)} bytes, over the limit of {len(data) - 1}"):
        decode(data, needed_side_px=None, limits=DecodeLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"Dear reader, this is no image.", "no image format"),
        (bytes(1000), "no image format"),
        (b"\xff\xd8\xff", "damaged jpeg: "),
        (b"%PDF-1.7 nothing", "no image format"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 50, "damaged png: "),
        (b"RIFF\xff\xff\xff\x7fWEBPICCP\xff\xff\xff\x7f", "damaged webp: "),
    ],
)
def test_decode__no_image_is_unreadable(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as raised:
        decoded(data)
    assert raised.value.outcome is Outcome.UNREADABLE
    assert raised.value.reason == str(raised.value)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"])
def test_decode__truncated_is_unreadable(image_format: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), image_format)
    with pytest.raises(Unreadable):
        decoded(data[: len(data) // 2])


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_decode__damage_ends_in_pixels_or_a_signal(image_format: str) -> None:
    dice = random.Random(7)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if image_format in {"GIF", "BMP"} else {"exif": exif, "icc_profile": swapped_primaries()}
    good = encoded(Image.fromarray(scene()), image_format, **options)
    outcomes = set()
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            bad[dice.randrange(min(len(bad), 400))] = dice.randrange(256)
        try:
            result = decode(bytes(bad), needed_side_px=8, limits=DecodeLimits(max_pixels=1_000_000))
        except ItemSignal as signal:
            outcomes.add(signal.outcome)
        else:
            assert result.pixels.dtype == np.uint8
            outcomes.add(Outcome.DONE)
    assert Outcome.UNREADABLE in outcomes
