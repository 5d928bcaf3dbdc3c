"""Does every operator of the catalogue keep the contract, whatever its architecture?"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.servers.require import require_tesseract
from tests.workers.operators import classifier_folders, sharp
from tests.workers.operators.detrs import write_folder
from tests.workers.operators.onnx_files import LABELS, write
from winnow_annotation.kinds.catalogue import KINDS
from winnow_jobs.operator_kind import check_kind
from winnow_jobs.people import label_set_of
from winnow_storage.errors import SpecError
from winnow_workers.catalogue import OPERATORS, operator_named
from winnow_workers.contract.bench import Bench
from winnow_workers.contract.findings import Finding
from winnow_workers.contract.suite import CHECKS, PROCESS, WHY, examine
from winnow_workers.contract.views import noise_views
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.preflight import check_task

CASES: dict[str, tuple[str, str | None, dict[str, object] | None]] = {
    "ocr": ("ocr", None, None),
    "ocr-tesseract": ("ocr", "builtin/tesseract", None),
    "classify-builtin": ("classify", "builtin/digit_cnn", {"random": 1}),
    "classify-torchvision": ("classify", "torchvision/squeezenet1_1", {"random": 1}),
    "classify-timm": ("classify", "timm/test_resnet.r160_in1k", {"random": 1}),
    "classify-several": ("classify", "builtin/digit_cnn", {"random": 1}),
    "classify-tree": ("classify", "builtin/digit_cnn", {"random": 1}),
    "classify-folder": ("classify", "folder:convnext", None),
    "classify-clip": ("classify", "folder:clip", None),
    "classify-siglip": ("classify", "folder:siglip", None),
    "detect-ssdlite": ("detect", "sharp:ssdlite320_mobilenet_v3_large", None),
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
    "classify-several": FEW | {"choose": "several"},
    "classify-tree": {"labels": ["one", "two", "three"], "tree": {"few": ["one", "two"], "three": None}, "sure": 0.5},
    "classify-clip": {"labels": ["cat", "dog"]},
    "classify-siglip": {"labels": ["cat", "dog"], "choose": "several"},
    "detect-ssdlite": {"max_boxes": 20},
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


IN_PROCESSES = ("ocr", "embed-timm")


def test_every_operator_has_a_case() -> None:
    assert {operator for operator, _, _ in CASES.values()} == set(OPERATORS)


@pytest.fixture(scope="module", params=list(CASES))
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaskConfig]:
    name, model, weights = CASES[request.param]
    torch.set_num_threads(1)  # the networks are small: threads would only wait for each other
    if model == "builtin/tesseract":
        require_tesseract()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        model = written(model, tmp_path_factory.mktemp("model")) or operator_named(name).default_model
        yield TaskConfig(request.param, name, resolve_model(model, weights), PARAMS.get(request.param, {}))


def _write_any_folder(folder: Path, family: str) -> None:
    if family in classifier_folders.HEADS:
        classifier_folders.write_classifier(folder, family, [noise_views()[0].pixels, noise_views()[-1].pixels])
    elif family in classifier_folders.PAIRS:
        classifier_folders.write_pair(folder, family)
    else:
        write_folder(folder, family)


def written(model: str | None, folder: Path) -> str | None:
    """The model's name, once what has to be a file is written."""
    kind, _, what = (model or "").partition(":")
    if kind == "folder":
        _write_any_folder(folder, what)
        return f"transformers/{folder}"
    if kind == "sharp":  # drawn scores are all alike: nothing would be found, or everything
        return sharp.model_file(folder, what, sharp.torchvision_detector(what))
    return write(folder / "model.onnx", what) if kind == "onnx" else model


@pytest.fixture(scope="module")
def examined(task: TaskConfig) -> tuple[dict[str, Finding], Bench | None]:
    """Another process takes seconds to import torch: one operator with torch, and one without, are checked there."""
    leave_out = () if task.name in IN_PROCESSES else (PROCESS,)
    findings, bench = examine(task, noise_views(), leave_out=leave_out)
    return {finding.check: finding for finding in findings}, bench


@pytest.mark.parametrize("check", [*WHY, *(one.name for one in CHECKS)])
def test_operator__keeps(check: str, task: TaskConfig, examined: tuple[dict[str, Finding], Bench | None]) -> None:
    if check == PROCESS and task.name not in IN_PROCESSES:
        return
    finding = examined[0][check]
    assert finding.ok, finding.problems


def test_operator__the_check_before_a_plan_lets_its_model_pass(task: TaskConfig) -> None:
    check_task(task)


def test_operator__can_be_reviewed_where_people_can_answer(
    task: TaskConfig, examined: tuple[dict[str, Finding], Bench | None]
) -> None:
    bench = examined[1]
    assert bench is not None
    if task.operator in KINDS:
        known = label_set_of(task)
        assert list(check_kind(bench, task.operator, replace(known, labels=known.labels or ("one", "two")))) == []


def test_operator__random_weights_are_marked(task: TaskConfig) -> None:
    digest, weights = task.model.digest, task.model.weights
    if weights.kind in {"file", "folder"}:
        assert digest == weights.sha256
        return
    assert digest == ("random:1" if weights.kind == "random" else digest)
    assert digest.startswith("random:" if weights.kind == "random" else "builtin:")


def test_operator_named__unknown() -> None:
    with pytest.raises(SpecError, match="there is no operator 'clasify'") as raised:
        operator_named("clasify")
    assert raised.value.hint == "did you mean 'classify'? operators: anomaly, classify, detect, embed, ocr, segment"
