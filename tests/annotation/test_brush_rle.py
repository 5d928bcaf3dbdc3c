"""Tests of Label Studio's brush code, against the SDK's own decoder and encoder."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter import brush

from winnow_annotation import brush_rle

Mask = npt.NDArray[np.bool_]


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits, dtype=bool).reshape(height, width)


@given(masks())
def test_encode__decodes_to_the_same_bits_here_and_there(mask: Mask) -> None:
    code = brush_rle.encode(mask)
    assert np.array_equal(brush_rle.decode(code, height=mask.shape[0], width=mask.shape[1]), mask)
    theirs = brush.decode_rle(code).reshape(*mask.shape, 4)
    assert np.array_equal(theirs[:, :, 3], mask * np.uint8(255))


@given(masks())
def test_decode__reads_what_the_sdk_writes(mask: Mask) -> None:
    code = brush.mask2rle(mask.astype(np.uint8) * 255)
    assert np.array_equal(brush_rle.decode(code, height=mask.shape[0], width=mask.shape[1]), mask)


def test_encode__a_run_longer_than_one_block() -> None:
    mask = np.zeros((300, 400), dtype=bool)
    mask[10:290] = True
    code = brush_rle.encode(mask)
    assert len(code) < 100
    assert np.array_equal(brush_rle.decode(code, height=300, width=400), mask)


def test_decode__takes_half_transparent_edges_as_painted_from_half_on() -> None:
    rgba = np.repeat(np.array([0, 127, 128, 255], np.uint8), 4)
    assert brush_rle.decode(brush.encode_rle(rgba), height=1, width=4).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("cut", [3, 6, 9])
def test_decode__refuses_a_broken_code(cut: int) -> None:
    code = brush_rle.encode(np.eye(8, dtype=bool))
    with pytest.raises(ValueError, match="brush mask"):
        brush_rle.decode(code[:cut], height=8, width=8)


def test_decode__refuses_another_size() -> None:
    with pytest.raises(ValueError, match="its image 12"):
        brush_rle.decode(brush_rle.encode(np.eye(3, dtype=bool)), height=3, width=4)


def test_decode__refuses_a_size_that_would_fill_the_memory() -> None:
    with pytest.raises(ValueError, match="too large"):
        brush_rle.decode([255] * 4 + brush_rle.encode(np.eye(3, dtype=bool))[4:], height=3, width=3)
