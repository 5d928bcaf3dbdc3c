"""Is what would keep a model from opening said before any work is planned?"""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from tests.jobs import sleepy
from tests.workers.contract import bad_operators
from tests.workers.operators import onnx_files
from tests.workers.operators.classifier_folders import write_classifier, write_pair
from tests.workers.operators.detrs import write_folder
from tests.workers.operators.segformers import write_segformer
from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.errors import ModelError
from winnow_workers.contract.views import noise_views
from winnow_workers.models import patchcore
from winnow_workers.models.build import build_network
from winnow_workers.models.cache import cache_folder
from winnow_workers.models.check import check_file
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.nets import DigitCnn
from winnow_workers.models.onnx_file import open_session
from winnow_workers.models.resolve import resolve_model
from winnow_workers.models.shapes_only import META, is_without_memory
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import Pipeline
from winnow_workers.preflight import check_task, check_tasks


def task(operator: str, model: str, weights: Any = None, **params: Any) -> TaskConfig:
    return TaskConfig("t", operator, resolve_model(model, weights), params)


def classifier(path: Path, labels: tuple[str, ...], outputs: int) -> str:
    network = build_network("builtin/digit_cnn", {}, n_labels=outputs)
    path.write_bytes(encode_model(network.state_dict(), ModelCard(architecture="builtin/digit_cnn", labels=labels)))
    return str(path)


def test_check_task__what_fits_passes(tmp_path: Path) -> None:
    check_task(task("classify", classifier(tmp_path / "a.safetensors", ("a", "b"), 2)))
    check_task(task("classify", classifier(tmp_path / "a.safetensors", ("a", "b"), 2), labels=["x", "y"]))
    check_task(task("segment", "smp/unet/resnet18", {"random": 1}))
    file = onnx_files.write_means(tmp_path / "c.onnx")
    check_task(task("classify", file, labels=["r", "g", "b"], input={"height_px": 8, "width_px": 8}))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("smp/unet/resnet19", "has no encoder 'resnet19'"),
        ("smp/unett/resnet18", "smp has no model named 'unett'"),
    ],
)
def test_check_task__architectures_that_do_not_exist(model: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        check_task(task("segment", model, {"random": 1}))


def test_check_task__weights_and_labels_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"wrong shapes: head\.1\.weight: \(2, 512\) instead of \(3, 512\)"):
        check_task(task("classify", classifier(tmp_path / "a.safetensors", ("a", "b", "c"), 2)))
    with pytest.raises(ModelError, match=r"3 labels for a model with 2 outputs"):
        check_task(task("classify", classifier(tmp_path / "b.safetensors", ("a", "b"), 2), labels=["x", "y", "z"]))
    network = build_network("builtin/digit_cnn", {}, n_labels=2).state_dict()
    network.pop("head.1.bias")
    card = ModelCard(architecture="builtin/digit_cnn", labels=("a", "b"))
    (tmp_path / "c.safetensors").write_bytes(encode_model(network, card))
    with pytest.raises(ModelError, match=r"missing: head\.1\.bias"):
        check_task(task("classify", str(tmp_path / "c.safetensors")))


def test_check_task__onnx_without_labels_or_preprocessing(tmp_path: Path) -> None:
    file = onnx_files.write_means(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="does not say what is done to pixels"):
        check_task(task("classify", file, labels=["r", "g", "b"]))
    with pytest.raises(ModelError, match="do not say what their 3 labels are"):
        check_task(task("classify", file, input={"height_px": 8, "width_px": 8}))
    with pytest.raises(ModelError, match="2 labels for a model with 3 outputs"):
        check_task(task("classify", file, labels=["r", "g"], input={"height_px": 8, "width_px": 8}))


def test_check_task__a_file_that_was_replaced(tmp_path: Path) -> None:
    pinned = task("classify", classifier(tmp_path / "a.safetensors", ("a", "b"), 2))
    (folder := tmp_path / "folder").mkdir()
    write_classifier(folder, "vit", [noise_views()[0].pixels, noise_views()[-1].pixels])
    pinned_folder = task("classify", f"transformers/{folder}")
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    (cache_folder() / (pinned.model.weights.sha256 or "")).unlink()
    shutil.rmtree(cache_folder() / "folders" / pinned_folder.model.digest, ignore_errors=True)  # another test's copy
    classifier(tmp_path / "a.safetensors", ("a", "c"), 2)
    for one, said in ((pinned, r"its sha256 is \w+, expected"), (pinned_folder, r"the digest of its files is")):
        with pytest.raises(ModelError, match=said):
            check_task(one)


