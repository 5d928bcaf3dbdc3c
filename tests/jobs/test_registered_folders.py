"""Transformers folders in the registry: versions and stages like any model's, opened as the folder itself is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.jobs.test_models_command import run
from tests.workers.operators import sharp
from tests.workers.operators.classifier_folders import say_problem, write_classifier, write_pair
from tests.workers.operators.detrs import LABELS, write_folder
from tests.workers.operators.segformers import write_segformer
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.contract.bench import open_operator
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import Prediction, TaskConfig

CARD = "licence: Apache-2.0\nmetrics: {map: 0.41, measured_on: held-out of May}\n"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny RT-DETR with drawn weights that finds things."""
    write_folder(tmp_path / "detr", "rt_detr")
    return tmp_path / "detr"


def found(model: str, registry: Registry | None = None) -> list[Prediction]:
    operator = open_operator(TaskConfig("things", "detect", resolve_model(model, registry=registry)), "cpu")
    return operator.run(sharp.pictures()[:2])


def test_add__a_folder_is_a_version_with_stages_and_finds_what_the_folder_does(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    registry = ("--registry", tmp_path / "registry")
    (tmp_path / "card.yaml").write_text(CARD)
    add = ("models", "add", "things", folder, *registry)
    code, first, _ = run(capsys, *add, "--stage", "prod")
    assert (code, first["version"], first["stages"]) == (0, "1", ["prod"])
    card = first["card"]
    assert (card["architecture"], card["kind"]) == ("transformers/rt_detr", "detect")
    assert card["labels"] == [*LABELS.values()]
    assert run(capsys, *add)[1]["version"] == "1"
    code, second, _ = run(capsys, *add, "--card", tmp_path / "card.yaml", "--stage", "prod")
    assert (code, second["version"], second["card"]["metrics"]["map"]) == (0, "2", 0.41)
    assert second["sha256"] != first["sha256"]
    here = Registry(open_store(parse(str(tmp_path / "registry"))))
    assert found("models/things@prod", here) == found(f"transformers/{folder}")
    assert resolve_model("models/things@prod", registry=here).digest == second["sha256"]
    _, back, _ = run(capsys, "models", "rollback", "things", "prod", *registry)
    assert (back["version"], back["left"]) == ("1", "2")
    assert resolve_model("models/things@prod", registry=here).digest == first["sha256"]
    code, checked, _ = run(capsys, "models", "verify", *registry)
    assert (code, checked["versions"], checked["sound"]) == (0, 2, True)
    # what stands in the registry is a folder that can be added again, and is the same
    again = Path(second["uri"].removeprefix("file://"))
    assert run(capsys, "models", "add", "things", again, *registry)[1]["version"] == "2"


def test_plan__pins_a_folder_of_the_registry_and_says_that_labels_do_not_fit(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    _, added, _ = run(capsys, "models", "add", "things", folder, "--stage", "prod", "--registry", tmp_path / "registry")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"a")
    spec = tmp_path / "job.yaml"
    spec.write_text(
        "name: j\ncorpus: photos\noutput: out\nregistry: registry\n"
        "tasks: [{name: things, operator: detect, model: models/things@prod}]\n"
    )
    code, record, _ = run(capsys, "plan", spec)
    assert (code, record["tasks"][0]["digest"], record["due_items"]) == (0, added["sha256"], 1)
    spec.write_text(spec.read_text().replace("things@prod", "things@prod, labels: [one]"))
    code, said, _ = run(capsys, "plan", spec)
    assert (code, said["error"]) == (2, "task things: models/things@prod: 1 labels for a model with 3 classes")


def test_add__a_pair_is_checked_as_one_that_embeds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_pair(tmp_path / "clip", "clip")
    (tmp_path / "card.yaml").write_text("kind: classify\n")
    add = ("models", "add", "words", tmp_path / "clip", "--card", tmp_path / "card.yaml", "--registry", tmp_path / "r")
    code, added, _ = run(capsys, *add)
    assert (code, added["card"]["kind"]) == (0, "classify")


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("labels: [a, b, c]\n", "labels is ('a', 'b', 'c'), the folder says ('cat', 'dog', 'cow')"),
        ("architecture: torchvision/ssd300_vgg16\n", "architecture is 'torchvision/ssd300_vgg16', the folder says"),
        ("calibrator: {kind: temperature, temperature: 2, fitted_on: 9}\n", "says calibrator, which nobody heeds"),
        ("kind: ocr\n", "no transformers folder is a model of the kind 'ocr'"),
        ("kind: classify\n", "cannot be opened to classify"),
        ("licnce: MIT\n", "licnce: Extra inputs are not permitted"),
        ("parent: things@7\n", "has no model 'things'"),
        ("- a\n", "is no mapping of keys"),
    ],
)
def test_add__a_card_that_does_not_fit_the_folder(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, card: str, said: str
) -> None:
    (tmp_path / "card.yaml").write_text(card)
    add = ("models", "add", "things", folder, "--card", tmp_path / "card.yaml", "--registry", tmp_path / "registry")
    code, refused, _ = run(capsys, *add)
    assert code == 2
    assert said in refused["error"]
    assert refused["hint"]
    assert not (tmp_path / "registry/models").exists()


