"""How do the networks of the benchmark come to be? Small ones, trained here on scenes, the classifier on letters.

Each is trained in a process of its own, on damage of every strength, and written as a file that the operators open.
"""

import contextlib
import io
import logging
import multiprocessing
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.benchmarks.confidence import letters
from tests.benchmarks.confidence.scenes import LABELS, SIDE_PX, Scene, scenes
from winnow_jobs.demo import fitting
from winnow_jobs.demo.train_segmenter import dice_loss
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model
from winnow_workers.models.onnx_file import with_card

PREPROCESSING = Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX, mean=(0.5,) * 3, std=(0.25,) * 3)
OF_LETTERS = Preprocessing(height_px=letters.SIDE_PX, width_px=letters.SIDE_PX, channels=1, mean=(0.5,), std=(0.25,))
ONNX_BATCH = 16
_SEED = 100  # of the scenes and letters to train on
_SCENES, _LETTERS = 8000, 12000
_BATCH, _LETTERS_BATCH = 32, 64
_DETECTOR_STEPS, _SEGMENTER_STEPS, _CLASSIFIER_STEPS = 2500, 500, 900
_STRIDE_PX = 4


def trained(folder: Path, operators: Sequence[str]) -> Mapping[str, Path]:
    """Model files in `folder` for these of `detect`, `segment` and `classify`, trained side by side, a thread each."""
    makers = {
        "detect": ("detector.onnx", _detector),
        "segment": ("segmenter.safetensors", _segmenter),
        "classify": ("classifier.safetensors", _classifier),
    }
    chosen = {name: (folder / makers[name][0], makers[name][1]) for name in operators}
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(_write, *one) for one in chosen.values()]:
            future.result()
    return {name: path for name, (path, _) in chosen.items()}


def _write(path: Path, train: Callable[[], bytes]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    path.write_bytes(train())


class Cells(nn.Module):
    """One answer per 4 x 4 px: (n, 3, 48, 48) to (n, 4 + labels, 144), xyxy px and logits, YOLOv8's layout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(3, 16),
            nn.MaxPool2d(2),
            _conv(16, 32),
            nn.MaxPool2d(2),
            *(_conv(32 if at == 0 else 48, 48, dilation=1 + at % 2) for at in range(4)),
        )
        self.head = nn.Conv2d(48, 4 + len(LABELS), 1)
        side = torch.arange(SIDE_PX // _STRIDE_PX) * _STRIDE_PX + _STRIDE_PX / 2
        middles = torch.stack([side.repeat(len(side)), side.repeat_interleave(len(side))])  # x, y
        self.register_buffer("middles", middles)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Boxes reach from the middle of their cell to each side."""
        found = self.head(self.features(images_nchw)).flatten(2)
        reach = functional.softplus(found[:, :4]) * 2 * _STRIDE_PX
        low, high = self.middles - reach[:, :2], self.middles + reach[:, 2:]
        return torch.cat([low, high, found[:, 4:]], dim=1)


def _conv(inputs: int, outputs: int, *, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _detector() -> bytes:
    """An ONNX file. A cell whose middle is in the inner half of a box answers for it."""
    network = Cells()
    nn.init.constant_(network.head.bias[4:], -3.0)
    made = scenes(_SCENES, 1.0, _SEED, rarity=1.5)
    images = fitting.stack([one.pixels for one in made], PREPROCESSING)
    targets = [_targets(one, network.middles.numpy()) for one in made]
    boxes, labels = (torch.from_numpy(np.stack(part)) for part in zip(*targets, strict=True))
    rng = np.random.default_rng(_SEED)

    def loss_of_step(_step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(images), size=_BATCH))
        answers = network(images[chosen])
        true = labels[chosen]
        wanted = functional.one_hot(true + 1, len(LABELS) + 1)[..., 1:].transpose(1, 2).float()
        there = true >= 0
        scores = functional.binary_cross_entropy_with_logits(answers[:, 4:], wanted, reduction="sum")
        sides = 1.0 - _iou(answers[:, :4].transpose(1, 2)[there], boxes[chosen][there])
        return (scores + sides.sum()) / there.sum().clamp(min=1)

    fitting.fit(network, loss_of_step, steps=_DETECTOR_STEPS, rate=4e-3)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.to(memory_format=torch.contiguous_format),
            (torch.zeros(ONNX_BATCH, 3, SIDE_PX, SIDE_PX),),
            dynamo=True,
            opset_version=18,
            external_data=False,
            verbose=False,
        )
    layout = {"kind": "yolov8", "box": "xyxy", "sigmoid": True}
    card = ModelCard(
        architecture="benchmark/cells", labels=LABELS, preprocessing=PREPROCESSING, extra={"layout": layout}
    )
    return with_card(program.model_proto.SerializeToString(), card, where="the benchmark's detector")


