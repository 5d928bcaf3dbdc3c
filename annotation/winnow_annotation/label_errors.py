"""Which labels look wrong? Those that a classifier which never saw them finds unlikely (confident learning).

Out-of-fold probabilities of a linear classifier on the items' embeddings, and their self-confidence: Northcutt, Jiang &
Chuang, Confident learning: estimating uncertainty in dataset labels, JAIR 70, 2021, as cleanlab computes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from winnow_annotation.consensus.votes import Floats, Ints
from winnow_storage.errors import UsageError

FOLDS = 5
_INVERSE_PENALTIES = (0.02, 0.1, 0.5, 2.5)  # wrong labels call for more penalty than right ones; which, they tell
_MAX_STEPS = 500


@dataclass(frozen=True, slots=True)
class Suspect:
    """An item whose label looks wrong: `quality` is the probability out of fold of its label, `better` the likeliest.

    `is_issue`: confident learning calls it an error; the others are merely less likely.
    """

    place: int
    label: str
    better: str
    quality: float
    is_issue: bool


def suspects(vectors: Floats, labels: Sequence[str], *, seed: int = 0) -> list[Suspect]:
    """All labelled items, the most suspicious first; `vectors` is (n, d), the embeddings.

    Items of a class with fewer than FOLDS labels are left out: a classifier that has not seen them cannot know it.

    Raises:
        UsageError: fewer than two classes have enough labels.
    """
    from cleanlab.filter import find_label_issues  # it and scikit-learn take seconds to import
    from cleanlab.rank import get_label_quality_scores

    kept, classes, codes = _learnable(labels)
    probabilities = out_of_fold(vectors[kept], codes, seed=seed)
    quality = np.asarray(get_label_quality_scores(codes, probabilities, method="self_confidence"))
    issues = np.asarray(find_label_issues(codes, probabilities, n_jobs=1), bool)
    best = probabilities.argmax(axis=1)
    order = sorted(range(len(kept)), key=lambda row: (quality[row], int(kept[row])))
    return [
        Suspect(int(kept[row]), classes[codes[row]], classes[best[row]], float(quality[row]), bool(issues[row]))
        for row in order
    ]


def out_of_fold(vectors: Floats, codes: Ints, *, seed: int = 0) -> Floats:
    """(n, classes): of each item the probabilities of a logistic regression that was learned without its fold.

    Of several penalties that one which makes the labels likeliest.
    """
    from sklearn.model_selection import StratifiedKFold

    inputs = np.asarray(vectors, np.float64)
    inputs = inputs - inputs.mean(axis=0)
    inputs /= max(float(inputs.std()), 1e-12)
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(inputs, codes))
    tried = [_predicted(inputs, codes, folds, penalty) for penalty in _INVERSE_PENALTIES]
    return max(tried, key=lambda found: float(np.log(np.maximum(found[np.arange(len(codes)), codes], 1e-12)).mean()))


def _predicted(inputs: Floats, codes: Ints, folds: Sequence[tuple[Ints, Ints]], penalty: float) -> Floats:
    from sklearn.linear_model import LogisticRegression

    found = np.zeros((len(codes), int(codes.max()) + 1))
    for train, held in folds:
        head: Any = LogisticRegression(C=penalty, max_iter=_MAX_STEPS).fit(inputs[train], codes[train])
        found[np.ix_(held, head.classes_)] = head.predict_proba(inputs[held])
    return found


def _learnable(labels: Sequence[str]) -> tuple[Ints, list[str], Ints]:
    names, counts = np.unique(np.asarray(labels, dtype=object).astype(str), return_counts=True)
    classes = [str(name) for name, count in zip(names, counts, strict=True) if count >= FOLDS]
    if len(classes) < 2:
        raise UsageError(
            f"of {len(labels)} labels fewer than two classes have {FOLDS} each: nothing can be learned from them",
            hint="label more items, then look for label errors again",
        )
    code = {name: place for place, name in enumerate(classes)}
    kept = np.array([place for place, label in enumerate(labels) if label in code], np.int64)
    return kept, classes, np.array([code[labels[place]] for place in kept], np.int64)
