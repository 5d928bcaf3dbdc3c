"""Does a TIFF of any samples, in any layout, become what the numbers that were written into it say?"""

import itertools

import numpy as np
import pytest
from PIL import Image

from tests.workers.image_files import encoded, noise, scene, tiff_of
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.signals import Unreadable

LIMITS = DecodeLimits()
WIDE = noise("uint16")
GREY = WIDE[:, :, :1]


def pixels_of(data: bytes) -> np.ndarray:
    return decode(data, needed_side_px=None, limits=LIMITS).pixels


def rounded(values: np.ndarray) -> np.ndarray:
    """0..65535 to 0..255, (height, width, 3)."""
    eight = np.rint(values.astype(np.float64) / 257).astype(np.uint8)
    return np.broadcast_to(eight, (*eight.shape[:2], 3))


LAYOUTS: dict[str, dict[str, object]] = {
    "strips": {"rowsperstrip": 7},
    "tiles": {"tile": (16, 16)},
    "planes": {"planarconfig": "separate", "rowsperstrip": 5},
    "planes in tiles": {"planarconfig": "separate", "tile": (16, 32)},
}
PACKED: dict[str, dict[str, object]] = {
    "plain": {},
    "deflate": {"compression": "zlib"},
    "differences": {"compression": "zlib", "predictor": 2},
}


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])
@pytest.mark.parametrize(("layout", "packed"), list(itertools.product(LAYOUTS, PACKED)))
def test_decode__sixteen_bit_colour_in_every_layout(order: str, big: bool, layout: str, packed: str) -> None:
    options = {"byteorder": order, "bigtiff": big, "photometric": "rgb", **LAYOUTS[layout], **PACKED[packed]}
    values = np.moveaxis(WIDE, 2, 0) if "planarconfig" in options else WIDE
    assert np.array_equal(pixels_of(tiff_of(values, **options)), rounded(WIDE))


@pytest.mark.parametrize("order", ["<", ">"])
def test_decode__sixteen_bit_grey_whatever_is_black(order: str) -> None:
    for photometric, expected in (("minisblack", rounded(GREY)), ("miniswhite", 255 - rounded(GREY))):
        for compression in (None, "zlib"):
            data = tiff_of(GREY[:, :, 0], photometric=photometric, byteorder=order, compression=compression)
            assert np.array_equal(pixels_of(data), expected)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u4", "i4", "i2", "u8"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_decode__numbers_of_every_kind(dtype: str, order: str, compression: str | None) -> None:
    values = scene()[:, :, 0] / 255 if dtype.startswith("f") else scene()[:, :, 0]
    pixels = pixels_of(tiff_of(values.astype(dtype), byteorder=order, compression=compression))
    assert np.abs(pixels.astype(int) - scene()[:, :, :1]).max() <= (1 if dtype == "f2" else 0)


@pytest.mark.parametrize("order", ["<", ">"])
def test_decode__float_colour_over_one_range_for_all_channels(order: str) -> None:
    values = (scene() / 255).astype(np.float32)
    assert np.array_equal(pixels_of(tiff_of(values, photometric="rgb", byteorder=order)), scene())


@pytest.mark.parametrize("highest", [1.0000002, 1.003])
def test_decode__floats_that_end_a_hair_above_one(highest: float) -> None:
    values = (scene() / 255).astype(np.float32)
    values[0, 0] = highest
    pixels = pixels_of(tiff_of(values, photometric="rgb")).astype(int)
    assert np.abs(pixels[1:] - scene()[1:]).max() <= 1
    assert pixels.max() == 255


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "tiff_lzw"])
@pytest.mark.parametrize("mode", ["F", "I;16", "I"])
def test_decode__libtiffs_own_predictors(compression: str, mode: str) -> None:
    dtype = {"F": np.float32, "I;16": np.uint16, "I": np.int32}[mode]
    scale = {"F": 1 / 255, "I;16": 257, "I": 257}[mode]
    values = (scene()[:, :, 0].astype(np.float64) * scale).astype(dtype)
    predictor = 3 if mode == "F" else 2
    data = encoded(Image.fromarray(values), "TIFF", compression=compression, tiffinfo={317: predictor})
    assert np.abs(pixels_of(data).astype(int) - scene()[:, :, :1]).max() <= 0


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_decode__sixteen_bit_alpha_lies_on_white(compression: str | None) -> None:
    alpha = np.full((32, 48, 1), 128 * 257, np.uint16)
    colours = scene().astype(np.uint16) * 257
    expected = np.rint((scene() * 128.0 + 255 * 127) / 255)
    grey = np.dstack([colours[:, :, :1], alpha])
    straight = tiff_of(np.dstack([colours, alpha]), photometric="rgb", extrasamples=["unassalpha"],
                       compression=compression)  # fmt: skip
    multiplied = np.rint(colours * (128 / 255)).astype(np.uint16)
    associated = tiff_of(np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"],
                         compression=compression)  # fmt: skip
    greys = tiff_of(grey, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"],
                    compression=compression)  # fmt: skip
    assert np.abs(pixels_of(straight) - expected).max() <= 1
    assert np.abs(pixels_of(associated) - expected).max() <= 2
    assert np.abs(pixels_of(greys) - expected[:, :, :1]).max() <= 1


def test_decode__sixteen_bit_inks() -> None:
    inks = np.dstack([65535 - scene().astype(np.uint16) * 257, np.zeros((32, 48), np.uint16)])
    for values, options in ((inks, {}), (np.moveaxis(inks, 2, 0), {"planarconfig": "separate"})):
        pixels = pixels_of(tiff_of(values, photometric="separated", **options))
        assert np.abs(pixels.astype(int) - scene()).max() <= 1


def test_decode__samples_that_are_not_there() -> None:
    data = tiff_of(WIDE, photometric="rgb", rowsperstrip=4)
    with pytest.raises(Unreadable, match="damaged tiff"):
        pixels_of(data[: len(data) // 2])
