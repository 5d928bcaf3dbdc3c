"""Does the classifier say what its network computes, and how sure it is?"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.workers.operators.making import flat, opened, view, write_model
from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_value
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import Calibrator, ModelCard, Preprocessing

INPUT = Preprocessing(height_px=8, width_px=8, channels=1, mean=(0.0,), std=(1.0,))
CALIBRATOR = Calibrator(kind="temperature", temperature=2.0, fitted_on=100)


def brightness_model(
    path: Path, *, labels: tuple[str, ...] = ("dark", "mid", "light"), calibrator: Calibrator | None = None
) -> str:
    """A digit_cnn whose logits are (1, 0, 4 * brightness - 1), brightness in [0, 1], made by hand."""
    net = build_network("builtin/digit_cnn", {"width": 4}, n_labels=3)
    tensors = {name: torch.zeros_like(one) for name, one in net.state_dict().items()}
    for name, one in net.state_dict().items():
        if name.endswith("running_var") or (name.endswith(".1.weight") and one.ndim == 1):
            tensors[name] = torch.ones_like(one)
        if one.ndim == 4:
            tensors[name][0, 0, 1, 1] = math.sqrt(1 + 1e-5)  # the first channel goes through; undoes BatchNorm's eps
    tensors["head.1.weight"][2, 0] = 4.0
    tensors["head.1.bias"] = torch.tensor([1.0, 0.0, -1.0])
    card = ModelCard(
        architecture="builtin/digit_cnn",
        arguments={"width": 4},
        labels=labels,
        preprocessing=INPUT,
        calibrator=calibrator,
    )
    return write_model(path / "brightness.safetensors", tensors, card)


def test_classify__label_scores_margin_and_entropy(tmp_path: Path) -> None:
    operator = opened("classify", brightness_model(tmp_path), top_k=2)
    dark, light = operator.run([view(flat((0, 0, 0))), view(flat((255, 255, 255)))])
    expected = np.exp([1.0, 0.0, 3.0]) / np.exp([1.0, 0.0, 3.0]).sum()
    assert (dark.fields["label"], light.fields["label"]) == ("dark", "light")
    assert light.score == pytest.approx(expected[2], abs=1e-4)
    assert light.score_kind == "softmax"
    assert light.fields["margin"] == pytest.approx(expected[2] - expected[0], abs=1e-4)
    assert light.fields["entropy"] == pytest.approx(-(expected * np.log(expected)).sum(), abs=1e-4)
    top = light.fields["top"]
    assert [entry["label"] for entry in top] == ["light", "dark"]
    assert [entry["score"] for entry in top] == pytest.approx([expected[2], expected[0]], abs=1e-4)


def test_classify__no_calibrator_no_probability(tmp_path: Path) -> None:
    (prediction,) = opened("classify", brightness_model(tmp_path)).run([view(flat((0, 0, 0)))])
    assert (prediction.p_ok, prediction.calibrator) == (None, None)


def test_classify__temperature_scales_p_ok_only(tmp_path: Path) -> None:
    operator = opened("classify", brightness_model(tmp_path, calibrator=CALIBRATOR))
    (prediction,) = operator.run([view(flat((255, 255, 255)))])
    assert prediction.score == pytest.approx(math.exp(3) / (math.exp(3) + math.e + 1), abs=1e-4)
    scaled = np.exp([0.5, 0.0, 1.5])
    assert prediction.p_ok == pytest.approx(scaled[2] / scaled.sum(), abs=1e-4)
    assert prediction.calibrator == "temperature:" + digest_value(CALIBRATOR.model_dump(mode="json"))[:12]


def test_classify__labels_of_the_task_replace_the_cards(tmp_path: Path) -> None:
    operator = opened("classify", brightness_model(tmp_path), labels=["night", "dusk", "day"])
    assert operator.run([view(flat((255, 255, 255)))])[0].fields["label"] == "day"


def test_classify__labels_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="2 labels for a model with 3 outputs"):
        opened("classify", brightness_model(tmp_path), labels=["a", "b"])


def test_classify__labels_are_needed(tmp_path: Path) -> None:
    tensors = build_network("timm/test_resnet", {}, n_labels=None).state_dict()
    path = write_model(tmp_path / "plain.safetensors", tensors, ModelCard(architecture="timm/test_resnet"))
    with pytest.raises(ModelError, match="do not say what their 1000 labels are"):
        opened("classify", path)


def test_classify__a_segmenter_is_no_classifier() -> None:
    with pytest.raises(ModelError, match="a classifier gives logits"):
        opened("classify", "builtin/small_unet", weights={"random": 1})
