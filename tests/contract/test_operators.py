"""Does every operator of the catalogue keep the protocol's promises, whatever its architecture?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests.servers.require import require_tesseract
from tests.workers.operators.detrs import write_folder
from tests.workers.operators.onnx_files import LABELS, write
from winnow_storage.errors import SpecError
from winnow_storage.schemas import prediction_type
from winnow_workers.catalogue import OPERATORS, operator_named
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import Operator, Prediction, View

CASES: dict[str, tuple[str, str | None, dict[str, object] | None]] = {
    "ocr": ("ocr", None, None),
    "ocr-tesseract": ("ocr", "builtin/tesseract", None),
    "classify-builtin": ("classify", "builtin/digit_cnn", {"random": 1}),
    "classify-torchvision": ("classify", "torchvision/squeezenet1_1", {"random": 1}),
    "classify-timm": ("classify", "timm/test_resnet.r160_in1k", {"random": 1}),
    "detect-ssdlite": ("detect", "torchvision/ssdlite320_mobilenet_v3_large", {"random": 1}),
    "detect-rcnn": ("detect", "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", {"random": 1}),
    "detect-tiles": ("detect", "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", {"random": 1}),
    "detect-detr": ("detect", "folder:rt_detr", None),
    "detect-onnx": ("detect", "onnx:yolov8", None),
    "segment-builtin": ("segment", "builtin/small_unet", {"random": 1}),
    "segment-torchvision": ("segment", "torchvision/lraspp_mobilenet_v3_large", {"random": 1}),
    "segment-tiles": ("segment", "builtin/small_unet", {"random": 1}),
    "segment-smp": ("segment", "smp/unet/resnet18", {"random": 1}),
    "segment-detr": ("segment", "folder:rf_detr_seg", None),
    "segment-instances": ("segment", "torchvision/maskrcnn_resnet50_fpn", {"random": 1}),
    "segment-instance-tiles": ("segment", "torchvision/maskrcnn_resnet50_fpn", {"random": 1}),
    "anomaly-builtin": ("anomaly", "builtin/patch_features", {"random": 1}),
    "anomaly-timm": ("anomaly", "timm/test_resnet", {"random": 1}),
    "embed-fingerprint": ("embed", "builtin/fingerprint", None),
    "embed-torchvision": ("embed", "torchvision/squeezenet1_1", {"random": 1}),
    "embed-timm": ("embed", "timm/test_resnet", {"random": 1}),
    "embed-pooled": ("embed", "timm/test_vit", {"random": 1}),
}
SMALL = {"height_px": 64, "width_px": 64}  # keeps the big architectures fast
FEW = {"labels": ["one", "two"]}  # random scores are then above the floor
TILES = {"tiles": {"side_px": 600, "overlap": 0.25, "whole": False}}
SMALL_SIDES = {"min_side_px": 64, "max_side_px": 96}
PARAMS: dict[str, dict[str, object]] = {
    "classify-torchvision": {"input": SMALL},
    "detect-ssdlite": FEW | {"floor": 0.3, "max_boxes": 20},
    "detect-rcnn": FEW | SMALL_SIDES | {"max_boxes": 20},
    "detect-tiles": FEW | SMALL_SIDES | TILES | {"max_boxes": 20},
    "segment-torchvision": {"input": SMALL},
    "segment-tiles": TILES | {"input": SMALL},
    "segment-smp": {"input": SMALL},
    "detect-onnx": {"labels": LABELS, "layout": {"kind": "yolov8"}},
    "segment-instances": FEW | SMALL_SIDES | {"max_masks": 5},
    "segment-instance-tiles": FEW | SMALL_SIDES | TILES | {"max_masks": 5},
    "embed-torchvision": {"input": SMALL},
    "embed-pooled": {"input": SMALL, "pooling": "mean+cls", "normalize": "none"},
}


def test_every_operator_has_a_case() -> None:
    assert {operator for operator, _, _ in CASES.values()} == set(OPERATORS)


@pytest.fixture(scope="module", params=list(CASES))
def operator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator[Any]]:
    name, model, weights = CASES[request.param]
    torch.set_num_threads(1)  # the networks are small: threads would only wait for each other
    kind = operator_named(name)
    if model == "builtin/tesseract":
        require_tesseract()
    params = PARAMS.get(request.param, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        model = written(model, tmp_path_factory.mktemp("model"))
        built = kind(
            kind.params_type.model_validate(params), resolve_model(model or kind.default_model, weights), "cpu"
        )
        built.open()
    yield built
    built.close()


def written(model: str | None, folder: Path) -> str | None:
    """The model's name, once what has to be a file is written."""
    kind, _, what = (model or "").partition(":")
    if kind == "folder":
        write_folder(folder, what)
        return f"transformers/{folder}"
    return write(folder / "model.onnx", what) if kind == "onnx" else model


