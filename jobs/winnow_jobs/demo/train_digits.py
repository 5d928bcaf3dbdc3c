"""How is the digit classifier made? A small CNN on drawn training digits, its temperature fitted on held-out ones."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from winnow_jobs.demo import digits_images, fitting
from winnow_jobs.demo.annotator import NO_DIGIT
from winnow_jobs.demo.sources import Digits, PixelsRGB, digits, pictures
from winnow_workers.models.build import build_network
from winnow_workers.models.model_file import Calibrator, ModelCard, Preprocessing, encode_model

ARCHITECTURE = "builtin/digit_cnn"
ARGUMENTS = {"width": 16}
PREPROCESSING = Preprocessing(height_px=24, width_px=24, channels=1, mean=(0.5,), std=(0.25,))
_GROUP = 101
_DRAWN_PER_DIGIT = 4
_BATCH = 64
_EPOCHS = 4
_SPOILED_RATIO = 0.25
# Every task of the demo runs over every image: without a label for the others, each photograph would be some digit
LABELS = (*digits_images.LABELS, NO_DIGIT)
_OTHERS_RATIO = 0.35  # of the number of digits


def train(seed: int) -> bytes:
    """The model file."""
    images, targets = _drawn(digits("training"), seed=[seed, _GROUP, 0], times=_DRAWN_PER_DIGIT)
    network = build_network(ARCHITECTURE, ARGUMENTS, n_labels=len(LABELS), seed=seed)
    steps_per_epoch = len(targets) // _BATCH
    order = torch.cat([torch.randperm(len(targets))[: steps_per_epoch * _BATCH] for _ in range(_EPOCHS)])
    batches = order.view(-1, _BATCH)

    def loss_of_step(step: int) -> Tensor:
        chosen = batches[step]
        return functional.cross_entropy(network(images[chosen]), targets[chosen])

    fitting.fit(network, loss_of_step, steps=len(batches), rate=4e-3)
    held_out, truth = _drawn(digits("held_out"), seed=[seed, _GROUP, 1], times=1)
    with torch.inference_mode():
        logits = network(held_out)
    card = ModelCard(
        architecture=ARCHITECTURE,
        arguments=ARGUMENTS,
        labels=LABELS,
        preprocessing=PREPROCESSING,
        calibrator=Calibrator(kind="temperature", temperature=fit_temperature(logits, truth), fitted_on=len(truth)),
        trained_on="scikit-learn's handwritten digits, drawn on painted paper",
    )
    return encode_model(network.state_dict(), card)


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature of least negative log likelihood, between 0.25 and 8 (Guo et al., 2017)."""
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return functional.cross_entropy(logits / float(np.exp(log_temperature)), targets).item()

    best = minimize_scalar(loss, bounds=(np.log(0.25), np.log(8.0)), method="bounded")
    return round(float(np.exp(best.x)), 4)


def _drawn(part: Digits, *, seed: list[int], times: int) -> tuple[Tensor, Tensor]:
    """Every digit of a part `times` times, a few spoiled, and a third as many other things: (n, 1, 24, 24), (n,)."""
    rng = np.random.default_rng(seed)
    drawn = [
        digits_images.draw(ink, rng, side_px=int(rng.integers(60, 110)), spoiled=bool(rng.random() < _SPOILED_RATIO))
        for ink in np.repeat(part.inks, times, axis=0)
    ]
    others = [_other(rng) for _ in range(int(len(drawn) * _OTHERS_RATIO))]
    classes = np.concatenate([np.repeat(part.labels, times), np.full(len(others), len(LABELS) - 1)])
    return fitting.stack([*drawn, *others], PREPROCESSING), torch.from_numpy(classes)


def _other(rng: np.random.Generator) -> PixelsRGB:
    """Something that is no digit: a piece of a training photograph or texture, or lines of print."""
    if rng.random() < 0.3:
        return _print(rng)
    picture = pictures("training")[int(rng.integers(len(pictures("training"))))]
    side_px = int(rng.integers(60, min(picture.shape[:2]) + 1))
    top, left = (int(rng.integers(0, side - side_px + 1)) for side in picture.shape[:2])
    return np.array(Image.fromarray(picture[top : top + side_px, left : left + side_px]).resize((96, 96)))


def _print(rng: np.random.Generator) -> PixelsRGB:
    """Lines of random letters on light paper."""
    sheet = Image.new("RGB", (160, 120), tuple(int(shade) for shade in rng.integers(190, 256, 3)))
    letters = ImageDraw.Draw(sheet)
    for line in range(int(rng.integers(2, 8))):
        words = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz   "), int(rng.integers(6, 24))))
        letters.text((8, 6 + 14 * line), words, fill=(40, 40, 40), font=ImageFont.load_default(size=12))
    return np.asarray(sheet)
