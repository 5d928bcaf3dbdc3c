"""On which models is the contract of operators checked? Every family and mode: tiny, with drawn weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.servers.require import require_tesseract
from tests.workers.models.test_anomaly_fit import texture
from tests.workers.operators import classifier_folders, onnx_files, sharp
from tests.workers.operators.detrs import write_folder
from tests.workers.operators.segformers import write_segformer
from tests.workers.operators.test_head import head_file
from winnow_workers.catalogue import operator_named
from winnow_workers.contract.views import noise_views, vector_views
from winnow_workers.models.anomaly_fit import AnomalyFit, fit_detector
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig, View

Write = Callable[[Path], str]  # into an empty folder; what a task names then


@dataclass(frozen=True)
class Case:
    """`model` is what a task names, or writes the file that it names; None is the operator's own."""

    operator: str
    model: str | Write | None = None
    weights: Mapping[str, object] | None = None
    params: Mapping[str, object] = field(default_factory=dict)

    def task(self, name: str, folder: Path) -> TaskConfig:
        """Its task; files are written into `folder`. Skips where Tesseract is not installed."""
        if self.model == "builtin/tesseract":
            require_tesseract()
        model = self.model(folder) if callable(self.model) else self.model
        named = model or operator_named(self.operator).default_model
        return TaskConfig(name, self.operator, resolve_model(named, self.weights), self.params)

    @property
    def views(self) -> list[View]:
        """Images, or vectors for a task of them."""
        return vector_views(DIMENSIONS) if "vectors" in self.params else noise_views()


def _folder(family: str) -> Write:
    def write(folder: Path) -> str:
        if family in classifier_folders.HEADS:
            pixels = [noise_views()[0].pixels, noise_views()[-1].pixels]
            classifier_folders.write_classifier(folder, family, pixels)
        elif family in classifier_folders.PAIRS:
            classifier_folders.write_pair(folder, family)
        elif family == "segformer":
            write_segformer(folder)
        else:
            write_folder(folder, family)
        return f"transformers/{folder}"

    return write


def _sharp(name: str) -> Write:
    """Drawn scores are all alike: nothing would be found, or everything."""
    return lambda folder: sharp.model_file(folder, name, sharp.torchvision_detector(name))


def _onnx_detector(kind: str) -> Write:
    return lambda folder: onnx_files.write(folder / "model.onnx", kind)


def _fitted(method: Any) -> Write:
    def write(folder: Path) -> str:
        fit = AnomalyFit(method=method, side_px=32, bank=50, features=8, false_alarms=0.25)
        detector = fit_detector(resolve_model("builtin/patch_features", RANDOM), 12, texture, fit)
        (folder / "detector.safetensors").write_bytes(detector.data)
        return str(folder / "detector.safetensors")

    return write


def _bf16_variant(folder: Path) -> str:
    """As `winnow models quantize --to bf16` writes it."""
    card = ModelCard(architecture="builtin/digit_cnn", labels=("one", "two"), variant="bf16")
    tensors = build_network(card.architecture, {}, n_labels=2, seed=1).state_dict()
    file = folder / "model.safetensors"
    file.write_bytes(encode_model({name: one.to(torch.bfloat16) for name, one in tensors.items()}, card))
    return str(file)


DIMENSIONS = 4
RANDOM = {"random": 1}
RCNN, MASK_RCNN = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", "torchvision/maskrcnn_resnet50_fpn"
SMALL = {"input": {"height_px": 64, "width_px": 64}}  # keeps the big architectures fast
TINY = {"input": {"height_px": 8, "width_px": 8}}  # of the ONNX files that are written here
FEW = {"labels": ["one", "two"]}  # random scores are then above the floor
THREE = {"labels": ["one", "two", "three"]}
TILES = {"tiles": {"side_px": 600, "overlap": 0.25, "whole": False}}
SMALL_SIDES = {"min_side_px": 64, "max_side_px": 96}

