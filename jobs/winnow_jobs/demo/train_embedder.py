"""How is the embedder made? A small network that learns to recognise a window of a photograph after it was changed.

Contrastive learning as in SimCLR (Chen et al., 2020): two views of each window should be nearer to each other than to
all the other windows of the batch.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from winnow_jobs.demo import fitting
from winnow_jobs.demo.sources import PixelsRGB, pictures
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model

ARCHITECTURE = "builtin/small_embedder"
ARGUMENTS = {"dim": 64, "width": 16}
PREPROCESSING = Preprocessing(height_px=64, width_px=64)
_GROUP = 104
_WINDOWS = 256
_VIEWS = 6
_BATCH = 32
_STEPS = 40
_TEMPERATURE = 0.1


def train(seed: int) -> bytes:
    """The model file."""
    views = _views(seed)
    network = build_network(ARCHITECTURE, ARGUMENTS, n_labels=None, seed=seed)
    rng = np.random.default_rng([seed, _GROUP, 1])

    def loss_of_step(_step: int) -> Tensor:
        windows = rng.permutation(_WINDOWS)[:_BATCH]
        first, second = (views[windows, rng.integers(_VIEWS, size=_BATCH)] for _ in range(2))
        vectors = functional.normalize(network(torch.cat([first, second])), dim=1)
        return _contrastive_loss(vectors)

    fitting.fit(network, loss_of_step, steps=_STEPS, rate=4e-3)
    card = ModelCard(
        architecture=ARCHITECTURE,
        arguments=ARGUMENTS,
        preprocessing=PREPROCESSING,
        trained_on="windows of scikit-image's photographs and textures",
    )
    return encode_model(network.state_dict(), card)


def _contrastive_loss(vectors: Tensor) -> Tensor:
    """NT-Xent over (2n, dim) unit vectors, of which i and i + n are views of the same window."""
    likeness = vectors @ vectors.T / _TEMPERATURE
    likeness.fill_diagonal_(-torch.inf)
    return functional.cross_entropy(likeness, torch.arange(len(vectors)).roll(len(vectors) // 2))


def _views(seed: int) -> Tensor:
    """(windows, views, 3, 64, 64): random windows of the training sources, each changed in several ways."""
    rng = np.random.default_rng([seed, _GROUP, 0])
    sources = pictures("training")
    views = []
    for _ in range(_WINDOWS):
        source = sources[rng.integers(len(sources))]
        side_px = int(min(source.shape[:2]) * rng.uniform(0.35, 1.0))
        top_px = int(rng.integers(0, source.shape[0] - side_px + 1))
        left_px = int(rng.integers(0, source.shape[1] - side_px + 1))
        window = source[top_px : top_px + side_px, left_px : left_px + side_px]
        small = np.asarray(Image.fromarray(window).resize((96, 96), Image.Resampling.BILINEAR))
        turned = np.rot90(small, k=int(rng.integers(4)))
        views += [_changed(turned, rng) for _ in range(_VIEWS)]
    stacked = fitting.stack(views, PREPROCESSING)
    return stacked.reshape(_WINDOWS, _VIEWS, *stacked.shape[1:])


def _changed(window: PixelsRGB, rng: np.random.Generator) -> PixelsRGB:
    """Cropped, mirrored, lit differently, sometimes without colour."""
    side_px = window.shape[0]
    keep_px = int(side_px * rng.uniform(0.7, 1.0))
    top_px, left_px = (int(edge) for edge in rng.integers(0, side_px - keep_px + 1, size=2))
    view = window[top_px : top_px + keep_px, left_px : left_px + keep_px].astype(np.float64)
    if rng.random() < 0.5:
        view = view[:, ::-1]
    if rng.random() < 0.15:
        view = np.repeat(view.mean(axis=2, keepdims=True), 3, axis=2)
    lit = (view - 128) * rng.uniform(0.75, 1.25) + 128 + rng.uniform(-30, 30)
    return np.clip(lit + rng.normal(0, rng.uniform(0, 8), size=view.shape), 0, 255).astype(np.uint8)
