"""How do labels become a head? By a regression, or as points of which the nearest ones vote."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from winnow_annotation.head_fit import FOLDS, Examples, fit_linear, fold_numbers, refit_linear
from winnow_workers.heads import Embedding, Head, Linear, Nearest

_NEIGHBOURS = (1, 3, 5, 10, 20)
_TEMPERATURES = (0.01, 0.03, 0.1, 0.3)  # of cosines
_FIRST_TEMPERATURE = 0.1


class HeadKind(StrEnum):
    """Which rule a head goes by."""

    LINEAR = "linear"
    KNN = "knn"


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A head, with what cross-validation says of it; `chosen` are the numbers that it chose, by name."""

    head: Head
    accuracy: float
    log_loss: float
    chosen: dict[str, float]

    def again(self, examples: Examples) -> Head:
        """The same rule with the same numbers, learned from other examples."""
        if "k" in self.chosen:
            return _nearest(examples, self.head.embedding, int(self.chosen["k"]), self.chosen["temperature"])
        weight, bias = refit_linear(examples, self.chosen["inverse_penalty"])
        return Head(examples.classes, self.head.embedding, Linear(weight, bias))


def fit_head(examples: Examples, embedding: Embedding, kind: HeadKind, *, seed: int) -> FittedHead:
    """The head of these examples; the same for the same examples and seed."""
    if kind is HeadKind.KNN:
        return _fit_nearest(examples, embedding, seed)
    found = fit_linear(examples, seed=seed)
    head = Head(examples.classes, embedding, Linear(found.weight, found.bias))
    return FittedHead(head, found.accuracy, found.log_loss, {"inverse_penalty": found.inverse_penalty})


def _fit_nearest(examples: Examples, embedding: Embedding, seed: int) -> FittedHead:
    """`k` is chosen first, then the temperature, each as what makes the labels that are left out likeliest."""
    folds = fold_numbers(examples.codes, seed)

    def left_out(k: int, temperature: float) -> tuple[float, float]:
        losses, right, count = 0.0, 0, 0
        for fold in range(FOLDS):
            held = np.flatnonzero(folds == fold)
            rest = np.flatnonzero(folds != fold)
            if not len(held) or not len(rest):
                continue
            chances = _head(examples, rest, embedding, min(k, len(rest)), temperature).scores(examples.vectors[held])
            losses -= float(np.log(chances[np.arange(len(held)), examples.codes[held]]).sum())
            right += int((chances.argmax(axis=1) == examples.codes[held]).sum())
            count += len(held)
        return losses / count, right / count

    by_k = {k: left_out(k, _FIRST_TEMPERATURE) for k in _NEIGHBOURS if k <= len(examples.codes)}
    k = min(by_k, key=lambda one: (by_k[one][0], one))
    by_temperature = {one: left_out(k, one) for one in _TEMPERATURES}
    temperature = min(by_temperature, key=lambda one: (by_temperature[one][0], one))
    log_loss, accuracy = by_temperature[temperature]
    head = _nearest(examples, embedding, k, temperature)
    return FittedHead(head, accuracy, log_loss, {"k": k, "temperature": temperature})


def _nearest(examples: Examples, embedding: Embedding, k: int, temperature: float) -> Head:
    return _head(examples, np.arange(len(examples.codes)), embedding, min(k, len(examples.codes)), temperature)


def _head(examples: Examples, places: NDArray[np.int64], embedding: Embedding, k: int, temperature: float) -> Head:
    points = examples.vectors[places].astype(np.float32)
    return Head(examples.classes, embedding, Nearest(points, examples.codes[places], k, temperature))
