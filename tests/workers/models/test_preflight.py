"""Is what would keep a model from opening said before any work is planned?"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from winnow_storage.errors import ModelError
from winnow_workers.models.build import build_network
from winnow_workers.models.check import check_file
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.onnx_file import open_session
from winnow_workers.models.preflight import check_task
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig


def task(operator: str, model: str, weights: Any = None, **params: Any) -> TaskConfig:
    return TaskConfig("t", operator, resolve_model(model, weights), params)


def classifier(path: Path, labels: tuple[str, ...], outputs: int) -> str:
    network = build_network("builtin/digit_cnn", {}, n_labels=outputs)
    path.write_bytes(encode_model(network.state_dict(), ModelCard(architecture="builtin/digit_cnn", labels=labels)))
    return str(path)


def onnx_classifier(path: Path) -> str:
    """The mean of each channel, as three logits; without a card."""
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])],
        "means",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_check_task__what_fits_passes(tmp_path: Path) -> None:
    check_task(task("classify", classifier(tmp_path / "a.safetensors", ("a", "b"), 2)))
    check_task(task("classify", classifier(tmp_path / "a.safetensors", ("a", "b"), 2), labels=["x", "y"]))
    check_task(task("segment", "smp/unet/resnet18", {"random": 1}))
    check_task(task("embed", "builtin/fingerprint"))
    file = onnx_classifier(tmp_path / "c.onnx")
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
    with pytest.raises(ModelError, match=r"3 labels for .*, whose card has 2"):
        check_task(task("classify", classifier(tmp_path / "b.safetensors", ("a", "b"), 2), labels=["x", "y", "z"]))
    network = build_network("builtin/digit_cnn", {}, n_labels=2).state_dict()
    network.pop("head.1.bias")
    card = ModelCard(architecture="builtin/digit_cnn", labels=("a", "b"))
    (tmp_path / "c.safetensors").write_bytes(encode_model(network, card))
    with pytest.raises(ModelError, match=r"missing: head\.1\.bias"):
        check_task(task("classify", str(tmp_path / "c.safetensors")))


def test_check_task__onnx_without_labels_or_preprocessing(tmp_path: Path) -> None:
    file = onnx_classifier(tmp_path / "c.onnx")
    with pytest.raises(ModelError, match="does not say what is done to pixels"):
        check_task(task("classify", file, labels=["r", "g", "b"]))
    with pytest.raises(ModelError, match="does not say what its labels are"):
        check_task(task("classify", file, input={"height_px": 8, "width_px": 8}))


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
    loaded = onnx.load(onnx_classifier(tmp_path / "c.onnx"))
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
        open_session(resolve_model(onnx_classifier(tmp_path / "c.onnx")), device="cuda", threads=1)
