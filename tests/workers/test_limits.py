"""Does every limit stop a bomb of every format by its headers, with a reason that names figure and key?"""

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.workers.image_files import chunk, encoded, exif_of, pages_of, png_of, profile, scene, tiff_of
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.headers.png import MAGIC, claim_of
from winnow_workers.signals import ItemSignal, Rejected

LIMITS = DecodeLimits()
PICTURE = Image.fromarray(scene())


def rejected(data: bytes, limits: DecodeLimits = LIMITS) -> str:
    """The reason; what was allocated for it is little, whatever the file claims."""
    tracemalloc.start()
    try:
        with pytest.raises(Rejected) as raised:
            decode(data, needed_side_px=None, limits=limits)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(data) + (4 << 20)
    finally:
        tracemalloc.stop()
    return raised.value.reason


def frames_of(image_format: str, **options: object) -> bytes:
    others = [Image.fromarray(np.roll(scene(), shift, 0)) for shift in (1, 2, 3)]
    return encoded(PICTURE, image_format, save_all=True, append_images=others, **options)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_decode__more_frames_than_there_may_be(image_format: str) -> None:
    data = frames_of(image_format)
    few = DecodeLimits(max_frames=3)
    assert rejected(data, few) == "more than 3 frames, which is the limit (limits.max_frames)"
    assert decode(data, needed_side_px=None, limits=DecodeLimits(max_frames=4)).width_px == 48


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"])
def test_decode__a_format_that_the_job_leaves_out(image_format: str) -> None:
    name = image_format.lower()
    others = tuple(one for one in LIMITS.formats if one != name)
    reason = rejected(encoded(PICTURE, image_format), DecodeLimits(formats=others))
    assert reason.startswith(f"a {name} file, and the job takes only ")
    assert reason.endswith("(limits.formats)")
    only = DecodeLimits.model_validate({"formats": (name,)})
    assert decode(encoded(PICTURE, image_format), needed_side_px=None, limits=only).format == name


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF"])
def test_decode__more_pixels_than_there_may_be(image_format: str) -> None:
    reason = rejected(encoded(PICTURE, image_format), DecodeLimits(max_pixels=48 * 32 - 1))
    assert reason == "48 x 32 px by its header, over the limit of 1535 pixels (limits.max_pixels)"


@pytest.mark.parametrize(
    ("make", "ratio"),
    [
        (lambda: encoded(Image.new("RGB", (4000, 3000)), "PNG"), 500),
        (lambda: encoded(Image.new("RGB", (4000, 3000)), "WEBP", lossless=True), 10_000),
        (lambda: encoded(Image.new("RGB", (4000, 3000)), "AVIF", speed=10), 10_000),
        (lambda: encoded(Image.new("L", (6000, 6000)), "GIF"), 500),
        (lambda: encoded(Image.new("RGB", (4000, 3000)), "TIFF", compression="tiff_adobe_deflate"), 500),
        (lambda: struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 70, 0, 0, 1078, 40, 9000, 9000, 1, 8, 1, 0, 0, 0, 0, 0)
         + bytes(1024) + b"\0\1", 10_000),
    ],
    ids=["png", "webp", "avif", "gif", "tiff", "bmp rle"],
)  # fmt: skip
def test_decode__packed_too_tightly(make: Callable[[], bytes], ratio: int) -> None:
    reason = rejected(make(), DecodeLimits(max_ratio=ratio))
    assert f"over the limit of {ratio} to one (limits.max_ratio)" in reason


def test_decode__texts_and_profiles_that_unpack_to_too_much() -> None:
    few = DecodeLimits(max_metadata_bytes=100_000)
    packed = zlib.compress(bytes(1_000_000))
    row = [bytes(3)]
    for name, body in ((b"zTXt", b"a\0\0" + packed), (b"iCCP", b"a\0\0" + packed),
                       (b"iTXt", b"a\0\1\0\0\0" + packed)):  # fmt: skip
        assert "(limits.max_metadata_bytes)" in rejected(png_of(row, 1, 8, 2, chunk(name, body)), few)
    many = b"".join(chunk(b"tEXt", b"a\0" + bytes(1000)) for _ in range(200))
    assert "(limits.max_metadata_bytes)" in rejected(png_of(row, 1, 8, 2, many), few)
    large = {"JPEG": {"icc_profile": bytes(200_000)}, "WEBP": {"icc_profile": profile() + bytes(200_000)},
             "TIFF": {"icc_profile": bytes(200_000)}, "AVIF": {"icc_profile": profile() + bytes(200_000)},
             "GIF": {"comment": bytes(200_000)}}  # fmt: skip
    for image_format, options in large.items():
        assert "(limits.max_metadata_bytes)" in rejected(encoded(PICTURE, image_format, **options), few), image_format


def shared_values(tags: int, size: int) -> bytes:
    """A TIFF directory of which every tag has the same large value: reading them all takes `tags` times `size`."""
    entries = b"".join(struct.pack("<HHII", 40000 + tag, 7, size, 8 + 6 + 12 * tags) for tag in range(tags))
    return b"II*\0" + struct.pack("<IH", 8, tags) + entries + bytes(4) + bytes(size)


@pytest.mark.filterwarnings("ignore:Tag data larger")  # of Pillow's writer
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_decode__exif_whose_tags_share_one_value(image_format: str) -> None:
    bomb = b"Exif\0\0" + shared_values(2000, 40_000)
    options = {"exif": bomb} | ({"icc_profile": profile()} if image_format == "JPEG" else {})
    assert "(limits.max_metadata_bytes)" in rejected(encoded(PICTURE, image_format, **options))


