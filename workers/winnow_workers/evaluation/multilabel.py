"""How good are predictions of several labels per item? mAP over classes, subset accuracy, F1, by sets and by scores."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from winnow_workers.evaluation.classes import ClassScore, score_of
from winnow_workers.evaluation.ranking import average_precision

LabelSet = Collection[str]


def subset_accuracy(true: Sequence[LabelSet], predicted: Sequence[LabelSet]) -> float:
    """The share of items whose set of labels is exactly the true one; NaN without items."""
    return float(np.mean([set(a) == set(b) for a, b in zip(true, predicted, strict=True)])) if true else float("nan")


def hamming_loss(true: Sequence[LabelSet], predicted: Sequence[LabelSet], labels: Sequence[str]) -> float:
    """The share of (item, label) that is said wrongly; NaN without any."""
    wrong = sum(len(set(a) ^ set(b)) for a, b in zip(true, predicted, strict=True))
    return wrong / (len(true) * len(labels)) if true and labels else float("nan")


def label_scores(true: Sequence[LabelSet], predicted: Sequence[LabelSet], labels: Sequence[str]) -> list[ClassScore]:
    """Precision, recall and F1 of each label."""
    pairs = [(set(a), set(b)) for a, b in zip(true, predicted, strict=True)]
    return [
        score_of(
            label,
            hits=sum(label in a and label in b for a, b in pairs),
            support=sum(label in a for a, _ in pairs),
            predicted=sum(label in b for _, b in pairs),
        )
        for label in labels
    ]


def micro_score(scores: Sequence[ClassScore]) -> ClassScore:
    """All labels as one: the sums of their hits, supports and predictions."""
    hits = sum(round(one.recall * one.support) for one in scores)
    return score_of(
        "micro",
        hits=hits,
        support=sum(one.support for one in scores),
        predicted=sum(one.predicted for one in scores),
    )


def average_precisions(
    true: Sequence[LabelSet], scores: Sequence[Mapping[str, float]], labels: Sequence[str]
) -> dict[str, float]:
    """Per label, over all items; an item that gives a label no score gives it 0. NaN where no item has the label."""
    return {
        label: average_precision(
            np.array([one.get(label, 0.0) for one in scores]), np.array([label in one for one in true], np.bool_)
        )
        for label in labels
    }


def mean_ap(per_label: Mapping[str, float]) -> float:
    """The mean over the labels that some item has; NaN without any."""
    found = [value for value in per_label.values() if not np.isnan(value)]
    return float(np.mean(found)) if found else float("nan")
