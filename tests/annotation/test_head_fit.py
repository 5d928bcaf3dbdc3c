"""Linear heads: what they learn, that the same labels give the same head, and what cannot teach."""

import numpy as np
import pytest

from winnow_annotation.head_fit import FOLDS, Examples, examples_of, fit_linear, fold_numbers, half, softmax
from winnow_storage.errors import UsageError


def clusters(n: int, classes: int = 3, *, seed: int = 0, spread: float = 0.4) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    middles = np.random.default_rng(99).normal(size=(classes, 16))
    codes = np.arange(n) % classes
    return middles[codes] + random.normal(0, spread, (n, 16)), [f"c{code}" for code in codes]


def accuracy(examples: Examples, vectors: np.ndarray, labels: list[str]) -> float:
    found = fit_linear(examples, seed=0)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    said = np.array(examples.classes)[(units @ found.weight.T + found.bias).argmax(axis=1)]
    return float((said == np.array(labels)).mean())


@pytest.mark.parametrize("classes", [2, 4])
def test_fit_linear__tells_classes_apart(classes: int) -> None:
    vectors, labels = clusters(120, classes)
    examples = examples_of(vectors, labels)
    found = fit_linear(examples, seed=0)
    assert found.weight.shape == (classes, 16)
    assert found.weight.dtype == np.float32
    assert found.accuracy > 0.9
    assert accuracy(examples, *clusters(300, classes, seed=1)) > 0.9
    assert softmax(examples.vectors @ found.weight.T + found.bias).sum(axis=1) == pytest.approx(1.0)


def test_fit_linear__is_the_same_for_the_same_labels() -> None:
    examples = examples_of(*clusters(90))
    one, two = (fit_linear(examples, seed=3) for _ in range(2))
    assert one.weight.tobytes() == two.weight.tobytes()
    assert (one.bias.tobytes(), one.accuracy) == (two.bias.tobytes(), two.accuracy)


def test_fit_linear__a_class_with_one_label_teaches_and_is_never_left_out() -> None:
    vectors, labels = clusters(60)
    examples = examples_of(np.concatenate([vectors, -vectors[:1]]), [*labels, "alone"])
    folds = fold_numbers(examples.codes, 0)
    assert folds[-1] == -1
    found = fit_linear(examples, seed=0)
    assert found.weight.shape[0] == 4


def test_fold_numbers__deal_each_class_out_evenly() -> None:
    codes = np.repeat(np.arange(4), [7, 20, 2, 1])
    folds = fold_numbers(codes, 5)
    for code in range(3):
        counts = np.bincount(folds[codes == code], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    assert (folds == -1).sum() == 1


def test_half__keeps_half_of_each_class() -> None:
    examples = examples_of(*clusters(31, 3))
    found = half(examples, 1)
    assert found.classes == examples.classes
    assert np.bincount(found.codes).tolist() == [6, 5, 5]
    assert half(examples, 1).codes.tolist() == found.codes.tolist()


def test_examples__too_few_and_all_alike() -> None:
    vectors, labels = clusters(9)
    with pytest.raises(UsageError, match="9 labels can teach, at least 10 are needed"):
        examples_of(vectors, labels)
    vectors, _ = clusters(12)
    with pytest.raises(UsageError, match="all 12 labels say 'cat': there is nothing to tell apart"):
        examples_of(vectors, ["cat"] * 12)
