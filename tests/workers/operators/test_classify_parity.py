"""Does classify say of images in a batch what torchvision and timm say of each alone?"""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from tests.workers.operators.making import opened, view
from tests.workers.operators.sharp_classifiers import CLASSES, no_drawing, sharpen
from winnow_workers.models import build, fixed_batch, libraries
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.preprocess import to_tensor
from winnow_workers.operator import View

# the smallest side that leaves each network a map of more than one place
SIDES = {
    "alexnet": 96,
    "vgg16": 64,
    "googlenet": 96,
    "resnet50": 128,
    "densenet121": 96,
    "mobilenet_v2": 96,
    "efficientnet_b0": 96,
    "convnext_tiny": 96,
    "vit_b_16": 224,  # its own
}
TIMM_SIDE_PX = 160  # of its test networks


def pictures() -> list[View]:
    """A wide and a tall one, with something on them."""
    rng = np.random.default_rng(5)
    found = []
    for height, width in ((120, 170), (260, 150)):
        pixels = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(8):
            y, x = int(rng.integers(0, height - 20)), int(rng.integers(0, width - 20))
            pixels[y : y + int(rng.integers(8, 70)), x : x + int(rng.integers(8, 70))] = rng.integers(0, 256, 3)
        found.append(view(pixels))
    return found


def library_input(pixels: np.ndarray, said: Preprocessing) -> torch.Tensor:
    """(1, 3, h, w), as torchvision's documentation makes it of the centre that our preprocessing takes."""
    from torchvision.transforms import v2

    side = min(pixels.shape[:2])
    made = v2.Compose(
        [
            v2.CenterCrop(side),
            v2.Resize((said.height_px, said.width_px), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(said.mean, said.std),
        ]
    )
    image: torch.Tensor = made(torch.from_numpy(pixels).permute(2, 0, 1))[None]
    return image


def same_answers(predictions: list[Any], alone: list[np.ndarray], labels: list[str], *, at_most: float = 1e-4) -> None:
    """Labels equal, every probability within 1e-4; `alone` has each image's, (labels,), from the library."""
    assert len({one.fields["label"] for one in predictions}) == len(predictions)  # the weights tell them apart
    for prediction, wanted in zip(predictions, alone, strict=True):
        assert 0.2 < wanted.max() < 0.99999  # and are neither sure nor blind
        assert prediction.fields["label"] == labels[int(wanted.argmax())]
        found = {one["label"]: one["score"] for one in prediction.fields["top"]}
        assert len(found) == len(labels)
        assert [found[label] for label in labels] == pytest.approx(list(wanted), abs=at_most)


def with_weights(module: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    """The same network, filled; every name and shape must fit."""
    module.load_state_dict(weights)
    return module


@pytest.mark.parametrize("name", list(SIDES))
def test_classify__as_torchvision_on_each_image_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"init_weights": False} if name == "googlenet" else {}
    with no_drawing():
        library = models.get_model(name, weights=None, num_classes=CLASSES, **extra)
    as_on_each_image_alone(f"torchvision/{name}", library, SIDES[name], monkeypatch)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_classify__as_timm_on_each_image_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = libraries.timm().create_model(name, pretrained=False, num_classes=CLASSES)
    as_on_each_image_alone(f"timm/{name}", library, TIMM_SIDE_PX, monkeypatch)


def as_on_each_image_alone(name: str, library: nn.Module, side_px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is given the weights with which the library answers."""
    torch.set_num_threads(1)
    monkeypatch.setattr(fixed_batch, "CPU_BATCH", 2)  # what is filled up costs time and shows nothing here
    said = Preprocessing(height_px=side_px, width_px=side_px, fit="crop")
    seen = pictures()
    inputs = [library_input(one.pixels, said) for one in seen]
    for one, made in zip(seen, inputs, strict=True):
        assert torch.allclose(to_tensor(one.pixels, said), made[0], atol=1e-6)
    built = build.build_network
    with no_drawing():
        library = sharpen(library.eval(), torch.cat(inputs))
        drawn = library.state_dict()
        monkeypatch.setattr(build, "build_network", lambda *a, **more: with_weights(built(*a, **more), drawn))
        labels = [f"kind {number}" for number in range(CLASSES)]
        operator = opened(
            "classify", name, weights={"random": 1}, labels=labels, top_k=CLASSES,
            input=said.model_dump(),
        )  # fmt: skip
    predictions = operator.run(seen)
    with torch.inference_mode():
        alone = [library(made)[0].softmax(dim=-1).numpy() for made in inputs]
    same_answers(predictions, alone, labels)
