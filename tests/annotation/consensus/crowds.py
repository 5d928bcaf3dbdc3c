"""People as the tests need them: each right with their own probability, wrong evenly otherwise."""

from collections.abc import Sequence

import numpy as np

from winnow_annotation.consensus.opinions import Opinion
from winnow_annotation.consensus.votes import Ints

NAMES = ("ann", "bob", "cat", "dan", "eve")
ACCURACY = (0.95, 0.9, 0.8, 0.7, 0.6)


def says(truth: Ints, accuracy: Sequence[float], classes: int, rng: np.random.Generator) -> Ints:
    """(annotators, items): what each would say."""
    wrong = (truth + rng.integers(1, classes, (len(accuracy), len(truth)))) % classes
    right = rng.uniform(size=wrong.shape) < np.array(accuracy)[:, None]
    return np.where(right, truth, wrong).astype(np.int64)


def choose(item: int, annotator: int, answer: int, *, is_blind: bool = True) -> Opinion:
    return Opinion(f"{item:05d}", NAMES[annotator], {"label": str(answer)}, is_blind)
