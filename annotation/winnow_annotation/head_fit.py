"""How is a linear head learned? A multinomial logistic regression on stored vectors, in seconds, the same by its seed.

How strongly it is held down (L2) is chosen by cross-validation, as what makes the labels that were left out likeliest.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow_storage.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FOLDS = 5
LEAST = 10  # labels, so that each fold holds two
_INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)  # of inputs whose numbers have a variance of one in the mean
_MOST_STEPS = 1000
_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Examples:
    """What teaches: (n, d) vectors of length one, and (n,) the places of their labels in `classes`."""

    vectors: Floats
    codes: Ints
    classes: tuple[str, ...]

    def some(self, places: Ints) -> "Examples":
        """Some of them; the classes stay those that are left."""
        codes = self.codes[places]
        there = np.unique(codes)
        return Examples(self.vectors[places], np.searchsorted(there, codes), tuple(self.classes[i] for i in there))


@dataclass(frozen=True, slots=True)
class LinearFit:
    """Of `weight` (classes, d) and `bias` (classes,) float32: logits are weight @ vector + bias, of a vector of length
    one. `accuracy` and `log_loss` are those of labels that were left out.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    inverse_penalty: float
    accuracy: float
    log_loss: float


def examples_of(vectors: NDArray[Any], labels: Sequence[str]) -> Examples:
    """Of (n, d) vectors and their labels, in an order that stays: by item, say.

    Raises:
        UsageError: fewer than two classes, or too few labels.
    """
    classes = tuple(sorted(set(labels)))
    if len(labels) < LEAST:
        raise UsageError(
            f"{len(labels)} labels can teach, at least {LEAST} are needed", hint="label more items, then winnow pull"
        )
    if len(classes) < 2:
        raise UsageError(
            f"all {len(labels)} labels say {classes[0]!r}: there is nothing to tell apart",
            hint="label items of another class, then winnow pull",
        )
    code = {name: place for place, name in enumerate(classes)}
    return Examples(unit(vectors), np.array([code[label] for label in labels], np.int64), classes)


def unit(vectors: NDArray[Any]) -> Floats:
    """(n, d) of length one; a vector of length zero stays."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    found: Floats = wide / np.where(lengths > 0, lengths, 1.0)
    return found


def fold_numbers(codes: Ints, seed: int) -> Ints:
    """(n,) of 0 to FOLDS - 1, each class dealt out evenly; -1 for the only label of a class, which always teaches."""
    random = np.random.default_rng(seed)
    found = np.full(len(codes), -1, np.int64)
    first = 0
    for code in np.unique(codes):
        places = random.permutation(np.flatnonzero(codes == code))
        if len(places) > 1:
            found[places] = (first + np.arange(len(places))) % FOLDS
            first += len(places)
    return found


def half(examples: Examples, seed: int) -> Examples:
    """A random half of them, of each class half (the larger half of an odd number)."""
    random = np.random.default_rng(seed)
    kept = []
    for code in np.unique(examples.codes):
        places = random.permutation(np.flatnonzero(examples.codes == code))
        kept.append(places[: (len(places) + 1) // 2])
    return examples.some(np.sort(np.concatenate(kept)))


def fit_linear(examples: Examples, *, seed: int) -> LinearFit:
    """The head, of the penalty that served best out of fold."""
    folds = fold_numbers(examples.codes, seed)
    tried = [(_left_out(examples, folds, penalty), penalty) for penalty in _INVERSE_PENALTIES]
    (log_loss, accuracy), penalty = min(tried, key=lambda one: (one[0][0], one[1]))
    weight, bias = _regression(examples, penalty)
    return LinearFit(weight.astype(np.float32), bias.astype(np.float32), penalty, accuracy, log_loss)


def refit_linear(examples: Examples, inverse_penalty: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(weight, bias) of other examples, at a penalty that was chosen before."""
    weight, bias = _regression(examples, inverse_penalty)
    return weight.astype(np.float32), bias.astype(np.float32)


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    powers: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Floats = powers.sum(axis=-1, keepdims=True)
    return powers / total


def _left_out(examples: Examples, folds: Ints, penalty: float) -> tuple[float, float]:
    """(mean log loss, accuracy) of the labels that are left out by turns."""
    losses, right, count = 0.0, 0, 0
    for fold in range(FOLDS):
        held = np.flatnonzero(folds == fold)
        if not len(held):
            continue
        rest = examples.some(np.flatnonzero(folds != fold))
        if len(rest.classes) < 2:
            continue
        weight, bias = _regression(rest, penalty)
        chances = softmax(examples.vectors[held] @ weight.T + bias)
        names = np.array(rest.classes, dtype=object)
        wanted = np.array([examples.classes[code] for code in examples.codes[held]], dtype=object)
        of_truth = (chances * (names[None, :] == wanted[:, None])).sum(axis=1)
        losses -= float(np.log(np.maximum(of_truth, _FLOOR)).sum())
        right += int((names[chances.argmax(axis=1)] == wanted).sum())
        count += len(held)
    return (losses / count, right / count) if count else (float("inf"), 0.0)


def _regression(examples: Examples, inverse_penalty: float) -> tuple[Floats, Floats]:
    """(weight (classes, d), bias (classes,)) in the frame of the vectors themselves."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # it takes a second to import
    from threadpoolctl import threadpool_limits

    middle = examples.vectors.mean(axis=0)
    inputs = examples.vectors - middle
    scale = max(float(inputs.std()), _FLOOR)
    model: Any = LogisticRegression(C=inverse_penalty, max_iter=_MOST_STEPS)
    with warnings.catch_warnings(), threadpool_limits(1):  # sums in another order would be another head
        warnings.simplefilter("ignore", ConvergenceWarning)  # one that did not quite converge is judged as it is
        model.fit(inputs / scale, examples.codes)
    weight, bias = np.asarray(model.coef_) / scale, np.asarray(model.intercept_)
    if len(weight) == 1:  # of two classes scikit-learn says how much the second one is the likelier
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias - weight @ middle
