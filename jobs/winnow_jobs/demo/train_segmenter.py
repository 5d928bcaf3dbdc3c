"""How is the segmenter made? A small U-Net on scenes composed from the training backgrounds and coins."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from winnow_jobs.demo import fitting, shapes
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import ModelCard, Preprocessing, encode_model

ARCHITECTURE = "builtin/small_unet"
ARGUMENTS = {"width": 8}
PREPROCESSING = Preprocessing(height_px=72, width_px=72, mean=(0.45,) * 3, std=(0.25,) * 3)
_GROUP = 102
_SCENES = 500
_BATCH = 4
_STEPS = 1000


def train(seed: int) -> bytes:
    """The model file."""
    images, classes = _scenes(seed)
    network = build_network(ARCHITECTURE, ARGUMENTS, n_labels=len(shapes.LABELS), seed=seed)
    rng = np.random.default_rng([seed, _GROUP, 1])

    def loss_of_step(_step: int) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(images), size=_BATCH))
        batch, truth = images[chosen], classes[chosen]
        if rng.random() < 0.5:
            batch, truth = batch.flip(3), truth.flip(2)
        if rng.random() < 0.5:
            batch, truth = batch.flip(2), truth.flip(1)
        logits = network(batch)
        return functional.cross_entropy(logits, truth) + dice_loss(logits, truth)

    fitting.fit(network, loss_of_step, steps=_STEPS, rate=5e-3)
    card = ModelCard(
        architecture=ARCHITECTURE,
        arguments=ARGUMENTS,
        labels=shapes.LABELS,
        preprocessing=PREPROCESSING,
        trained_on="coins, boxes and triangles composed on scikit-image's photographs",
    )
    return encode_model(network.state_dict(), card)


def _scenes(seed: int) -> tuple[Tensor, Tensor]:
    """(n, 3, 72, 72) images and the (n, 72, 72) classes of their pixels, from scenes of other sizes and proportions."""
    goal_px = (PREPROCESSING.width_px, PREPROCESSING.height_px)
    rng = np.random.default_rng([seed, _GROUP, 0])
    pictures, classes = [], []
    for number in range(_SCENES):
        kinds = ["coin"] * int(rng.integers(1, 7)) if number % 2 == 0 else None
        size_px = (int(rng.integers(150, 220)), int(rng.integers(150, 220)))
        scene = shapes.compose(rng, part="training", size_px=size_px, kinds=kinds)
        pictures.append(scene.pixels)
        classes.append(np.asarray(Image.fromarray(scene.classes).resize(goal_px, Image.Resampling.NEAREST)))
    return fitting.stack(pictures, PREPROCESSING), torch.from_numpy(np.stack(classes)).long()


def dice_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """One minus the mean soft Dice coefficient of the classes (Milletari et al., 2016): small things count too."""
    probabilities = logits.softmax(dim=1)
    truth = functional.one_hot(classes, logits.shape[1]).permute(0, 3, 1, 2).float()
    both = (probabilities * truth).sum(dim=(0, 2, 3))
    either = (probabilities + truth).sum(dim=(0, 2, 3))
    return 1.0 - ((2 * both + 1.0) / (either + 1.0)).mean()
