"""Which ONNX files do the tests open? Detectors of one convolution in each layout; means of channels; a painter."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from winnow_workers.models.model_file import CARD_KEY, ModelCard

SIDE_PX = 64
CLASSES = 3
LABELS = ("a", "b", "c")


def write(path: Path, kind: str, *, batch: int | str = "n", card: ModelCard | None = None, **metadata: str) -> str:
    """A detector of that layout with seeded weights; its path."""
    extra = 5 if kind == "yolov5" else 4
    channels = extra + CLASSES
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 0.08, (channels, 3, 8, 8)).astype(np.float32)
    cells = (SIDE_PX // 8) ** 2
    nodes = [
        helper.make_node("Conv", ["images", "weights"], ["cells"], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "flat"], ["table"]),
        helper.make_node("Sigmoid", ["table"], ["ratios"]),
        helper.make_node("Mul", ["ratios", "scale"], ["channels_first"]),
    ]
    scale = np.ones((1, channels, 1), np.float32)
    scale[:, :2], scale[:, 2:4] = SIDE_PX, 24
    constants = {"weights": weights, "flat": np.array([0, channels, -1]), "scale": scale}
    if kind == "yolov5":
        nodes.append(helper.make_node("Transpose", ["channels_first"], ["output"], perm=[0, 2, 1]))
        outputs = {"output": [batch, cells, channels]}
    elif kind == "yolov8":
        nodes[-1].output[0] = "output"
        outputs = {"output": [batch, channels, cells]}
    else:
        nodes.append(helper.make_node("Transpose", ["channels_first"], ["rows"], perm=[0, 2, 1]))
        outputs = _suppressed(kind, nodes, constants, batch, cells)
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE_PX, SIDE_PX])],
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if name == "labels" else TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    said = dict(metadata)
    if card is not None:
        said[CARD_KEY] = card.model_dump_json()
    helper.set_model_props(model, said)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return str(path)


def write_means(path: Path) -> str:
    """The mean of each channel, (n, 3), as logits or as a vector; without a card. Its path."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["y"])]
    return _write_small(path, nodes, ["n", 3])


def write_painter(path: Path) -> str:
    """Three logits of every pixel, one for each colour; without a card. Its path."""
    return _write_small(path, [helper.make_node("Mul", ["x", "x"], ["y"])], ["n", 3, 8, 8])


def _write_small(path: Path, nodes: list[Any], output: list[int | str]) -> str:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return str(path)


def _suppressed(
    kind: str, nodes: list[Any], constants: dict[str, np.ndarray], batch: int | str, cells: int
) -> dict[str, list[Any]]:
    """Boxes as they are (xyxy by chance), the strongest class of each."""
    constants |= {"zero": np.array([0]), "four": np.array([4]), "seven": np.array([7]), "two": np.array([2])}
    nodes += [
        helper.make_node("Slice", ["rows", "zero", "four", "two"], ["boxes"]),
        helper.make_node("Slice", ["rows", "four", "seven", "two"], ["each"]),
        helper.make_node("ReduceMax", ["each"], ["scores"], axes=[2], keepdims=0),
        helper.make_node("ArgMax", ["each"], ["labels"], axis=2, keepdims=0),
    ]
    if kind == "named":
        return {"boxes": [batch, cells, 4], "scores": [batch, cells], "labels": [batch, cells]}
    constants["axis"] = np.array([2])
    nodes += [
        helper.make_node("Unsqueeze", ["scores", "axis"], ["score_column"]),
        helper.make_node("Cast", ["labels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "axis"], ["label_column"]),
        helper.make_node("Concat", ["boxes", "score_column", "label_column"], ["output"], axis=2),
    ]
    return {"output": [batch, cells, 6]}
