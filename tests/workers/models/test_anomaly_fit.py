"""Does a detector that is fitted here find a spot in a run, over every kind of backbone, and mean its p-values?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from tests.workers.operators.making import opened, view
from winnow_storage.errors import ModelError
from winnow_workers.models import patchcore
from winnow_workers.models.anomaly_fit import AnomalyFit, FittedDetector, fit_detector
from winnow_workers.models.anomaly_head import HELD_OUT
from winnow_workers.models.conformal import p_value
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import Prediction

BUILTIN = ("builtin/patch_features", {"random": 3})
SMALL = {"side_px": 64, "bank": 300, "false_alarms": 0.1}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def texture(seed: int, side: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(120, 8, (96, 128, 3)).clip(0, 255).astype(np.uint8)


def spotted(seed: int) -> np.ndarray:
    pixels = texture(seed)
    pixels[24:48, 80:104] = (250, 20, 20)
    return pixels


def fitted(tmp_path: Path, model: str, weights: Any, *, images: int = 30, **fit: Any) -> tuple[FittedDetector, str]:
    detector = fit_detector(resolve_model(model, weights), images, texture, AnomalyFit(**SMALL | fit))
    path = tmp_path / "detector.safetensors"
    path.write_bytes(detector.data)
    return detector, str(path)


def verdicts(path: str) -> list[Prediction]:
    return opened("anomaly", path).run([view(texture(1000)), view(spotted(1001))])


@pytest.mark.parametrize("method", ["patchcore", "padim"])
@pytest.mark.parametrize(
    ("model", "weights", "layers"),
    [
        (*BUILTIN, ()),
        ("timm/test_resnet", {"random": 1}, ("1", "2")),
        ("timm/test_vit", {"random": 1}, ("1",)),
        ("torchvision/resnet18", {"random": 1}, ("layer1", "layer2")),
    ],
)
def test_fit__a_spot_is_found(tmp_path: Path, method: str, model: str, weights: Any, layers: tuple[str, ...]) -> None:
    side = 160 if "vit" in model else 64
    detector, path = fitted(tmp_path, model, weights, method=method, layers=layers, side_px=side, features=12)
    normal, defect = verdicts(path)
    assert defect.score > normal.score
    assert defect.fields["is_anomalous"] is True
    assert defect.fields["p_value"] == 1 / (len(detector.held_out) + 1)
    left, top, right, bottom = defect.fields["regions"][0]["box"]
    assert left < 104 and right > 80 and top < 48 and bottom > 24  # noqa: PT018


def test_fit__a_transformers_folder(tmp_path: Path) -> None:
    from winnow_workers.models.transformers_model import quiet_import

    with quiet_import():
        from transformers import Dinov2Config, Dinov2Model
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=7)
    Dinov2Model(config).save_pretrained(tmp_path / "dino")
    detector, path = fitted(tmp_path, f"transformers/{tmp_path / 'dino'}", None, side_px=56, layers=("-2",))
    assert detector.card.architecture == "transformers/dinov2"
    normal, defect = verdicts(path)
    assert (defect.fields["heat_map"]["height"], defect.fields["heat_map"]["width"]) == (8, 8)
    assert defect.score > normal.score


def test_fit__a_whole_classifiers_weights_become_the_backbone(tmp_path: Path) -> None:
    from winnow_workers.models import libraries

    whole = libraries.timm().create_model("test_resnet", pretrained=False, num_classes=7)
    file = tmp_path / "whole.safetensors"
    file.write_bytes(encode_model(whole.state_dict(), ModelCard(architecture="timm/test_resnet")))
    detector, _ = fitted(tmp_path, "timm/test_resnet", {"uri": str(file)}, layers=("1", "2"))
    kept = load(detector.data)
    name = "backbone.levels.conv1.0.weight"
    assert torch.equal(kept[name], whole.state_dict()["conv1.0.weight"])
    assert not any("fc" in one for one in kept)


@pytest.mark.parametrize("method", ["patchcore", "padim"])
def test_fit__held_out_images_have_in_a_run_the_distance_they_had(tmp_path: Path, method: str) -> None:
    detector, path = fitted(tmp_path, *BUILTIN, method=method, features=12)
    order = np.random.default_rng(0).permutation(30)[: len(detector.held_out)]
    said = opened("anomaly", path).run([view(texture(int(number))) for number in order])
    threshold = detector.card.extra["threshold"]
    assert np.sort([one.score * threshold for one in said]) == pytest.approx(detector.held_out, rel=1e-6)
    for one in said:  # each is at least as far as itself
        assert one.fields["p_value"] == pytest.approx(p_value(one.score * threshold * (1 - 1e-9), detector.held_out))


def test_fit__p_values_of_new_normal_images_are_as_rare_as_they_say(tmp_path: Path) -> None:
    _, path = fitted(tmp_path, *BUILTIN, images=150, held_out=0.66, side_px=32)
    operator = opened("anomaly", path)
    said = [one.fields["p_value"] for one in operator.run([view(texture(5000 + seed)) for seed in range(150)])]
    for rate in (0.1, 0.3, 0.5):  # both samples vary: four standard deviations of 99 and 150
        spread = 4 * (rate * (1 - rate) * (1 / 99 + 1 / 150)) ** 0.5
        assert np.mean([p <= rate for p in said]) == pytest.approx(rate, abs=spread)
    assert np.mean(said) == pytest.approx(0.5, abs=4 * (1 / 12 * (1 / 99 + 1 / 150)) ** 0.5)


def test_fit__the_same_file_for_the_same_seed(tmp_path: Path) -> None:
    assert fitted(tmp_path, *BUILTIN)[0].data == fitted(tmp_path, *BUILTIN)[0].data
    assert fitted(tmp_path, *BUILTIN, seed=1)[0].data != fitted(tmp_path, *BUILTIN)[0].data


def test_fit__scores_are_not_clamped(tmp_path: Path) -> None:
    _, path = fitted(tmp_path, *BUILTIN)
    (far,) = opened("anomaly", path).run([view(np.full((96, 128, 3), (255, 0, 255), np.uint8))])
    assert far.score > 1.5
    assert far.fields["heat_map"]["scale"] * 255 >= far.score


def test_fit__the_card_says_what_was_promised(tmp_path: Path) -> None:
    detector, _ = fitted(tmp_path, *BUILTIN, false_alarms=0.01)
    assert detector.card.extra["held_out"] == 9
    assert detector.card.extra["false_alarms"] == 0.1  # nine cannot promise less
    assert detector.card.extra["threshold"] == detector.held_out[-1]
    assert load(detector.data)[HELD_OUT].dtype == torch.float64


def test_fit__too_few_images(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="9 normal images are too few"):
        fitted(tmp_path, *BUILTIN, images=9)


def test_fit__images_that_are_all_the_same() -> None:
    with pytest.raises(ModelError, match="nothing can be told apart"):
        fit_detector(resolve_model(*BUILTIN), 12, lambda number, side: texture(1), AnomalyFit(**SMALL))


def test_open__a_file_of_another_method(tmp_path: Path) -> None:
    detector, _ = fitted(tmp_path, *BUILTIN)
    tensors = load(detector.data)
    for extra, message in (({"method": "magic"}, "the method 'magic'"), ({"method": "padim"}, r"lacks padim\.mean")):
        card = detector.card.model_copy(update={"extra": {**detector.card.extra, **extra}})
        path = tmp_path / "other.safetensors"
        path.write_bytes(encode_model(tensors, card))
        with pytest.raises(ModelError, match=message):
            opened("anomaly", str(path))


def test_patchcore__against_scikit_learn() -> None:
    from sklearn.neighbors import NearestNeighbors

    generator = torch.Generator().manual_seed(0)
    bank, features = torch.randn(500, 40, generator=generator), torch.randn(40, 9, 7, generator=generator)
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank.double().numpy())
    theirs, _ = nearest.kneighbors(patchcore.patch_vectors(features[None]).double().numpy())
    assert patchcore.distance_map(features, bank).numpy() == pytest.approx(theirs.reshape(9, 7), rel=1e-5)
