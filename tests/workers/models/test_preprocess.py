"""Does a view become the tensor that its preprocessing describes?"""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.preprocess import Window, placement, preproc_id, to_tensor

PLAIN = Preprocessing(height_px=4, width_px=6, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_to_tensor__same_size_is_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert torch.equal(to_tensor(pixels, PLAIN), torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


def test_to_tensor__read_only_pixels() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels.flags.writeable = False
    assert to_tensor(pixels, PLAIN).shape == (3, 4, 6)


def test_to_tensor__normalised_luma() -> None:
    grey = Preprocessing(height_px=1, width_px=1, channels=1, mean=(0.5,), std=(0.25,))
    value = to_tensor(np.array([[[255, 128, 0]]], np.uint8), grey).item()
    assert value == pytest.approx(((0.299 * 255 + 0.587 * 128) / 255 - 0.5) / 0.25, abs=1e-6)


def test_to_tensor__scaling_down_averages() -> None:
    stripes = np.zeros((64, 96, 3), np.uint8)
    stripes[:, ::2] = 200
    assert torch.allclose(to_tensor(stripes, PLAIN), torch.full((3, 4, 6), 100 / 255), atol=2 / 255)


def test_to_tensor__crop_shows_the_centre_only() -> None:
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, 3:9] = 255
    assert (to_tensor(pixels, PLAIN.model_copy(update={"fit": "crop"})) == 1.0).all()


def test_to_tensor__pad_keeps_the_shape_and_fills_with_the_mean() -> None:
    fit = Preprocessing(height_px=8, width_px=8, fit="pad")
    tensor = to_tensor(np.full((4, 8, 3), 255, np.uint8), fit)
    assert (tensor[:, :2] == 0).all()
    assert (tensor[:, 6:] == 0).all()
    assert (tensor[:, 2:6] > 1).all()


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 5)])
def test_to_tensor__any_size(fit: str, size: tuple[int, int]) -> None:
    tensor = to_tensor(np.full((*size, 3), 255, np.uint8), Preprocessing(height_px=32, width_px=48, fit=fit))
    assert tensor.shape == (3, 32, 48)
    assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 5), (48, 48)])
def test_to_tensor__any_size_whose_shorter_side_is_scaled_first(size: tuple[int, int]) -> None:
    given = Preprocessing(height_px=32, width_px=48, fit="crop", resize_px=50, interpolation="bicubic")
    tensor = to_tensor(np.full((*size, 3), 255, np.uint8), given)
    assert tensor.shape == (3, 32, 48)
    assert torch.isfinite(tensor).all()


def test_placement__the_centre_after_the_shorter_side_was_scaled() -> None:
    given = Preprocessing(height_px=8, width_px=8, fit="crop", resize_px=10)
    assert placement(40, 20, given).source == Window(12, 2, 16, 16)
    assert placement(1, 1, given).source == Window(0, 0, 1, 1)


@pytest.mark.parametrize("wrong", [{"fit": "stretch", "resize_px": 32}, {"fit": "crop", "resize_px": 15}])
def test_preprocessing__resize_px_is_for_a_centre_that_fits_in(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="resize_px is for fit: crop"):
        Preprocessing.model_validate({"height_px": 16, "width_px": 16, **wrong})


def test_placement__crop_and_pad() -> None:
    square = Preprocessing(height_px=10, width_px=10, fit="crop")
    assert placement(40, 20, square).source == Window(10, 0, 20, 20)
    assert placement(40, 20, square.model_copy(update={"fit": "pad"})).target == Window(0, 2, 10, 5)


def test_preproc_id__differs_with_every_number() -> None:
    ids = {preproc_id(PLAIN), preproc_id(PLAIN.model_copy(update={"fit": "pad"})),
           preproc_id(PLAIN.model_copy(update={"std": (1.0, 1.0, 0.5)}))}  # fmt: skip
    assert len(ids) == 3
    assert preproc_id(PLAIN) == "p1-6x4-stretch-" + preproc_id(PLAIN)[-8:]


def test_preprocessing__one_number_per_channel() -> None:
    with pytest.raises(ValidationError, match="mean and std need 1 number"):
        Preprocessing(height_px=8, width_px=8, channels=1)
