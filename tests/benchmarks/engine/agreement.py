"""Does a network give JPEGs that are decoded at a fraction of their size the labels that it gives them in full size?

A network of random weights would prove nothing: its logits hardly change from one image to another. So a small one is
trained to tell from which photograph of scikit-image or scikit-learn a crop is, on crops that are decoded in full, and
asked about other crops, with a camera's grain, in sizes that are decoded at 1/2, 1/4 and 1/8.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images
from torch import nn

from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.preprocess import to_tensor

SIDE_PX = 224
INPUT = Preprocessing(height_px=SIDE_PX, width_px=SIDE_PX)
LIMITS = DecodeLimits()
# width and height: decoded at 1/2, 1/4 and 1/8 for SIDE_PX; most of them as in the other benchmarks
SIZES_PX = ((800, 600),) * 6 + ((1200, 900),) * 3 + ((2400, 1800),)
CROP = (0.15, 0.45)  # of the photograph's width
GRAIN = 6.0  # standard deviation, in levels: enlarged photographs are smoother than a camera's
EPOCHS, BATCH, RATE = 12, 32, 2e-3


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of the images: with the same label both ways, and with the right one in full and in scaled decoding."""

    same: float
    right_full: float
    right_scaled: float
    labels: int


def agreement(train: int, test: int, *, seed: int) -> Agreement:
    """Train on so many images, and ask about others."""
    photographs = _photographs()
    torch.manual_seed(seed)
    network = _trained(*_stacked(photographs, train, seed), labels=len(photographs))
    same = right_full = right_scaled = 0
    for file, label in _crops(photographs, test, seed + 1_000_000):
        inputs = torch.stack([_tensor(file, None), _tensor(file, SIDE_PX)])
        with torch.inference_mode():
            full, scaled = network(inputs).argmax(1).tolist()
        same += full == scaled
        right_full += full == label
        right_scaled += scaled == label
    return Agreement(same / test, right_full / test, right_scaled / test, len(photographs))


def _photographs() -> list[Image.Image]:
    sources = [
        *(data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.camera(), data.coins(), data.moon()),
        *(data.brick(), data.grass(), data.gravel(), data.immunohistochemistry(), data.hubble_deep_field()),
        *(data.retina(), *load_sample_images().images),
    ]
    return [Image.fromarray(source).convert("RGB") for source in sources]


def _crops(
    photographs: list[Image.Image], count: int, seed: int, sizes_px: tuple[tuple[int, int], ...] = SIZES_PX
) -> Iterator[tuple[bytes, int]]:
    """JPEG files, and which photograph each is of."""
    rng = np.random.default_rng(seed)
    grain = rng.normal(0, GRAIN, (max(height for _, height in sizes_px), max(width for width, _ in sizes_px), 3))
    for number in range(count):
        label, (width, height) = int(rng.integers(len(photographs))), sizes_px[number % len(sizes_px)]
        source = photographs[label]
        crop_width = source.width * rng.uniform(*CROP)
        crop_height = crop_width * height / width
        left, top = rng.uniform(0, source.width - crop_width), rng.uniform(0, source.height - crop_height)
        box = (left, top, left + crop_width, top + crop_height)
        pixels = np.asarray(source.resize((width, height), Image.Resampling.BICUBIC, box), np.float32)
        rolled = np.roll(grain[:height, :width], tuple(rng.integers(0, (height, width))), (0, 1))
        noisy = pixels * rng.uniform(0.7, 1.2) + rolled
        sink = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(sink, "JPEG", quality=90)
        yield sink.getvalue(), label


def _tensor(file: bytes, needed_side_px: int | None) -> torch.Tensor:
    return to_tensor(decode(file, needed_side_px=needed_side_px, limits=LIMITS).pixels, INPUT)


def _stacked(photographs: list[Image.Image], count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    files, labels = zip(*_crops(photographs, count, seed, SIZES_PX[:1]), strict=True)
    inputs = torch.stack([_tensor(file, None).half() for file in files])
    return inputs.contiguous(memory_format=torch.channels_last), torch.tensor(labels)


def _trained(inputs: torch.Tensor, labels_of: torch.Tensor, *, labels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after, side, stride in ((3, 24, 5, 4), (24, 48, 3, 2), (48, 96, 3, 2)):
        conv = nn.Conv2d(before, after, side, stride, side // 2, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, labels)]
    network = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    for _ in range(EPOCHS):
        for picked in torch.randperm(len(inputs)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs[picked].float()), labels_of[picked]).backward()
            optimizer.step()
    return network.eval()
