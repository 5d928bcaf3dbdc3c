"""Do `winnow models export` and `winnow models quantize` make models that answer alike, and refuse the others?"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.jobs.test_models_command import run
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.catalogue import operator_named
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import Calibrator, ModelCard, Preprocessing, encode_model
from winnow_workers.models.resolve import resolve_model
from winnow_workers.models.sample_images import sample_images
from winnow_workers.operator import Prediction, View

CASES = {
    "classify": ("builtin/digit_cnn", ("a", "b", "c", "d"), (32, 1)),
    "embed": ("builtin/small_embedder", (), (64, 3)),
    "segment": ("builtin/small_unet", ("nothing", "a", "b"), (48, 3)),
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model of each kind; version 1 of its kind's name."""
    place = tmp_path_factory.mktemp("registry")
    models = Registry(open_store(parse(str(place))))
    for kind, (architecture, labels, (side, channels)) in CASES.items():
        card = ModelCard(
            architecture=architecture,
            labels=labels,
            licence="CC0-1.0",
            preprocessing=Preprocessing(
                height_px=side, width_px=side, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels
            ),
            calibrator=Calibrator(kind="temperature", temperature=1.7, fitted_on=400),
            metrics={"accuracy": 0.934},
        )
        network = build_network(architecture, {}, n_labels=len(labels) or None, seed=3)
        models.add(kind, encode_model(network.state_dict(), card), card.model_dump(mode="json"))
    return place


def predictions(registry: Path, kind: str, reference: str) -> list[Prediction]:
    operator_type = operator_named(kind)
    params = {"dtype": "float32"} if kind == "embed" else {}
    model = resolve_model(reference, registry=Registry(open_store(parse(str(registry)))))
    operator = operator_type(operator_type.params_type.model_validate(params), model, "cpu")
    operator.open()
    return operator.run([View(pixels, 256, 256) for pixels in sample_images(5)])


@pytest.mark.parametrize("kind", list(CASES))
def test_export__answers_alike_as_a_registered_model(
    capsys: pytest.CaptureFixture[str], registry: Path, tmp_path: Path, kind: str
) -> None:
    place = ("--registry", registry)
    file = tmp_path / "made.onnx"
    code, made, _ = run(capsys, "models", "export", f"{kind}@1", "--onnx", file, *place)
    assert (code, made["kind"], made["parent"]) == (0, kind, f"{kind}@1")
    assert made["parity"]["max_abs_difference"] < 1e-3
    assert made["parity"]["agreement"] >= 0.995
    code, refused, _ = run(capsys, "models", "export", f"{kind}@1", "--onnx", file, *place)
    assert (code, "is there already" in refused["error"]) == (2, True)
    code, added, _ = run(capsys, "models", "add", f"{kind}-onnx", file, *place)
    assert code == 0
    assert added["uri"].endswith("/model.onnx")
    assert added["card"]["metrics"]["parity_agreement"] == made["parity"]["agreement"]
    assert added["card"]["licence"] == "CC0-1.0"
    ours, theirs = (predictions(registry, kind, f"models/{one}") for one in (f"{kind}@1", f"{kind}-onnx"))
    for one, other in zip(ours, theirs, strict=True):
        if kind == "embed":
            assert np.allclose(np.asarray(one.fields["vector"]), np.asarray(other.fields["vector"]), atol=1e-4)
        elif kind == "classify":
            assert one.fields["label"] == other.fields["label"]
            assert one.score == pytest.approx(other.score, abs=1e-4)
        else:
            assert one.score == pytest.approx(other.score, abs=1e-3)


