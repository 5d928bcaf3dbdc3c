"""What does an image show as a whole? One label per image, by any torchvision, timm or builtin classifier."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from winnow_storage.errors import ModelError
from winnow_storage.ids import digest_value
from winnow_workers.models.architectures import default_preprocessing
from winnow_workers.models.build import Network, open_network
from winnow_workers.models.hub import public_labels
from winnow_workers.models.model_file import Calibrator, Preprocessing
from winnow_workers.models.precision import TorchParams, Wanted, open_batch, precision_id
from winnow_workers.models.preprocess import needed_side_px, preproc_id
from winnow_workers.operator import Operator, Pending, Prediction, View

Logits = np.ndarray[Any, np.dtype[np.float64]]


class ClassifyParams(TorchParams):
    """`labels`: the label set, where the weights do not carry it; `input`: what the model expects, likewise."""

    labels: tuple[str, ...] = ()
    input: Preprocessing | None = None
    top_k: int = Field(default=5, ge=1, le=100)


class ClassifyOperator(Operator[ClassifyParams]):
    """Softmax over the model's logits; `p_ok` is the top-1 probability after temperature scaling, where it is fitted.

    Acceptance test: the label is the right one.
    """

    params_type = ClassifyParams

    def open(self) -> None:
        """Load the classifier and settle its label set."""
        network = open_network(self.model, device=self.device, n_labels=len(self.params.labels) or None)
        card = network.card
        self._input = (
            self.params.input or (card.preprocessing if card else None) or default_preprocessing(network.architecture)
        )
        wanted = Wanted(self.params.precision, self._input, "choice", self.model, self.threads)
        self._batch = open_batch(network.module, self.device, wanted)
        zeros = self._batch.inputs([np.zeros((1, 1, 3), np.uint8)])
        shape = tuple(self._batch(zeros)[0].shape)
        if len(shape) != 1:
            raise ModelError(
                f"{self.model.name}: {network.architecture} gives outputs of shape {shape}, a classifier gives logits",
                hint="name a classifier",
            )
        self._labels = self._label_set(network, count=shape[0])
        self._calibrator = card.calibrator if card else None

    def _label_set(self, network: Network, *, count: int) -> tuple[str, ...]:
        labels: tuple[str, ...] | None = self.params.labels or (network.card.labels if network.card else ())
        if not labels and self.model.weights.kind == "random":
            labels = tuple(str(index) for index in range(count))
        if not labels and self.model.weights.kind == "pretrained":
            labels = public_labels(network.architecture, count)
        if not labels:
            raise ModelError(
                f"{self.model.name}: the weights do not say what their {count} labels are",
                hint="add labels: [...] to the task, in the order of the model's outputs",
            )
        if len(labels) != count:
            raise ModelError(
                f"{self.model.name}: {len(labels)} labels for a model with {count} outputs",
                hint="give one label per output of the model, in its order",
            )
        return labels

    @property
    def preproc(self) -> str:
        """The id of the input's preprocessing."""
        return precision_id(preproc_id(self._input), self._batch)

    @property
    def needed_side_px(self) -> int | None:
        """The input's longer side."""
        return needed_side_px(self._input)

    @property
    def batch_size(self) -> int:
        """The fixed batch."""
        return self._batch.at_once

    def fields(self) -> list[pa.Field]:
        """The label, how far ahead of the next it is, and the runners-up."""
        entry = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())])
        return [
            pa.field("label", pa.string()),
            pa.field("margin", pa.float32()),  # top-1 minus top-2 of the softmax
            pa.field("top", pa.list_(entry)),
            pa.field("entropy", pa.float32()),  # of the softmax, in nats
        ]

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """One label per view."""
        return self.begin(views).collect()

    def begin(self, views: Sequence[View]) -> Pending:
        """The same, later."""
        answers = self._batch.begin(self._batch.inputs([view.pixels for view in views]))
        return Pending(
            lambda: [self._predict(output.numpy().astype(np.float64)) for output in answers.collect()],
            answers.held_bytes,
        )

    def _predict(self, logits: Logits) -> Prediction:
        if not np.isfinite(logits).all():
            raise ArithmeticError("the model's logits are not finite")
        scores = softmax(logits)
        order = np.argsort(-scores, kind="stable")[: max(2, self.params.top_k)]
        best = float(scores[order[0]])
        second = float(scores[order[1]]) if len(scores) > 1 else 0.0
        top = [{"label": self._labels[i], "score": float(scores[i])} for i in order[: self.params.top_k]]
        p_ok, calibrator = None, None
        if self._calibrator is not None:
            p_ok = float(softmax(logits / self._calibrator.temperature).max())
            calibrator = calibrator_id(self._calibrator)
        return Prediction(
            fields={
                "label": self._labels[order[0]],
                "margin": best - second,
                "top": top,
                "entropy": float(-(scores * np.log(np.clip(scores, 1e-300, None))).sum()),
            },
            score=best,
            score_kind="softmax",
            p_ok=p_ok,
            calibrator=calibrator,
        )


def softmax(logits: Logits) -> Logits:
    """Probabilities over the last axis."""
    powers: Logits = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total: Logits = powers.sum(axis=-1, keepdims=True)
    return powers / total


def calibrator_id(calibrator: Calibrator) -> str:
    """What a row says of the calibrator that was applied, such as "temperature:3f2a9c01d4e5"."""
    return f"{calibrator.kind}:{digest_value(calibrator.model_dump(mode='json'))[:12]}"
