"""How good are labels of whole images? One label each, several, or one of a tree."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from winnow_jobs.evaluation.measure import Indices, Judged, Measure, Pair, Statistic, Struct
from winnow_jobs.evaluation.measure_nodes import Nodes
from winnow_workers.evaluation import acceptance, classes, multilabel
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.intervals import Interval, wilson

MOST_CONFUSED = 20
MATRIX_LABELS = 30  # a larger confusion matrix is a table of its most frequent labels
TOP_K = (3, 5)


class ClassifyMeasure(Measure):
    """One label, several, or one of a tree: as the truth has it."""

    value_name: ClassVar[str] = "accuracy"

    def __init__(self, wanted: Acceptance) -> None:
        super().__init__(wanted)
        self._own: OneLabel | SeveralLabels | Nodes | None = None

    def add(self, pair: Pair) -> Judged:
        """1 if it is ok, else 0."""
        if self._own is None:
            self._own = _measure_of(pair)
        ok = self._own.add(pair)
        return Judged(ok, float(ok))

    def measures(self) -> dict[str, float]:
        """Those of one label, of several, or of a tree."""
        return {} if self._own is None else self._own.measures()

    def tables(self) -> dict[str, Any]:
        """Every class, and what is taken for what."""
        return {} if self._own is None else self._own.tables()

    def intervals(self) -> dict[str, Interval]:
        """Of the shares of items."""
        return {} if self._own is None else self._own.intervals()

    def statistics(self) -> dict[str, Statistic]:
        """The mAP over several labels."""
        return self._own.statistics() if isinstance(self._own, SeveralLabels) else {}


class OneLabel:
    """Keeps counts only: its memory is that of the pairs of labels that occur."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str | None]] = Counter()
        self._hits = dict.fromkeys(TOP_K, 0)
        self._longest = 0  # list of candidates in any prediction

    def add(self, pair: Pair) -> bool:
        """Whether its label is right."""
        true, said = pair.truth.label or "", None if pair.struct is None else pair.struct.get("label")
        self._counts[true, said] += 1
        ranked = [one["label"] for one in (pair.struct or {}).get("top") or []]
        self._longest = max(self._longest, len(ranked))
        for k in TOP_K:
            self._hits[k] += classes.top_k_hit(true, ranked, k)
        return acceptance.label_ok(true, said)

    def measures(self) -> dict[str, float]:
        """Top-k only where predictions have k candidates."""
        counts, scores, n = self._counts, classes.class_scores(self._counts), self._counts.total()
        found = {"accuracy": classes.accuracy(counts), "balanced_accuracy": classes.balanced_accuracy(scores)}
        found |= {f"top_{k}_accuracy": self._hits[k] / n for k in TOP_K if self._longest >= k}
        averages = {
            "macro": classes.macro(scores),
            "weighted": classes.weighted(scores),
            "micro": classes.micro(counts),
        }
        for name, average in averages.items():
            found[f"{name}_precision"], found[f"{name}_recall"] = average.precision, average.recall
            found[f"{name}_f1"] = average.f1
        return found

    def tables(self) -> dict[str, Any]:
        """The confusion matrix is of the labels with the most items, true labels down, the last column all others."""
        scores = classes.class_scores(self._counts)
        largest = sorted(scores, key=lambda one: (-one.support - one.predicted, one.label))[:MATRIX_LABELS]
        labels = sorted(one.label for one in largest)
        return {
            "classes": class_rows(scores),
            "most_confused": classes.most_confused(self._counts, MOST_CONFUSED),
            "confusion": {"labels": labels, "counts": classes.matrix(self._counts, labels).tolist()},
        }

    def intervals(self) -> dict[str, Interval]:
        """Wilson's."""
        n = self._counts.total()
        tops = {f"top_{k}_accuracy": wilson(self._hits[k], n) for k in TOP_K if self._longest >= k}
        return {"accuracy": wilson(classes.right(self._counts), n)} | tops


class SeveralLabels:
    """Keeps the sets and the scores of every item."""

    def __init__(self) -> None:
        self._true: list[frozenset[str]] = []
        self._said: list[frozenset[str]] = []
        self._scores: list[Mapping[str, float]] = []

    def add(self, pair: Pair) -> bool:
        """Whether its set of labels is right; an item that failed has none, which is never right."""
        true, said = frozenset(pair.truth.labels or ()), _said_labels(pair.struct)
        self._true.append(true)
        self._said.append(said)
        top = [] if pair.struct is None else pair.struct.get("top") or []
        self._scores.append({one["label"]: float(one["score"]) for one in top})
        return pair.struct is not None and acceptance.labels_ok(true, said)

    def measures(self) -> dict[str, float]:
        """The mAP is over the labels that some item has."""
        labels = sorted({label for some in (*self._true, *self._said) for label in some})
        scores = multilabel.label_scores(self._true, self._said, labels)
        return {
            "subset_accuracy": multilabel.subset_accuracy(self._true, self._said),
            "hamming_loss": multilabel.hamming_loss(self._true, self._said, labels),
            "map": self._map(np.arange(len(self._true))),
            "micro_f1": multilabel.micro_score(scores).f1,
            "macro_f1": classes.macro(scores).f1,
        }

    def tables(self) -> dict[str, Any]:
        """Every label."""
        labels = sorted({label for some in (*self._true, *self._said) for label in some})
        return {"classes": class_rows(multilabel.label_scores(self._true, self._said, labels))}

    def intervals(self) -> dict[str, Interval]:
        """Wilson's."""
        right = sum(one == other for one, other in zip(self._true, self._said, strict=True))
        return {"subset_accuracy": wilson(right, len(self._true))}

    def statistics(self) -> dict[str, Statistic]:
        """The mAP of drawn items."""
        return {"map": self._map}

    def _map(self, chosen: Indices) -> float:
        true, scores = [self._true[at] for at in chosen], [self._scores[at] for at in chosen]
        labels = sorted({label for some in true for label in some})
        return multilabel.mean_ap(multilabel.average_precisions(true, scores, labels))


def _measure_of(pair: Pair) -> "OneLabel | SeveralLabels | Nodes":
    if pair.truth.labels is not None:
        return SeveralLabels()
    return OneLabel() if pair.truth.path is None else Nodes()


def class_rows(scores: list[classes.ClassScore]) -> list[list[Any]]:
    """[label, precision, recall, F1, items that are it, items that were said to be]."""
    return [[one.label, one.precision, one.recall, one.f1, one.support, one.predicted] for one in scores]


def _said_labels(struct: Struct) -> frozenset[str]:
    if struct is None:
        return frozenset()
    several = struct.get("labels")
    if several is not None:
        return frozenset(one if isinstance(one, str) else one["label"] for one in several)
    return frozenset([struct["label"]] if struct.get("label") is not None else [])
