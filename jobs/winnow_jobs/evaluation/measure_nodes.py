"""How good are labels that stand in a tree? Right is a node on the way to the true one, the better the deeper."""

from collections import Counter
from typing import Any

from winnow_jobs.evaluation.measure import Pair
from winnow_workers.evaluation import acceptance, classes
from winnow_workers.evaluation.intervals import Interval, wilson

MOST_CONFUSED = 20


class Nodes:
    """Keeps counts only."""

    def __init__(self) -> None:
        self._n = self._right = self._exact = self._unsure = 0
        self._shared = self._said = self._true = 0  # labels on the paths: in both, predicted, true
        self._counts: Counter[tuple[str, str | None]] = Counter()

    def add(self, pair: Pair) -> bool:
        """Whether the true label lies at or below the predicted one."""
        true, struct = pair.truth.path or (), pair.struct or {}
        label = struct.get("label")
        path = [one if isinstance(one, str) else one["label"] for one in struct.get("path") or []]
        ok = acceptance.node_ok(true, label)
        self._n += 1
        self._right += ok
        self._exact += bool(true) and label == true[-1]
        self._unsure += label is None
        self._shared += len({*true} & {*path})
        self._said += len(path)
        self._true += len(true)
        # a right answer that stops above the truth is a hit of where it stops
        self._counts[label if ok and label is not None else true[-1], label] += 1
        return ok

    def measures(self) -> dict[str, float]:
        """`hierarchical_*` (Kiritchenko et al., 2006) are over all labels of the paths, `unsure_share` of no label."""
        precision = self._shared / self._said if self._said else 0.0
        recall = self._shared / self._true if self._true else 0.0
        return {
            "accuracy": self._right / self._n,
            "exact_accuracy": self._exact / self._n,
            "unsure_share": self._unsure / self._n,
            "hierarchical_precision": precision,
            "hierarchical_recall": recall,
            "hierarchical_f1": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        }

    def tables(self) -> dict[str, Any]:
        """Every label that was predicted, or is true of an item that was told wrongly."""
        scores = classes.class_scores(self._counts)
        return {
            "classes": [[o.label, o.precision, o.recall, o.f1, o.support, o.predicted] for o in scores],
            "most_confused": classes.most_confused(self._counts, MOST_CONFUSED),
        }

    def intervals(self) -> dict[str, Interval]:
        """Wilson's."""
        return {"accuracy": wilson(self._right, self._n), "exact_accuracy": wilson(self._exact, self._n)}
