"""What is there to classify, and what is odd? scikit-learn's handwritten digits, each under noise of its own strength.

Images that trained, calibrated and test are disjoint; an image appears under several draws of noise. Corrupted: half
the contrast.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier

from tests.benchmarks.confidence.hard import Alike, Answers, Hard, Part, judged
from winnow_workers.confidence.parts import Floats

COUNTS: dict[Part, int] = {"calibrate": 2000, "held out": 4200, "corrupted": 4200}
LADDER = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0)  # of the strongest noise; pixels are 0 to 16
ODD_DIGITS = (8, 9)  # the anomalies

Says = Callable[[Floats], list[dict[str, Any]]]  # (n, 64) pixels -> structs


@dataclass(frozen=True, slots=True)
class Split:
    """Images (n, 64) and their digits."""

    pixels: Floats
    digits: np.ndarray[Any, np.dtype[np.int64]]

    def noisy(self, count: int, strongest: float, seed: int, *, contrast: float) -> tuple[Floats, Any]:
        """`count` draws and the places of their images: every image in turn, with noise from 0 to `strongest`."""
        rng = np.random.default_rng(seed)
        places = np.arange(count) % len(self.digits)
        strength = rng.uniform(0.0, strongest, (count, 1))
        noise = rng.normal(size=(count, self.pixels.shape[1])) * strength
        return contrast * self.pixels[places] + noise, places


@cache
def splits() -> tuple[Split, Split, Split]:
    """To train, to calibrate, held out."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    train, calibrate, held_out = (Split(data.data[part], data.target[part]) for part in np.split(order, [700, 1100]))
    return train, calibrate, held_out


@cache
def classifier() -> Says:
    """A network of one hidden layer, trained on clean images alone."""
    train = splits()[0]
    model = MLPClassifier((128,), max_iter=300, random_state=0).fit(train.pixels / 16, train.digits)

    def says(pixels: Floats) -> list[dict[str, Any]]:
        scores = model.predict_proba(pixels / 16)
        return [_struct(one, np.argsort(-one)) for one in scores]

    return says


def _struct(scores: Floats, order: Any) -> dict[str, Any]:
    return {
        "label": str(order[0]),
        "score": float(scores[order[0]]),
        "margin": float(scores[order[0]] - scores[order[1]]),
        "entropy": float(-(scores * np.log(np.clip(scores, 1e-300, None))).sum()),
        "top": [{"label": str(at), "score": float(scores[at])} for at in order[:5]],
    }


@cache
def oddity() -> Says:
    """The distance to the nearest normal image, over the distance that 5 % of the normal ones exceed."""
    train = splits()[0]
    normal = train.pixels[~np.isin(train.digits, ODD_DIGITS)]
    known, others = normal[: len(normal) // 2], normal[len(normal) // 2 :]
    index = NearestNeighbors(n_neighbors=1).fit(known)
    threshold = float(np.quantile(index.kneighbors(others)[0][:, 0], 0.95))

    def says(pixels: Floats) -> list[dict[str, Any]]:
        scores = index.kneighbors(pixels)[0][:, 0] / threshold
        return [{"score": float(one), "is_anomalous": bool(one > 1.0)} for one in scores]

    return says


def _answers(operator: str, part: Part, strongest: float) -> Answers:
    split = splits()[1 if part == "calibrate" else 2]
    contrast = 0.5 if part == "corrupted" else 1.0
    pixels, places = split.noisy(COUNTS[part], strongest, 1 if part == "calibrate" else 2, contrast=contrast)
    digits = split.digits[places]
    if operator == "classify":
        structs, truths = classifier()(pixels), [{"label": str(one)} for one in digits]
        words = [(one["label"], true["label"]) for one, true in zip(structs, truths, strict=True)]
    else:
        structs, truths = oddity()(pixels), [{"is_anomalous": bool(one in ODD_DIGITS)} for one in digits]
        words = [
            (str(one["is_anomalous"]), str(true["is_anomalous"])) for one, true in zip(structs, truths, strict=True)
        ]
    said, true = np.array(words).T
    return replace(judged(operator, structs, truths), alike=Alike(pixels, said, true, places))


def tasks() -> list[Hard]:
    """Classify and anomaly."""
    setup = f"digits under noise of up to {{}}, {COUNTS['held out']} held-out draws of {len(splits()[2].digits)} images"
    return [
        Hard(name, setup, LADDER, lambda part, strongest, name=name: _answers(name, part, strongest))  # type: ignore[misc]
        for name in ("classify", "anomaly")
    ]