def test_decode__a_tiff_whose_tags_share_one_value() -> None:
    assert "(limits.max_metadata_bytes)" in rejected(shared_values(5000, 40_000))


def test_decode__a_jpeg_of_too_many_scans() -> None:
    data = encoded(PICTURE, "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[start:-2] * 600 + data[-2:]
    assert "scans, over the limit of 500 (limits.max_scans)" in rejected(bomb)


@pytest.mark.parametrize("key", ["max_bytes", "max_pixels", "max_frames", "max_scans", "max_metadata_bytes"])
def test_limits__are_positive(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        DecodeLimits.model_validate({key: 0})


GOOD = {
    "jpeg": encoded(PICTURE, "JPEG", exif=exif_of(6), icc_profile=profile()),
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "png": encoded(PICTURE, "PNG", exif=exif_of(6), icc_profile=profile()),
    "palette png": encoded(PICTURE.quantize(16), "PNG", transparency=0),
    "webp": encoded(PICTURE, "WEBP", exif=exif_of(6), icc_profile=profile()),
    "lossless webp": encoded(PICTURE, "WEBP", lossless=True),
    "tiff": encoded(PICTURE, "TIFF", exif=exif_of(6), icc_profile=profile(), compression="tiff_lzw"),
    "g4 tiff": encoded(PICTURE.convert("1"), "TIFF", compression="group4"),
    "wide tiff": tiff_of(scene().astype(np.uint16) * 257, photometric="rgb", tile=(16, 16), compression="zlib"),
    "pages": pages_of([scene()] * 3),
    "gif": frames_of("GIF"),
    "bmp": encoded(PICTURE, "BMP"),
    "avif": encoded(PICTURE, "AVIF", exif=exif_of(6), icc_profile=profile()),
}
SMALL = DecodeLimits(max_pixels=1_000_000, max_metadata_bytes=1 << 20, max_frames=100)
EDITS = st.lists(st.tuples(st.integers(0), st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF]) | st.integers(0, 255)),
                 min_size=1, max_size=6)  # fmt: skip


def test_decode__a_tile_of_more_pixels_than_the_image_may_have() -> None:
    narrow, wide = (struct.pack("<HHII", 322, 4, 1, width) for width in (16, 8_000_000))  # TileWidth, a long
    data = GOOD["wide tiff"]
    assert data.count(narrow) == 1
    assert "more pixels than the limit of 1000000 (limits.max_pixels)" in rejected(data.replace(narrow, wide), SMALL)


def test_decode__a_png_with_a_small_second_header_is_held_against_the_large_one() -> None:
    header, small = (struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0) for size in ((30_000, 30_000), (8, 8)))
    pixels = chunk(b"IDAT", zlib.compress(bytes(8 * 9)))
    data = MAGIC + chunk(b"IHDR", header) + pixels + chunk(b"IHDR", small) + chunk(b"IEND", b"")
    assert "limits.max_pixels" in rejected(data, SMALL)
    assert "limits.max_ratio" in rejected(data, LIMITS.model_copy(update={"max_pixels": 10**9}))


def test_claim_of__two_png_headers_are_held_against_the_more_pixels_and_the_more_bits() -> None:
    large, deep = (chunk(b"IHDR", struct.pack(">IIBBBBB", *said, 0, 0, 0)) for said in ((9, 9, 8, 0), (8, 8, 16, 6)))
    for headers in ((large, deep), (deep, large)):
        claim = claim_of(MAGIC + b"".join(headers), LIMITS)
        assert (claim.width_px, claim.height_px, claim.bits_per_pixel) == (9, 9, 64)


@pytest.mark.parametrize("name", GOOD)
@settings(max_examples=60, deadline=None)
@given(edits=EDITS, cut=st.none() | st.integers(0), in_head=st.booleans())
def test_decode__any_damage_ends_in_pixels_or_a_signal(
    name: str, edits: list[tuple[int, int]], cut: int | None, in_head: bool
) -> None:
    data = bytearray(GOOD[name])
    reach = min(len(data), 200) if in_head else len(data)
    for at, byte in edits:
        data[at % reach] = byte
    if cut is not None:
        del data[cut % len(data) :]
    start = time.process_time()
    with suppress(ItemSignal):
        decoded = decode(bytes(data), needed_side_px=16, limits=SMALL)
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.ndim == 3
        assert decoded.width_px * decoded.height_px <= SMALL.max_pixels
    assert time.process_time() - start < 20  # a hang, not a measurement


@pytest.mark.parametrize("name", GOOD)
def test_decode__every_cut_ends_in_pixels_or_a_signal(name: str) -> None:
    data = GOOD[name]
    for end in range(0, len(data) - 1, max(1, len(data) // 12)):
        with suppress(ItemSignal):
            assert decode(data[:end], needed_side_px=None, limits=SMALL).format == GOOD_FORMATS[name]
    assert decode(data, needed_side_px=None, limits=SMALL).format == GOOD_FORMATS[name]


GOOD_FORMATS = {name: next(one for one in ("jpeg", "png", "webp", "tiff", "gif", "bmp", "avif") if one in name)
                if name not in {"progressive", "pages"} else {"progressive": "jpeg", "pages": "tiff"}[name]
                for name in GOOD}  # fmt: skip
