"""Which classes are told from which? Confusion counts, and what follows from them: accuracy, precision, recall, F1.

Counts are sparse, so that ten thousand classes cost no more than the pairs that occur; they add up over parts of the
data. `None` as a predicted label stands for no answer (the task failed): it is always wrong and no class.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Confusion = Mapping[tuple[str, str | None], int]  # (true label, predicted label) -> items


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class. Precision is 0 where nothing was predicted as it, recall where nothing is it, F1 where both are 0."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int  # items that are of it
    predicted: int  # items that were said to be


@dataclass(frozen=True, slots=True)
class Average:
    """Precision, recall and F1 over classes."""

    precision: float
    recall: float
    f1: float


def confusion(true: Sequence[str], predicted: Sequence[str | None]) -> Confusion:
    """How often each pair occurs.

    Raises:
        ValueError: they differ in length.
    """
    return Counter(zip(true, predicted, strict=True))


def labels_of(counts: Confusion) -> list[str]:
    """Every class that is true or predicted of some item, sorted."""
    return sorted({name for pair in counts for name in pair if name is not None})


def accuracy(counts: Confusion) -> float:
    """The share of items whose predicted label is the true one; NaN without items."""
    total = sum(counts.values())
    return right(counts) / total if total else float("nan")


def right(counts: Confusion) -> int:
    """How many items are labelled rightly."""
    return sum(count for (true, predicted), count in counts.items() if true == predicted)


def class_scores(counts: Confusion) -> list[ClassScore]:
    """Every class of `labels_of`, in that order."""
    support: Counter[str] = Counter()
    predicted: Counter[str | None] = Counter()
    for (is_true, is_said), count in counts.items():
        support[is_true] += count
        predicted[is_said] += count
    return [
        score_of(label, hits=counts.get((label, label), 0), support=support[label], predicted=predicted[label])
        for label in labels_of(counts)
    ]


def macro(scores: Sequence[ClassScore]) -> Average:
    """The plain mean over classes; NaN without any."""
    return _mean(scores, np.ones(len(scores)))


def weighted(scores: Sequence[ClassScore]) -> Average:
    """The mean over classes weighted by their support; NaN without items."""
    return _mean(scores, np.array([one.support for one in scores], np.float64))


def micro(counts: Confusion) -> Average:
    """Over all items: precision of those that were answered, recall of all; 0 where there is nothing."""
    answered = sum(count for (_, predicted), count in counts.items() if predicted is not None)
    one = score_of("", hits=right(counts), support=sum(counts.values()), predicted=answered)
    return Average(one.precision, one.recall, one.f1)


def balanced_accuracy(scores: Sequence[ClassScore]) -> float:
    """The mean recall of the classes that some item is of; NaN without any."""
    recalls = [one.recall for one in scores if one.support]
    return float(np.mean(recalls)) if recalls else float("nan")


def most_confused(counts: Confusion, at_most: int) -> list[tuple[str, str | None, int]]:
    """(true, predicted, items) of the most frequent errors; of equal counts the first by name."""
    errors = [(true, said, count) for (true, said), count in counts.items() if true != said]
    return sorted(errors, key=lambda one: (-one[2], one[0], one[1] or ""))[:at_most]


def matrix(counts: Confusion, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """(true, predicted) over `labels`; the last column is everything else, no answer included."""
    place = {label: index for index, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels) + 1), np.int64)
    for (true, predicted), count in counts.items():
        if true in place:
            table[place[true], place.get(predicted, len(labels)) if predicted is not None else len(labels)] += count
    return table


def top_k_hit(true: str, ranked: Iterable[str], k: int) -> bool:
    """Whether the true label is among the first k."""
    return true in list(ranked)[:k]


def score_of(label: str, *, hits: int, support: int, predicted: int) -> ClassScore:
    """A class of which `hits` items are told rightly, of `support` that are it, `predicted` that were said to be."""
    precision, recall = hits / predicted if predicted else 0.0, hits / support if support else 0.0
    f1 = 2 * hits / (support + predicted) if support + predicted else 0.0
    return ClassScore(label, precision, recall, f1, support, predicted)


def _mean(scores: Sequence[ClassScore], weights: npt.NDArray[Any]) -> Average:
    if not weights.sum():
        return Average(float("nan"), float("nan"), float("nan"))
    table = np.array([(one.precision, one.recall, one.f1) for one in scores])
    precision, recall, f1 = (weights @ table) / weights.sum()
    return Average(float(precision), float(recall), float(f1))
