"""Does detect read ONNX detectors as their layouts say, and undo the letterbox?"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional
from torchvision import ops

from tests.workers.operators import onnx_files, sharp
from tests.workers.operators.making import opened, view
from tests.workers.operators.test_detect import same_boxes
from winnow_storage.errors import ModelError
from winnow_workers.detectors.layouts import Layout, read
from winnow_workers.detectors.onnx_detector import to_view
from winnow_workers.models.labels import labels_of
from winnow_workers.models.model_file import ModelCard, Preprocessing
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig, View

SIDE = onnx_files.SIDE_PX


def letterboxed(view: View) -> tuple[np.ndarray, float, int, int]:
    """As YOLOs are fed: the scaled image in the middle of grey, the scale and the margins."""
    height, width = view.pixels.shape[:2]
    scale = min(SIDE / height, SIDE / width)
    rows, columns = round(height * scale), round(width * scale)
    nchw = torch.from_numpy(view.pixels).permute(2, 0, 1)[None]
    image = functional.interpolate(nchw, (rows, columns), mode="bilinear", antialias=True)[0]
    top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
    canvas = torch.full((3, SIDE, SIDE), 114, dtype=torch.uint8)
    canvas[:, top : top + rows, left : left + columns] = image
    return canvas.numpy().astype(np.float32)[None] / 255, scale, left, top


def library(path: str, kind: str, view: View, floor: float) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The same file called directly, with torchvision's suppression."""
    canvas, scale, left, top = letterboxed(view)
    session = ort.InferenceSession(path)
    names = [one.name for one in session.get_outputs()]
    outputs = {name: value[0] for name, value in zip(names, session.run(names, {"images": canvas}), strict=True)}
    if kind == "named":
        boxes, scores, classes = outputs["boxes"], outputs["scores"], outputs["labels"]
    elif kind == "rows":
        table = outputs["output"]
        boxes, scores, classes = table[:, :4], table[:, 4], table[:, 5].astype(int)
    else:
        table = outputs["output"].T if kind == "yolov8" else outputs["output"]
        each = table[:, 4:] if kind == "yolov8" else table[:, 5:] * table[:, 4:5]
        scores, classes = each.max(axis=1), each.argmax(axis=1)
        boxes = ops.box_convert(torch.from_numpy(np.ascontiguousarray(table[:, :4])), "cxcywh", "xyxy").numpy()
    kept = scores >= floor
    boxes, scores, classes = (torch.from_numpy(np.ascontiguousarray(one[kept])) for one in (boxes, scores, classes))
    if kind in {"yolov5", "yolov8"}:
        order = ops.batched_nms(boxes, scores, classes, 0.7)
        boxes, scores, classes = boxes[order], scores[order], classes[order]
    boxes = (boxes - torch.tensor([left, top, left, top])) / scale
    sides = torch.tensor([view.width_px, view.height_px] * 2)
    boxes = torch.minimum(boxes.clamp(min=0), sides)
    return [onnx_files.LABELS[index] for index in classes.tolist()], boxes.numpy(), scores.numpy()


@pytest.mark.parametrize("batch", [1, 4, "n"])
@pytest.mark.parametrize("kind", ["yolov5", "yolov8", "rows", "named"])
def test_detect_onnx__as_the_file_called_directly(kind: str, batch: int | str, tmp_path: Path) -> None:
    card = ModelCard(architecture="onnx/detector", labels=onnx_files.LABELS, extra={"layout": {"kind": kind}})
    file = onnx_files.write(tmp_path / "m.onnx", kind, batch=1 if batch == 1 else batch, card=card)
    direct = onnx_files.write(tmp_path / "direct.onnx", kind)
    operator = opened("detect", file, floor=0.3)
    predictions = operator.run(sharp.pictures())
    assert sum(len(one.fields["boxes"]) for one in predictions) > 10
    for picture, prediction in zip(sharp.pictures(), predictions, strict=True):
        same_boxes(prediction.fields["boxes"], *library(direct, kind, picture, 0.3))


def test_detect_onnx__layout_and_labels_of_the_task_or_of_the_exporter(tmp_path: Path) -> None:
    file = onnx_files.write(tmp_path / "m.onnx", "yolov8", names="{0: 'cat', 1: 'dog', 2: 'cow'}")
    operator = opened("detect", file, layout={"kind": "yolov8"}, floor=0.3)
    assert {one["label"] for one in operator.run(sharp.pictures())[0].fields["boxes"]} <= {"cat", "dog", "cow"}
    task = TaskConfig("t", "detect", resolve_model(file))
    assert labels_of(task) == ("cat", "dog", "cow")
    with pytest.raises(ModelError, match="nothing says what the outputs") as raised:
        opened("detect", file)
    assert raised.value.hint is not None
    assert "layout: {kind: yolov8}" in raised.value.hint


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"layout": {"kind": "yolov8"}, "labels": ["a", "b"]}, "2 labels for a model with 3 classes"),
        ({"layout": {"kind": "named"}, "labels": ["a"]}, r"has no output for boxes \(boxes\)"),
        ({"layout": {"kind": "yolov8"}}, "0 labels"),
        (
            {"layout": {"kind": "yolov8"}, "labels": ["a", "b", "c"], "input": {"height_px": 32, "width_px": 32}},
            "input: says 3 channels of 32 x 32",
        ),
        ({"layout": {"kind": "yolov8"}, "min_side_px": 64}, "not for ONNX"),
    ],
)
def test_detect_onnx__what_does_not_fit(params: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = onnx_files.write(tmp_path / "m.onnx", "yolov8")
    with pytest.raises(ModelError, match=said) as raised:
        opened("detect", file, **params)
    assert raised.value.hint


def test_detect_onnx__a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no onnx")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        opened("detect", str(tmp_path / "m.onnx"), layout={"kind": "yolov8"}, labels=["a"])


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("size", [(90, 130), (131, 57), (64, 64), (1, 200)])
def test_to_view__undoes_the_letterbox(fit: str, size: tuple[int, int]) -> None:
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    given = Preprocessing.model_validate({"height_px": 64, "width_px": 96, "fit": fit, "pad_value": 114})
    whole = np.array([[0, 0, 96, 64]], np.float32)
    (box,) = to_view(whole, view(pixels, width_px=width * 2, height_px=height * 2), given)
    if fit == "crop":
        assert box[2] - box[0] == pytest.approx(2 * min(width, max(1, round(height * 1.5))))
        assert (box[0] + box[2]) / 2 == pytest.approx(width, abs=2)
    else:
        assert box.tolist() == [0, 0, width * 2, height * 2]


def test_read__ratios_logits_counts_and_other_names() -> None:
    layout = Layout.model_validate(
        {"kind": "named", "unit": "ratio", "sigmoid": True, "outputs": {"boxes": "b", "scores": "s", "labels": "l"}}
    )
    outputs = {
        "b": np.array([[0.25, 0.5, 0.5, 1.0], [0, 0, 1, 1]], np.float32),
        "s": np.array([0.0, 9.0], np.float32),
        "l": np.array([1, 0]),
        "count": np.array([1]),
    }
    found = read(layout, outputs, width_px=80, height_px=40, classes=2, floor=0.1)
    assert found.boxes.tolist() == [[20, 20, 40, 40]]
    assert found.scores.tolist() == [0.5]
    assert found.classes.tolist() == [1]
    with pytest.raises(ArithmeticError, match="class 1, there are 1 labels"):
        read(layout, outputs, width_px=80, height_px=40, classes=1, floor=0.1)