def test_check_task__folders_that_do_not_fit(tmp_path: Path) -> None:
    write_classifier(tmp_path / "vit", "vit", [noise_views()[0].pixels, noise_views()[-1].pixels])
    write_folder(tmp_path / "detr", "rt_detr")
    vit, detr = f"transformers/{tmp_path}/vit", f"transformers/{tmp_path}/detr"
    for operator, folder, params, said in (
        ("classify", vit, {"labels": ["a", "b"]}, "2 labels for a model with 4 outputs"),
        ("detect", detr, {"labels": ["a", "b"]}, "2 labels for a model with 3 classes"),
        ("detect", vit, {}, "cannot be opened to detect"),
        ("segment", detr, {}, "cannot be opened to segment"),
    ):
        with pytest.raises(ModelError, match=said):
            check_task(task(operator, folder, **params))
    for folder in (tmp_path / "vit", tmp_path / "detr"):
        tensors = load_file(folder / "model.safetensors")
        (first, second, *_) = sorted(tensors)
        tensors[first] = torch.zeros(1)
        tensors["of.elsewhere"] = tensors.pop(second)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"do not fit .*missing: .*; unexpected: .*of\.elsewhere; wrong shapes: "):
            check_task(task("classify" if folder.name == "vit" else "detect", f"transformers/{folder}"))


def test_check_task__detectors_that_do_not_fit(tmp_path: Path) -> None:
    rcnn = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"
    card = ModelCard(architecture=rcnn, labels=("a", "b"))
    tensors = dict(build_network(rcnn, {}, n_labels=3).state_dict())
    (tmp_path / "a.safetensors").write_bytes(encode_model(tensors, card))
    check_task(task("detect", str(tmp_path / "a.safetensors")))
    del tensors["rpn.head.cls_logits.bias"]
    (tmp_path / "b.safetensors").write_bytes(encode_model(tensors, card))
    yolo = onnx_files.write(tmp_path / "c.onnx", "yolov8")
    for model, params, said in (
        (str(tmp_path / "a.safetensors"), {"labels": ["a"]}, r"wrong shapes: roi_heads\.box_predictor\.cls_score"),
        (str(tmp_path / "b.safetensors"), {}, r"missing: rpn\.head\.cls_logits\.bias"),
        (classifier(tmp_path / "d.safetensors", ("a", "b"), 2), {}, "builtin/digit_cnn is no detector"),
        (yolo, {"labels": ["a", "b", "c"]}, "nothing says what the outputs of this ONNX file mean"),
        (yolo, {"labels": ["a", "b"], "layout": {"kind": "yolov8"}}, "2 labels for a model with 3 classes"),
        ("builtin/fingerprint", {}, "builtin/fingerprint is no detector"),
    ):
        with pytest.raises(ModelError, match=said):
            check_task(task("detect", model, **params))


def test_check_task__segmenters_that_do_not_fit(tmp_path: Path) -> None:
    unet, mask_rcnn = "builtin/small_unet", "torchvision/maskrcnn_resnet50_fpn"
    card = ModelCard(architecture=unet, labels=("nothing", "a"))
    tensors = dict(build_network(unet, {}, n_labels=2).state_dict())
    (tmp_path / "a.safetensors").write_bytes(encode_model(tensors, card))
    lost = sorted(tensors)[0]
    del tensors[lost]
    (tmp_path / "b.safetensors").write_bytes(encode_model(tensors, card))
    write_segformer(tmp_path / "segformer")
    write_folder(tmp_path / "detr", "rf_detr_seg")
    painter = onnx_files.write_painter(tmp_path / "c.onnx")
    for model, weights, params, said in (
        (str(tmp_path / "a.safetensors"), None, {"labels": ["x", "y", "z"]}, "3 labels for a model with 2 "),
        (str(tmp_path / "b.safetensors"), None, {}, f"missing: {lost}"),
        (f"transformers/{tmp_path}/segformer", None, {"labels": ["x", "y"]}, "2 labels for a model with 4 "),
        (f"transformers/{tmp_path}/detr", None, {"labels": ["x", "y"]}, "2 labels for a model with 3 "),
        (
            painter,
            None,
            {"labels": ["x", "y"], "input": {"height_px": 8, "width_px": 8}},
            "2 labels for a model with 3 ",
        ),
        (mask_rcnn, {"random": 1}, {"input": {"height_px": 8, "width_px": 8}}, "has its own input"),
    ):
        with pytest.raises(ModelError, match=said):
            check_task(task("segment", model, weights, **params))