def test_export__a_file_that_answers_otherwise_is_not_written(
    capsys: pytest.CaptureFixture[str], registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from winnow_workers.models import onnx_export

    whole = onnx_export._exported

    def damaged(*arguments: Any, **named: Any) -> bytes:
        loaded = onnx.load_model_from_string(whole(*arguments, **named))
        for tensor in loaded.graph.initializer:
            if len(tensor.dims) == 2:
                values = onnx.numpy_helper.to_array(tensor) * np.float32(-1)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return bytes(loaded.SerializeToString())

    monkeypatch.setattr(onnx_export, "_exported", damaged)
    file = tmp_path / "made.onnx"
    code, refused, _ = run(capsys, "models", "export", "classify@1", "--onnx", file, "--registry", registry)
    assert code == 2
    assert "answers otherwise than torch on 64 images" in refused["error"]
    assert not file.exists()


def test_quantize__makes_a_version_with_its_parent_and_its_agreement(
    capsys: pytest.CaptureFixture[str], registry: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, pixels in enumerate(sample_images(6)):
        Image.fromarray(pixels).save(photos / f"{number}.png")
    parent = registry / "models/classify/1/model.safetensors"
    for form, suffix, most in (("int8", "model.onnx", 0.6), ("bf16", "model.safetensors", 0.6)):
        command = ("models", "quantize", "classify@1", "--to", form, "--gate", "0.5", "--name", f"classify-{form}")
        code, made, _ = run(capsys, *command, "--images", photos, "--registry", registry)
        assert (code, made["parent"], made["card"]["variant"]) == (0, "classify@1", form)
        assert made["uri"].endswith(suffix)
        assert made["card"]["metrics"]["parent_images"] == 6
        assert "accuracy" not in made["card"]["metrics"]  # it was measured of the parent
        assert made["card"]["calibrator"] is None  # it was fitted on the parent's logits
        assert made["card"]["metrics"]["parent_agreement"] == made["parity"]["agreement"] >= 0.5
        assert made["bytes"] < most * parent.stat().st_size
        labels = {one.fields["label"] for one in predictions(registry, "classify", f"models/classify-{form}")}
        assert labels <= {"a", "b", "c", "d"}
    code, refused, _ = run(
        capsys, "models", "quantize", "classify-bf16", "--to", "int8", "--registry", registry, "--gate", "0"
    )
    assert (code, "is a variant in bf16 already" in refused["error"]) == (2, True)


def test_quantize__below_the_gate_nothing_is_registered(
    capsys: pytest.CaptureFixture[str], registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow_workers.models.variants.overall", lambda each, compares: 0.9)
    command = ("models", "quantize", "embed@1", "--to", "bf16", "--name", "refused", "--registry", registry)
    code, refused, _ = run(capsys, *command)
    assert (code, "agrees with it in 0.9000 on 64 images; 0.99 is needed" in refused["error"]) == (2, True)
    assert not (registry / "models/refused").exists()


@pytest.mark.parametrize(
    ("command", "kind", "instead"),
    [
        ("quantize", "detect", "torchvision detectors and DETRs are exported"),
        ("export", "instances", "run it from its safetensors: no ONNX layout"),
        ("quantize", "instances", "run it from its safetensors: no ONNX layout"),
        ("export", "anomaly", "run it from its safetensors; fit another one"),
        ("quantize", "anomaly", "run it from its safetensors; fit another one"),
        ("quantize", "layout", "torchvision detectors and DETRs are exported"),
    ],
)
def test_made__other_kinds_are_refused_before_they_are_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str, command: str, instead: str
) -> None:
    cards = {
        "detect": ModelCard(architecture="torchvision/ssdlite320_mobilenet_v3_large"),
        "instances": ModelCard(architecture="torchvision/maskrcnn_resnet50_fpn"),
        "anomaly": ModelCard(architecture="builtin/patch_features", extra={"threshold": 1.0}),
        "layout": ModelCard(architecture="onnx/file", extra={"layout": {"kind": "yolov8"}}),
    }
    models = Registry(open_store(parse(str(tmp_path))))
    models.add("found", encode_model({"w": torch.zeros(1)}, cards[kind]), cards[kind].model_dump(mode="json"))
    wanted = ("--onnx", tmp_path / "made.onnx") if command == "export" else ("--to", "bf16")
    code, refused, _ = run(capsys, "models", command, "found@1", *wanted, "--registry", tmp_path)
    said = f"found@1 is a model of the kind {'detect' if kind == 'layout' else kind} ("
    assert (code, refused["error"].startswith(said)) == (2, True), refused
    assert instead in refused["hint"]
    assert not (tmp_path / "made.onnx").exists()


def test_made__what_is_in_no_registry_is_said_to_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ("models", "export", "transformers/detr", "--onnx", tmp_path / "made.onnx", "--registry", tmp_path)
    code, refused, _ = run(capsys, *command)
    assert (code, "transformers/detr is in no registry" in refused["error"]) == (2, True)
    assert refused["hint"].endswith("or add NAME FOLDER")
