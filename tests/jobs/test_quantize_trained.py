"""Do cheaper variants of networks that have learned something answer alike, and is one that does not refused?

They tell tints apart, err now and then, are sure and unsure, and give every label: of ResNet-18 the last layer is
fitted to what the others make with drawn weights, MobileNetV3 is trained for some steps.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load
from sklearn.linear_model import LogisticRegression
from torchvision import models

from tests.jobs.test_models_command import run
from tests.workers.operators.making import view
from tests.workers.operators.sharp_classifiers import no_drawing, sharpen
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.catalogue import operator_named
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model
from winnow_workers.models.preprocess import to_tensor
from winnow_workers.models.resolve import resolve_model

LABELS = ("red", "lime", "cyan", "violet")
INPUT = Preprocessing(height_px=64, width_px=64)
FITTED, HELD_OUT = 240, 200


def tints(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Images (64, 64, 3) of a tint under noise, and which one, as a place among LABELS; some lie between two."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, len(LABELS), count)
    found = []
    for kind in kinds:
        hue = np.radians(90 * kind + rng.normal(0, 20))
        tint = np.array([np.cos(hue - part) for part in (0, 2 * np.pi / 3, 4 * np.pi / 3)])
        coarse = rng.normal(0, 1, (4, 4, 1)).repeat(16, 0).repeat(16, 1)
        pixels = 128 + rng.uniform(40, 70) * tint + 15 * coarse + rng.normal(0, 10, (64, 64, 3))
        found.append(np.clip(pixels, 0, 255).astype(np.uint8))
    return found, kinds


def resnet18(inputs: torch.Tensor, kinds: np.ndarray) -> dict[str, torch.Tensor]:
    """Drawn weights under a last layer that is fitted."""
    with no_drawing():
        module: Any = models.resnet18(weights=None, num_classes=len(LABELS))
    sharpen(module, inputs[:64])
    seen: list[torch.Tensor] = []
    watch = module.fc.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.inference_mode():
        for part in inputs.split(48):
            module(part)
    watch.remove()
    features = torch.cat(seen).numpy()
    middle, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    fitted = LogisticRegression(C=0.003, max_iter=500).fit((features - middle) / spread, kinds)
    weight = fitted.coef_ / spread
    with torch.no_grad():
        module.fc.weight.copy_(torch.from_numpy(weight))
        module.fc.bias.copy_(torch.from_numpy(fitted.intercept_ - weight @ middle))
    return dict(module.state_dict())


def mobilenet_v3_small(inputs: torch.Tensor, kinds: np.ndarray) -> dict[str, torch.Tensor]:
    """Trained for some steps; its norms then see all images."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = models.mobilenet_v3_small(weights=None, num_classes=len(LABELS))
        optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
        wanted, drawn = torch.from_numpy(kinds), torch.Generator().manual_seed(1)
        for _ in range(40):
            chosen = torch.randint(0, len(inputs), (24,), generator=drawn)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs[chosen]), wanted[chosen]).backward()
            optimiser.step()
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.reset_running_stats()
                part.momentum = None
        with torch.no_grad():
            for images in inputs.split(120):
                module(images)
    return dict(module.state_dict())


NETWORKS = {"resnet18": resnet18, "mobilenet_v3_small": mobilenet_v3_small}


@dataclass(frozen=True, slots=True)
class Place:
    """A registry with the networks, and a folder of images that none was fitted to."""

    registry: Path
    photos: Path
    images: list[np.ndarray]
    kinds: np.ndarray

    def said(self, reference: str) -> np.ndarray:
        """The places of the labels that a registered model gives the images."""
        kind = operator_named("classify")
        model = resolve_model(f"models/{reference}", registry=Registry(open_store(parse(str(self.registry)))))
        operator = kind(kind.params_type(), model, "cpu")
        operator.open()
        found = operator.run([view(one) for one in self.images])
        return np.array([LABELS.index(one.fields["label"]) for one in found])


def add(registry: Path, name: str, tensors: dict[str, torch.Tensor], architecture: str) -> None:
    card = ModelCard(architecture=f"torchvision/{architecture}", labels=LABELS, preprocessing=INPUT)
    Registry(open_store(parse(str(registry)))).add(name, encode_model(tensors, card), card.model_dump(mode="json"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    images, kinds = tints(FITTED, seed=1)
    inputs = torch.stack([to_tensor(one, INPUT) for one in images])
    for name, trained in NETWORKS.items():
        add(folder / "registry", name, trained(inputs, kinds), name)
    (folder / "photos").mkdir()
    images, kinds = tints(HELD_OUT, seed=2)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"photos/{number:03}.png")
    return Place(folder / "registry", folder / "photos", images, kinds)


@pytest.mark.parametrize("form", ["int8", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_quantize__of_a_network_that_has_learned_something(
    name: str, form: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    code, made, _ = run(
        capsys, "models", "quantize", f"{name}@1", "--to", form, "--name", f"{name}-{form}", "--gate", "0.97",
        "--images", place.photos, "--registry", place.registry,
    )  # fmt: skip
    assert (code, made.get("error")) == (0, None)
    exact, cheaper = place.said(f"{name}@1"), place.said(f"{name}-{form}")
    assert np.bincount(exact, minlength=len(LABELS)).min() > HELD_OUT // 10
    assert 0.9 <= (exact == place.kinds).mean() < 1.0  # it has learned it, and errs
    assert made["parity"]["agreement"] == pytest.approx((exact == cheaper).mean(), abs=1e-9)
    assert made["card"]["metrics"]["parent_agreement"] >= 0.97
    assert abs((exact == place.kinds).mean() - (cheaper == place.kinds).mean()) <= 0.02


def test_quantize__ranges_of_other_images_ruin_int8_and_it_is_refused(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(32):  # those that the ranges are taken from
        Image.new("RGB", (64, 64), (number, number, number)).save(tmp_path / f"{number:03}.png")
    for file in place.photos.iterdir():
        (tmp_path / f"photo-{file.name}").write_bytes(file.read_bytes())
    refused_is_not_there(capsys, place, "resnet18@1", "int8", tmp_path)


def test_quantize__logits_far_from_zero_lose_their_differences_in_bfloat16_and_it_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load((place.registry / "models/resnet18/1/model.safetensors").read_bytes())
    add(place.registry, "far", {**tensors, "fc.bias": tensors["fc.bias"] + 1000.0}, "resnet18")
    assert np.array_equal(place.said("far@1"), place.said("resnet18@1"))
    refused_is_not_there(capsys, place, "far@1", "bf16", place.photos)


def refused_is_not_there(
    capsys: pytest.CaptureFixture[str], place: Place, reference: str, form: str, images: Path
) -> None:
    code, refused, _ = run(
        capsys, "models", "quantize", reference, "--to", form, "--name", "bad", "--images", images,
        "--registry", place.registry,
    )  # fmt: skip
    assert code == 2
    assert refused["error"].startswith(f"{reference} in {form} agrees with it in 0.")
    assert float(refused["error"].split(" on ")[0].rpartition(" ")[2]) < 0.9
    assert not (place.registry / "models/bad").exists()