def test_check_task__pairs_and_embedders_that_do_not_fit(tmp_path: Path) -> None:
    write_pair(tmp_path / "clip", "clip")
    clip = f"transformers/{tmp_path}/clip"
    check_task(task("classify", clip, labels=["cat", "dog"]))
    with pytest.raises(ModelError, match="tokens long, the text tower reads 16"):
        check_task(task("classify", clip, labels=["cat", "dog " * 20]))
    tensors = load_file(tmp_path / "clip/model.safetensors")
    lost = next(name for name in sorted(tensors) if name.startswith("vision_model.encoder"))
    del tensors[lost]
    save_file(tensors, tmp_path / "clip/model.safetensors", metadata={"format": "pt"})
    for operator, params in (("classify", {"labels": ["cat", "dog"]}), ("embed", {})):
        with pytest.raises(ModelError, match=f"the weights do not fit .*missing: {lost}"):
            check_task(task(operator, clip, **params))


def test_check_task__an_anomaly_detector_whose_head_is_not_its_backbones(tmp_path: Path) -> None:
    card = ModelCard(architecture="builtin/patch_features", arguments={"width": 4}, extra={"threshold": 1.0})
    wider = card.model_copy(update={"arguments": {"width": 8}})
    backbone = patchcore.build_backbone(card.architecture, card.arguments)
    for width, said in ((24, None), (7, "its bank has 7 features, its backbone gives 24")):
        data = patchcore.encode_detector(backbone, torch.zeros(3, width), card=card, threshold=1.0)
        (tmp_path / "a.safetensors").write_bytes(data)
        with pytest.raises(ModelError, match=said) if said else nullcontext():
            check_task(task("anomaly", str(tmp_path / "a.safetensors")))
        with pytest.raises(ModelError, match=said) if said else nullcontext():
            check_file(data, where="a.safetensors")  # what the registry asks
    with pytest.raises(ModelError, match=r"do not fit a\.safetensors .*wrong shapes: "):
        check_file(
            patchcore.encode_detector(backbone, torch.zeros(3, 24), card=wider, threshold=1.0), where="a.safetensors"
        )


