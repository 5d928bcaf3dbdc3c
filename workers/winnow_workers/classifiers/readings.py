"""How are a model's logits read? As one label, as a set of labels, or as a node of a tree of labels. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_storage.ids import digest_value
from winnow_workers.classifiers.label_tree import Floats, LabelTree
from winnow_workers.models.model_file import Calibrator
from winnow_workers.operator import Prediction

Link = Literal["softmax", "sigmoid"]  # whether the labels exclude each other in what the model was trained for
_ENTRY = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())])


class Reading(ABC):
    """One way to read logits."""

    @abstractmethod
    def fields(self) -> list[pa.Field]:
        """The fields of a prediction."""

    @abstractmethod
    def read(self, logits: Floats) -> Prediction:
        """(outputs,) finite logits of one image."""


@dataclass(frozen=True, slots=True)
class OneLabel(Reading):
    """The label of the highest logit; its score by `link`. `calibrator` is a temperature, for a softmax only."""

    labels: Sequence[str]
    top_k: int
    link: Link = "softmax"
    calibrator: Calibrator | None = None

    def fields(self) -> list[pa.Field]:
        """The label, how far ahead of the next it is, and the runners-up."""
        return [pa.field("label", pa.string()), *_common_fields()]

    def read(self, logits: Floats) -> Prediction:
        """The surest."""
        probabilities = softmax(logits)
        scores = probabilities if self.link == "softmax" else sigmoid(logits)
        order = highest(logits, max(2, self.top_k))
        best = float(scores[order[0]])
        second = float(scores[order[1]]) if len(scores) > 1 else 0.0
        p_ok, calibrator = None, None
        if self.calibrator is not None and self.link == "softmax":
            p_ok = float(softmax(logits / self.calibrator.temperature).max())
            calibrator = calibrator_id(self.calibrator)
        return Prediction(
            fields={
                "label": self.labels[order[0]],
                "margin": best - second,
                "top": _entries(self.labels, scores, order[: self.top_k]),
                "entropy": entropy(probabilities),
            },
            score=best,
            score_kind=self.link,
            p_ok=p_ok,
            calibrator=calibrator,
        )


@dataclass(frozen=True, slots=True)
class SeveralLabels(Reading):
    """Every label whose sigmoid reaches its threshold; those from `floor` on are kept with their probabilities.

    The score is the probability that all of it is right, were the labels independent: the product over all labels of
    the sigmoid where it is put out, of 1 - sigmoid where it is not.
    """

    labels: Sequence[str]
    thresholds: Floats  # (labels,)
    floor: float

    def fields(self) -> list[pa.Field]:
        """The set, how near its closest call was, and every label above the floor."""
        return [pa.field("labels", pa.list_(pa.string())), *_common_fields()]

    def read(self, logits: Floats) -> Prediction:
        """The set."""
        # as they are written: a score that rounds to a threshold must not be on its other side in the row
        scores = sigmoid(logits).astype(np.float32)
        thresholds = self.thresholds.astype(np.float32)
        is_in = scores >= thresholds
        order = np.argsort(-logits, kind="stable")
        decided = np.where(is_in, logits, -logits)
        inside = sigmoid(logits)
        binary = -(inside * _log_sigmoid(logits) + (1.0 - inside) * _log_sigmoid(-logits))
        return Prediction(
            fields={
                "labels": [self.labels[index] for index in order if is_in[index]],
                "margin": float(np.abs(scores - thresholds).min()),
                "top": _entries(self.labels, scores, [index for index in order if scores[index] >= self.floor]),
                "entropy": float(binary.sum()),
            },
            score=float(np.exp(_log_sigmoid(decided).sum())),
            score_kind="set_sigmoid",
        )


@dataclass(frozen=True, slots=True)
class Node(Reading):
    """The deepest node of a tree whose probability is at least `sure`; its score is that probability.

    Where not even a node at the top is, the label is null, and the score that of the most probable one there.
    """

    labels: Sequence[str]
    tree: LabelTree
    sure: float
    top_k: int
    calibrator: Calibrator | None = None

    def fields(self) -> list[pa.Field]:
        """The node, the way to it with its probabilities, and the model's own labels."""
        return [pa.field("label", pa.string()), pa.field("path", pa.list_(_ENTRY)), *_common_fields()]

    def read(self, logits: Floats) -> Prediction:
        """Where it is sure."""
        scores = softmax(logits)
        sums = self.tree.summed(scores)
        path = self.tree.descend(sums, self.sure)
        node = path[-1] if path else self.tree.best_top(sums)
        order = highest(logits, max(2, self.top_k))
        second = float(scores[order[1]]) if len(scores) > 1 else 0.0
        p_ok, calibrator = None, None
        if self.calibrator is not None:
            # to say nothing is never right
            p_ok = float(self.tree.summed(softmax(logits / self.calibrator.temperature))[node]) if path else 0.0
            calibrator = calibrator_id(self.calibrator)
        return Prediction(
            fields={
                "label": self.tree.nodes[node] if path else None,
                "path": _entries(self.tree.nodes, sums, path),
                "margin": float(scores[order[0]]) - second,
                "top": _entries(self.labels, scores, order[: self.top_k]),
                "entropy": entropy(scores),
            },
            score=float(sums[node]),
            score_kind="softmax_node",
            p_ok=p_ok,
            calibrator=calibrator,
        )


def highest(values: Floats, count: int) -> npt.NDArray[np.intp]:
    """Where the `count` highest of some finite values stand, the highest first; of equal ones the first one first.

    Without sorting the others: of a thousand labels a few are wanted.
    """
    if count >= len(values):
        return np.argsort(-values, kind="stable")
    among = np.flatnonzero(values >= np.partition(values, -count)[-count])  # more than `count` where some are equal
    return among[np.argsort(-values[among], kind="stable")][:count]


def softmax(logits: Floats) -> Floats:
    """Probabilities over the last axis."""
    powers: Floats = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Floats = powers.sum(axis=-1, keepdims=True)
    return powers / total


def sigmoid(logits: Floats) -> Floats:
    """Each by itself."""
    found: Floats = np.exp(_log_sigmoid(logits))
    return found


def entropy(probabilities: Floats) -> float:
    """In nats."""
    return float(-(probabilities * np.log(np.clip(probabilities, 1e-300, None))).sum())


def calibrator_id(calibrator: Calibrator) -> str:
    """What a row says of the calibrator that was applied, such as "temperature:3f2a9c01d4e5"."""
    return f"{calibrator.kind}:{digest_value(calibrator.model_dump(mode='json'))[:12]}"


def _common_fields() -> list[pa.Field]:
    return [
        pa.field("margin", pa.float32()),  # one label, a tree: top-1 minus top-2; a set: the least |score - threshold|
        pa.field("top", pa.list_(_ENTRY)),
        pa.field("entropy", pa.float32()),  # in nats, of the softmax; of a set the sum over the labels
    ]


def _log_sigmoid(logits: Floats) -> Floats:
    found: Floats = -np.logaddexp(0.0, -logits)
    return found


def _entries(names: Sequence[str], scores: Any, chosen: Any) -> list[Mapping[str, Any]]:
    return [{"label": names[index], "score": float(scores[index])} for index in chosen]
