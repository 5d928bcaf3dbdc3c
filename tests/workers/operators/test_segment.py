"""Do masks lie where the network sees the classes, at the full size of the image?"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from tests.workers.operators.making import flat, opened, view
from winnow_storage.errors import ModelError
from winnow_workers.boxes import softmin
from winnow_workers.masks import encode_rle
from winnow_workers.operator import Operator
from winnow_workers.operators.segment import SegmentParams

# pycocotools, the oracle here, has not followed numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

Opener = Callable[..., Operator[SegmentParams]]
LABELS = ("background", "bright", "never")


class BrightNet(torch.nn.Module):
    """A segmenter that is certain to the degree that a pixel is bright or dark."""

    def forward(self, images_nchw: torch.Tensor) -> torch.Tensor:
        dark = torch.full_like(images_nchw, 0.5)
        return 8 * torch.cat([dark, images_nchw, torch.zeros_like(dark)], dim=1)


INPUT = {"height_px": 32, "width_px": 32, "channels": 1, "mean": [0.0], "std": [1.0]}


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Opens a segmenter that finds bright pixels, on an input with that `fit`."""
    monkeypatch.setattr("winnow_workers.models.nets.NETS", {"small_unet": lambda *_: BrightNet()})
    return lambda fit="stretch", labels=LABELS: opened(
        "segment", "builtin/small_unet", weights={"random": 1}, labels=labels, input={**INPUT, "fit": fit}
    )


def square(width: int = 96, height: int = 64) -> np.ndarray:
    pixels = flat((0, 0, 0), width=width, height=height)
    pixels[height // 4 : height // 2, width // 2 :] = 255
    return pixels


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_segment__mask_at_full_size(bright: Opener) -> None:
    pixels = square()
    (prediction,) = bright().run([view(pixels)])
    (mask,) = prediction.fields["masks"]
    decoded = coco.decode({**mask["rle"], "counts": mask["rle"]["counts"].encode()}).astype(bool)
    assert mask["label"] == "bright"
    assert mask["rle"]["size"] == [64, 96]
    assert mask["area_px"] == decoded.sum()
    assert iou(decoded, pixels[:, :, 0] > 0) > 0.9
    assert mask["score"] == pytest.approx(np.e**8 / (np.e**8 + np.e**4 + 1), abs=0.01)
    assert prediction.score_kind == "softmin_pixel_softmax"


def test_segment__scaled_view_gives_a_mask_of_the_full_image(bright: Opener) -> None:
    (prediction,) = bright().run([view(square(), width_px=192, height_px=128)])
    (mask,) = prediction.fields["masks"]
    decoded = coco.decode({**mask["rle"], "counts": mask["rle"]["counts"].encode()}).astype(bool)
    assert decoded.shape == (128, 192)
    assert iou(decoded, square(192, 128)[:, :, 0] > 0) > 0.9


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_segment__pad_and_crop_put_the_mask_back(bright: Opener, fit: str) -> None:
    pixels = square()
    (prediction,) = bright(fit).run([view(pixels)])
    (mask,) = prediction.fields["masks"]
    decoded = coco.decode({**mask["rle"], "counts": mask["rle"]["counts"].encode()}).astype(bool)
    truth = pixels[:, :, 0] > 0
    if fit == "crop":  # what the model does not see is background: 16 columns on each side
        assert not decoded[:, :16].any()
        assert not decoded[:, 80:].any()
        truth[:, 80:] = False
    assert iou(decoded, truth) > 0.8  # a pixel of the input is three of the image


def test_segment__nothing_but_background(bright: Opener) -> None:
    (prediction,) = bright().run([view(flat((0, 0, 0)))])
    assert prediction.fields["masks"] == []
    assert prediction.score == pytest.approx(np.e**4 / (np.e**4 + 2), abs=1e-5)


def test_segment__labels_are_counted(bright: Opener) -> None:
    with pytest.raises(ModelError, match="2 labels for a model with 3 classes"):
        bright(labels=["background", "bright"])


def test_segment__a_classifier_is_no_segmenter() -> None:
    with pytest.raises(ModelError, match="a segmenter gives logits per pixel"):
        opened("segment", "builtin/digit_cnn", weights={"random": 1})


def test_softmin__between_the_minimum_and_the_mean() -> None:
    values = np.array([0.9, 0.9, 0.9, 0.3])
    weights = np.exp((1 - values) / 0.1)
    assert softmin(values) == pytest.approx((values * weights).sum() / weights.sum())
    assert 0.3 < softmin(values) < values.mean()
    assert softmin(np.full((5, 5), 0.7)) == pytest.approx(0.7)
    assert softmin(np.array([0.0, 1.0])) == pytest.approx(4.5e-5, rel=0.02)


def test_encode_rle__round_trip() -> None:
    mask = np.random.default_rng(3).random((37, 23)) > 0.6
    code = encode_rle(mask)
    assert code["size"] == [37, 23]
    assert (coco.decode({"size": code["size"], "counts": code["counts"].encode()}).astype(bool) == mask).all()