def damage_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in sorted(tensors) if "class_embed" in name))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_add__what_cannot_be_opened_is_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    add = ("models", "add", "things", folder, "--registry", tmp_path / "registry")
    code, refused, _ = run(capsys, *add, "--sha256", "0" * 64)
    assert (code, "is a folder, which has none" in refused["error"]) == (2, True)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    code, refused, _ = run(capsys, *add)
    assert (code, "pickles and code are never read" in refused["error"]) == (2, True)
    (folder / "pytorch_model.bin").unlink()
    damage_weights(folder)
    code, refused, _ = run(capsys, *add)
    assert (code, "missing: " in refused["error"]) == (2, True)
    assert not (tmp_path / "registry/models").exists()


def test_verify__says_what_is_wrong_with_a_folder(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    registry = ("--registry", tmp_path / "registry")
    _, added, _ = run(capsys, "models", "add", "things", folder, *registry)
    place, card = Path(added["uri"].removeprefix("file://")), tmp_path / "registry/models/things/1/card.json"
    document: dict[str, Any] = json.loads(card.read_text())
    card.write_text(json.dumps(document | {"card": document["card"] | {"licence": "MIT"}}))
    assert findings(capsys, registry) == "card.json says other things than the folder's own card: licence"
    card.write_text(json.dumps(document))
    good = (place / "config.json").read_bytes()
    (place / "config.json").write_bytes(good + b"\n")
    assert findings(capsys, registry).endswith(f"{added['sha256']} was registered")
    (place / "config.json").unlink()
    assert findings(capsys, registry).endswith("lacks config.json")
    (place / "config.json").write_bytes(good)
    assert run(capsys, "models", "verify", *registry)[0] == 0


def findings(capsys: pytest.CaptureFixture[str], registry: tuple[str, Path]) -> str:
    code, checked, _ = run(capsys, "models", "verify", *registry)
    assert code == 1
    (one,) = checked["findings"]
    assert one["place"] == "things@1"
    assert one["hint"]
    return str(one["what"])


def write_any(folder: Path, kind: str) -> None:
    if kind == "segment":
        write_segformer(folder)
    else:
        write_classifier(folder, "vit", [one.pixels for one in sharp.pictures()[:2]])


def predicted(kind: str, model: str, registry: Registry) -> list[Prediction]:
    params = {"dtype": "float32"} if kind == "embed" else {}
    operator = open_operator(TaskConfig("one", kind, resolve_model(model, registry=registry), params), "cpu")
    return operator.run(sharp.pictures())


@pytest.mark.parametrize("kind", ["classify", pytest.param("segment", marks=pytest.mark.long), "embed"])
def test_export__a_folder_answers_alike_as_an_onnx_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    registry = ("--registry", tmp_path / "registry")
    write_any(tmp_path / "folder", kind)
    run(capsys, "models", "add", "folder", tmp_path / "folder", *registry)
    export = ("models", "export", "folder@1", "--kind", kind, "--onnx", tmp_path / "made.onnx", *registry)
    code, made, _ = run(capsys, *export)
    assert (code, made.get("kind"), made.get("parent")) == (0, kind, "folder@1"), made
    assert made["parity"]["agreement"] >= 0.995
    run(capsys, "models", "add", "file", tmp_path / "made.onnx", *registry)
    here = Registry(open_store(parse(str(tmp_path / "registry"))))
    ours, theirs = (predicted(kind, f"models/{name}", here) for name in ("folder", "file"))
    for one, other in zip(ours, theirs, strict=True):
        if kind == "embed":
            assert np.allclose(np.asarray(one.fields["vector"]), np.asarray(other.fields["vector"]), atol=1e-4)
        else:
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert one.fields.get("label") == other.fields.get("label")


def test_quantize__a_folder_becomes_an_int8_file_and_keeps_bfloat16_for_the_task(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    registry = ("--registry", tmp_path / "registry")
    write_any(tmp_path / "folder", "classify")
    run(capsys, "models", "add", "kind", tmp_path / "folder", *registry)
    code, made, _ = run(capsys, "models", "quantize", "kind@1", "--to", "int8", "--gate", "0.5", *registry)
    assert (code, made.get("version"), made.get("parent")) == (0, "2", "kind@1"), made
    assert (made["uri"].endswith("model.onnx"), made["card"]["variant"]) == (True, "int8")
    code, refused, _ = run(capsys, "models", "quantize", "kind@1", "--to", "bf16", *registry)
    assert (code, "is a transformers folder, which has no bfloat16 form" in refused["error"]) == (2, True)
    assert "precision: bf16 in the task" in refused["hint"]


def test_other_forms__what_an_onnx_file_cannot_say_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    registry = ("--registry", tmp_path / "registry")
    pixels = [one.pixels for one in sharp.pictures()[:2]]
    write_classifier(tmp_path / "cut", "mobilevit", pixels)
    write_classifier(tmp_path / "several", "vit", pixels)
    say_problem(tmp_path / "several", "multi_label_classification")
    write_folder(tmp_path / "masks", "rf_detr_seg")
    for name, place, said in (
        ("masks", tmp_path / "masks", "is a model of the kind instances"),
        ("cut", tmp_path / "cut", "its own image processor makes its input"),
        ("several", tmp_path / "several", "several labels may hold"),
    ):
        run(capsys, "models", "add", name, place, *registry)
        code, refused, _ = run(capsys, "models", "export", f"{name}@1", "--onnx", tmp_path / "a.onnx", *registry)
        assert (code, said in refused["error"]) == (2, True), refused
        assert refused["hint"]