@pytest.mark.parametrize(
    ("operator", "model", "said"),
    [
        ("ocr", "builtin/fingerprint", "is no OCR engine"),
        ("classify", "builtin/fingerprint", "is no network that this operator can run"),
        ("anomaly", "builtin/rapidocr", "is no network that this operator can run"),
    ],
)
def test_check_task__models_of_another_kind(operator: str, model: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        check_task(task(operator, model))


def test_check_task__an_operator_of_ones_own_is_opened(tmp_path: Path) -> None:
    check_task(task(f"{bad_operators.__name__}:Good", "builtin/none"))
    broken = task(f"{bad_operators.__name__}:Unopened", "builtin/none")
    with pytest.raises(ModelError, match=r"task t: .*:Unopened cannot be opened .*KeyError: 'layer4\.weight' \(bad_op"):
        check_task(broken)
    own = f"{sleepy.__name__}:SleepyOperator"
    refusing = task(own, "builtin/fingerprint", opening="refuses", log=str(tmp_path / "log"))
    with pytest.raises(ModelError, match="task t: its weights are of another network") as refused:
        check_task(refusing)
    assert refused.value.hint == "name the model that they are of"
    check_tasks([broken, refusing], own=False)
    assert len((tmp_path / "log").read_text().splitlines()) == 1


@pytest.mark.parametrize("name", ["NoVectors", "AnyLength"])
def test_check_task__what_people_answer_as_an_embedding_makes_vectors(name: str, tmp_path: Path) -> None:
    own = task(f"{bad_operators.__name__}:{name}", "builtin/none")
    with pytest.raises(ModelError, match=f"task t: {name} is reviewed_as embed, and has no field vector"):
        check_task(own)
    check_task(replace(own, operator=f"{bad_operators.__name__}:OneLength"))
    work = make_work(tmp_path, [save_image(tmp_path / "a.png", seed=1)])
    pipeline = Pipeline(replace(pipeline_over(work).config, tasks=(own,)))
    with pytest.raises(ModelError, match=f"{name} is reviewed_as embed, and has no field vector"):
        pipeline.open()  # with run: {device: cuda} nothing was opened before


def test_check_task__weights_take_no_memory_and_precision_is_the_devices_question() -> None:
    for precision in ("auto", "bf16"):
        check_task(task("classify", "torchvision/vgg16", {"random": 1}, precision=precision))
    network = build_network("torchvision/vgg16", {}, n_labels=None, device=META)
    assert is_without_memory(network)


def test_shapes_unknown__what_needs_its_numbers_is_opened_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DigitCnn.forward

    def asks_for_numbers(self: DigitCnn, images: torch.Tensor) -> torch.Tensor:
        return whole(self, images if images.sum().item() > 0 else -images)

    monkeypatch.setattr(DigitCnn, "forward", asks_for_numbers)
    file = classifier(tmp_path / "a.safetensors", ("a", "b"), 2)
    check_task(task("classify", file, precision="bf16"))  # which is the device's question
    with pytest.raises(ModelError, match="3 labels for a model with 2 outputs"):
        check_task(task("classify", file, labels=["x", "y", "z"]))


def test_shapes_unknown__a_network_that_draws_its_weights_by_numbers(tmp_path: Path) -> None:
    regnet = "torchvision/regnet_y_400mf"
    tensors = dict(build_network(regnet, {}, n_labels=2).state_dict())
    card = ModelCard(architecture=regnet, labels=("a", "b"))
    (tmp_path / "a.safetensors").write_bytes(encode_model(tensors, card))
    check_task(task("classify", str(tmp_path / "a.safetensors")))
    del tensors["fc.bias"]
    (tmp_path / "b.safetensors").write_bytes(encode_model(tensors, card))
    with pytest.raises(ModelError, match=r"missing: fc\.bias"):
        check_task(task("classify", str(tmp_path / "b.safetensors")))


@pytest.mark.parametrize("labels", [("background", "a", "b"), ("a", "b")])
def test_check_file__a_detectors_card_may_leave_the_background_out(labels: tuple[str, ...]) -> None:
    architecture = "torchvision/ssdlite320_mobilenet_v3_large"
    network = build_network(architecture, {}, n_labels=3)
    data = encode_model(network.state_dict(), ModelCard(architecture=architecture, labels=labels))
    assert check_file(data, where="here") is not None
    data = encode_model(network.state_dict(), ModelCard(architecture=architecture, labels=(*labels, "c", "d")))
    with pytest.raises(ModelError, match="wrong shapes"):
        check_file(data, where="here")


def test_onnx__weights_in_other_files_are_refused(tmp_path: Path) -> None:
    loaded = onnx.load(onnx_files.write_means(tmp_path / "c.onnx"))
    loaded.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "outside"))
    onnx.save(loaded, tmp_path / "d.onnx", save_as_external_data=True, size_threshold=0, location="d.bin")
    said = "keeps weights in other files"
    with pytest.raises(ModelError, match=said):
        check_task(task("classify", str(tmp_path / "d.onnx"), labels=["r", "g", "b"]))


def test_onnx__a_gpu_that_onnxruntime_cannot_use_is_said(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has CUDA here")
    with pytest.raises(ModelError, match="cannot use the GPU"):
        open_session(resolve_model(onnx_files.write_means(tmp_path / "c.onnx")), device="cuda", threads=1)