def views() -> list[View]:
    """Noise in many shapes: small, wide, tall, one pixel, and one that is shown at half its size."""
    rng = np.random.default_rng(0)
    sizes = [(40, 50), (1, 1), (3, 1500), (1500, 3), (64, 64), (33, 47), (50, 40)]
    plain = [View(rng.integers(0, 256, (h, w, 3), dtype=np.uint8), w, h) for h, w in sizes]
    return [*plain, View(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), 80, 60)]


@pytest.fixture(scope="module")
def predictions(operator: Operator[Any]) -> list[Prediction]:
    return run(operator, views())


def run(operator: Operator[Any], given: list[View]) -> list[Prediction]:
    size = operator.batch_size
    return [one for start in range(0, len(given), size) for one in operator.run(given[start : start + size])]


def same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float | np.ndarray) or (isinstance(one, list) and one and isinstance(one[0], float)):
        return bool(np.allclose(one, other, atol=1e-5, rtol=0))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def agree(ours: list[Prediction], theirs: list[Prediction]) -> bool:
    return len(ours) == len(theirs) and all(
        same(dict(one.fields), dict(other.fields)) and same(one.score, other.score) and same(one.p_ok, other.p_ok)
        for one, other in zip(ours, theirs, strict=True)
    )


def test_operator__one_prediction_per_view(predictions: list[Prediction]) -> None:
    assert len(predictions) == len(views())


def test_operator__an_empty_batch(operator: Operator[Any]) -> None:
    assert operator.run([]) == []


def test_operator__order_does_not_matter(operator: Operator[Any], predictions: list[Prediction]) -> None:
    assert agree(run(operator, views()[::-1])[::-1], predictions)


def test_operator__batch_size_does_not_matter(operator: Operator[Any], predictions: list[Prediction]) -> None:
    assert agree([operator.run([view])[0] for view in views()], predictions)


def test_operator__fields_fit_the_struct(operator: Operator[Any], predictions: list[Prediction]) -> None:
    struct = prediction_type(operator.fields())
    rows = [{"score": one.score, "score_kind": one.score_kind, **one.fields} for one in predictions]
    array = pa.array(rows, type=struct)
    assert len(array) == len(rows)
    for one, field in ((one, field) for one in predictions for field in operator.fields()):
        assert field.name in one.fields
    assert {name for one in predictions for name in one.fields} == {field.name for field in operator.fields()}


def test_operator__scores_have_a_kind(predictions: list[Prediction]) -> None:
    for one in predictions:
        assert one.score is None or (np.isfinite(one.score) and one.score_kind)
        assert (one.p_ok is None) == (one.calibrator is None)


def test_operator__random_weights_are_marked(operator: Operator[Any]) -> None:
    if operator.model.weights.kind in {"file", "folder"}:
        assert operator.model.digest == operator.model.weights.sha256
        return
    assert operator.model.digest == ("random:1" if operator.model.weights.kind == "random" else operator.model.digest)
    assert operator.model.digest.startswith("random:" if operator.model.weights.kind == "random" else "builtin:")


def test_operator__says_what_it_needs(operator: Operator[Any]) -> None:
    assert operator.preproc
    assert operator.batch_size >= 1
    assert operator.needed_side_px is None or operator.needed_side_px > 0


def test_operator_named__unknown() -> None:
    with pytest.raises(SpecError, match="there is no operator 'clasify'") as raised:
        operator_named("clasify")
    assert raised.value.hint == "did you mean 'classify'? operators: anomaly, classify, detect, embed, ocr, segment"