def _targets(scene: Scene, middles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(cells, 4) boxes and (cells,) labels, -1 where a cell answers for nothing; the smaller box comes first."""
    boxes, labels = np.zeros((middles.shape[1], 4), np.float32), np.full(middles.shape[1], -1, np.int64)
    for label, box in sorted(scene.boxes, key=lambda one: -(one[1][2] - one[1][0]) * (one[1][3] - one[1][1])):
        x0, y0, x1, y1 = box
        near_x = np.abs(middles[0] - (x0 + x1) / 2) <= max((x1 - x0) / 4, _STRIDE_PX / 2)
        near_y = np.abs(middles[1] - (y0 + y1) / 2) <= max((y1 - y0) / 4, _STRIDE_PX / 2)
        boxes[near_x & near_y], labels[near_x & near_y] = box, label
    return boxes, labels


def _iou(said: Tensor, true: Tensor) -> Tensor:
    common = (torch.minimum(said[:, 2:], true[:, 2:]) - torch.maximum(said[:, :2], true[:, :2])).clamp(min=0).prod(1)
    areas = (said[:, 2:] - said[:, :2]).prod(1) + (true[:, 2:] - true[:, :2]).prod(1)
    return common / (areas - common).clamp(min=1e-6)


def _segmenter() -> bytes:
    """A model file of builtin/small_unet."""
    architecture, arguments = "builtin/small_unet", {"width": 8}
    labels = ("ground", *LABELS)
    network = build_network(architecture, arguments, n_labels=len(labels), seed=0)
    made = scenes(_SCENES, 1.0, _SEED, rarity=1.5)
    images = fitting.stack([one.pixels for one in made], PREPROCESSING)
    classes = torch.from_numpy(np.stack([one.classes for one in made])).long()
    rng = np.random.default_rng(_SEED)

    def loss_of_step(_step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(images), size=_BATCH))
        batch, truth = images[chosen], classes[chosen]
        if rng.uniform() < 0.5:
            batch, truth = batch.flip(3), truth.flip(2)
        if rng.uniform() < 0.5:
            batch, truth = batch.transpose(2, 3), truth.transpose(1, 2)
        logits = network(batch)
        return functional.cross_entropy(logits, truth) + dice_loss(logits, truth)

    fitting.fit(network, loss_of_step, steps=_SEGMENTER_STEPS, rate=5e-3)
    card = ModelCard(architecture=architecture, arguments=arguments, labels=labels, preprocessing=PREPROCESSING)
    return encode_model(network.state_dict(), card)


def _classifier() -> bytes:
    """A model file of builtin/digit_cnn."""
    architecture, arguments = "builtin/digit_cnn", {"width": 16}
    network = build_network(architecture, arguments, n_labels=len(letters.LABELS), seed=0)
    made = letters.letters(_LETTERS, 1.0, _SEED, rarity=1.5)
    images = fitting.stack([one.pixels for one in made], OF_LETTERS)
    labels = torch.tensor([one.label for one in made])
    rng = np.random.default_rng(_SEED)

    def loss_of_step(_step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(images), size=_LETTERS_BATCH))
        return functional.cross_entropy(network(images[chosen]), labels[chosen])

    fitting.fit(network, loss_of_step, steps=_CLASSIFIER_STEPS, rate=4e-3)
    card = ModelCard(architecture=architecture, arguments=arguments, labels=letters.LABELS, preprocessing=OF_LETTERS)
    return encode_model(network.state_dict(), card)
