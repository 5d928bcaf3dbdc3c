"""Does a device make the same numbers of a canvas as the CPU makes of the image?"""

import numpy as np
import pytest
import torch

from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.normaliser import Normaliser
from winnow_workers.models.preprocess import to_canvas, to_tensor


@pytest.mark.parametrize("fit", ["stretch", "crop", "crop of 60", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pad_value", [None, 114])
@pytest.mark.parametrize("size", [(32, 48), (50, 20), (7, 90), (1, 1)])
def test_normaliser__the_numbers_of_to_tensor(
    fit: str, channels: int, pad_value: int | None, size: tuple[int, int]
) -> None:
    said: dict[str, object] = {"height_px": 32, "width_px": 48, "fit": fit.partition(" ")[0], "channels": channels}
    if fit == "crop of 60":
        said |= {"resize_px": 60, "interpolation": "bicubic"}
    if channels == 1:
        said |= {"mean": (0.449,), "std": (0.226,)}
    if fit == "pad":
        said["pad_value"] = pad_value
    given = Preprocessing.model_validate(said)
    images = [np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8) for seed in range(3)]
    canvases = torch.stack([to_canvas(one, given) for one in images])
    assert canvases.dtype == torch.uint8
    numbers = Normaliser(given, "cpu")(canvases)
    assert numbers.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(numbers, torch.stack([to_tensor(one, given) for one in images]), atol=1e-6, rtol=0)


def test_normaliser__stays_in_float32_where_the_network_runs_in_bfloat16() -> None:
    given = Preprocessing(height_px=4, width_px=4)
    canvas = to_canvas(np.full((4, 4, 3), 77, np.uint8), given)[None]
    with torch.autocast("cpu", torch.bfloat16):
        assert Normaliser(given, "cpu")(canvas).dtype == torch.float32