CASES: dict[str, Case] = {
    "ocr": Case("ocr"),
    "ocr-tesseract": Case("ocr", "builtin/tesseract"),
    "classify-builtin": Case("classify", "builtin/digit_cnn", RANDOM),
    "classify-torchvision": Case("classify", "torchvision/squeezenet1_1", RANDOM, SMALL),
    "classify-timm": Case("classify", "timm/test_resnet.r160_in1k", RANDOM),
    "classify-several": Case("classify", "builtin/digit_cnn", RANDOM, FEW | {"choose": "several"}),
    "classify-tree": Case(
        "classify", "builtin/digit_cnn", RANDOM, THREE | {"tree": {"few": ["one", "two"], "three": None}, "sure": 0.5}
    ),
    "classify-folder": Case("classify", _folder("convnext")),
    "classify-clip": Case("classify", _folder("clip"), params={"labels": ["cat", "dog"]}),
    "classify-siglip": Case("classify", _folder("siglip"), params={"labels": ["cat", "dog"], "choose": "several"}),
    "classify-onnx": Case(
        "classify", lambda folder: onnx_files.write_means(folder / "model.onnx"), params=THREE | TINY
    ),
    "classify-bf16": Case("classify", _bf16_variant),
    "classify-head": Case(
        "classify", lambda folder: str(head_file(folder, dimensions=DIMENSIONS)), params={"vectors": "look"}
    ),
    "detect-ssdlite": Case("detect", _sharp("ssdlite320_mobilenet_v3_large"), params={"max_boxes": 20}),
    "detect-rcnn": Case("detect", RCNN, RANDOM, FEW | SMALL_SIDES | {"max_boxes": 20}),
    "detect-tiles": Case("detect", RCNN, RANDOM, FEW | SMALL_SIDES | TILES | {"max_boxes": 20}),
    "detect-rt-detr": Case("detect", _folder("rt_detr")),
    "detect-d-fine": Case("detect", _folder("d_fine")),
    "detect-rf-detr": Case("detect", _folder("rf_detr")),
    **{
        f"detect-onnx-{kind}": Case(
            "detect", _onnx_detector(kind), params={"labels": onnx_files.LABELS, "layout": {"kind": kind}}
        )
        for kind in ("yolov5", "yolov8", "rows", "named")
    },
    "segment-builtin": Case("segment", "builtin/small_unet", RANDOM, SMALL),
    "segment-torchvision": Case("segment", "torchvision/lraspp_mobilenet_v3_large", RANDOM, SMALL),
    "segment-tiles": Case("segment", "builtin/small_unet", RANDOM, TILES | SMALL),
    "segment-smp": Case("segment", "smp/unet/resnet18", RANDOM, SMALL),
    "segment-folder": Case("segment", _folder("segformer")),
    "segment-onnx": Case(
        "segment", lambda folder: onnx_files.write_painter(folder / "model.onnx"), params=THREE | TINY
    ),
    "segment-detr": Case("segment", _folder("rf_detr_seg")),
    "segment-instances": Case("segment", MASK_RCNN, RANDOM, FEW | SMALL_SIDES | {"max_masks": 5}),
    "segment-instance-tiles": Case("segment", MASK_RCNN, RANDOM, FEW | SMALL_SIDES | TILES | {"max_masks": 5}),
    "anomaly-builtin": Case("anomaly", "builtin/patch_features", RANDOM),
    "anomaly-timm": Case("anomaly", "timm/test_resnet", RANDOM),
    "anomaly-patchcore": Case("anomaly", _fitted("patchcore")),
    "anomaly-padim": Case("anomaly", _fitted("padim")),
    "embed-fingerprint": Case("embed", "builtin/fingerprint"),
    "embed-torchvision": Case("embed", "torchvision/squeezenet1_1", RANDOM, SMALL),
    "embed-timm": Case("embed", "timm/test_resnet", RANDOM),
    "embed-pooled": Case("embed", "timm/test_vit", RANDOM, SMALL | {"pooling": "mean+cls", "normalize": "none"}),
    "embed-folder": Case("embed", _folder("vit")),
    "embed-onnx": Case("embed", lambda folder: onnx_files.write_means(folder / "model.onnx"), params=TINY),
    "embed-bf16": Case("embed", "builtin/small_embedder", RANDOM, {"precision": "bf16"}),
}
