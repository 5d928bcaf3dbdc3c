"""What does an image show as a whole? One label, several, or a node of a tree of labels.

With `vectors` it is told from the vector that another task made of the image, by a head (`operators.head`).
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from winnow_storage.errors import ModelError, SpecError
from winnow_workers.classifiers.classifier import Asked, Classifier
from winnow_workers.classifiers.label_file import read_label_file
from winnow_workers.classifiers.label_tree import LabelTree, leaves, read_tree
from winnow_workers.classifiers.opening import open_classifier, pair_of
from winnow_workers.classifiers.prompts import Prompts
from winnow_workers.classifiers.readings import Node, OneLabel, Reading, SeveralLabels
from winnow_workers.models.model_file import Preprocessing
from winnow_workers.models.precision import TorchParams
from winnow_workers.operator import Operator, Pending, Prediction, View

Choose = Literal["one", "several"]
THRESHOLD, FLOOR, SURE = 0.5, 0.01, 0.9
_NOT_OF_HEADS = ("labels", "label_file", "input", "prompts", "precision")  # a head has its own labels, and no pixels


def _by_default(default: object) -> Any:
    """Left out of what a task's digest is made of, so that tasks of before the key existed keep theirs."""
    return lambda value: value == default


class VectorsOf(BaseModel):
    """The task whose vectors are classified; its digest once the spec is resolved, so that it is in this task's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    digest: str | None = None


def _as_vectors_of(value: object) -> object:
    return {"task": value} if isinstance(value, str) else value


class ClassifyParams(TorchParams):
    """`labels`: the label set, where the weights do not carry it; `input`: what the model expects, likewise.

    `choose: several` gives every label whose probability reaches its threshold (`thresholds`, one for all or by label)
    and keeps those from `floor` on. `tree` puts labels under each other: the prediction is the deepest node whose
    probability is at least `sure`. `label_file` holds labels or a tree. `prompts` are for a CLIP or SigLIP pair.
    `vectors` names a task of embed, whose vectors a head classifies: then pixels and the labels of others mean nothing.
    """

    labels: tuple[str, ...] = ()
    input: Preprocessing | None = None
    top_k: int = Field(default=5, ge=1, le=100)
    choose: Choose | None = Field(default=None, exclude_if=_by_default(None))
    thresholds: float | Mapping[str, float] = Field(default=THRESHOLD, exclude_if=_by_default(THRESHOLD))
    floor: float = Field(default=FLOOR, ge=0.0, le=1.0, exclude_if=_by_default(FLOOR))
    tree: Mapping[str, str | None] = Field(default_factory=dict, exclude_if=lambda value: not value)
    sure: float = Field(default=SURE, ge=0.5, le=1.0, exclude_if=_by_default(SURE))
    prompts: Prompts | None = Field(default=None, exclude_if=_by_default(None))
    label_file: str | None = Field(default=None, exclude_if=_by_default(None))
    vectors: Annotated[VectorsOf | None, BeforeValidator(_as_vectors_of)] = Field(
        default=None, exclude_if=_by_default(None)
    )

    @field_validator("labels")
    @classmethod
    def _all_differ(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if any(not label.strip() for label in labels):
            raise ValueError("a label is empty")
        return labels

    @field_validator("thresholds")
    @classmethod
    def _are_probabilities(cls, thresholds: float | Mapping[str, float]) -> float | Mapping[str, float]:
        for value in thresholds.values() if isinstance(thresholds, Mapping) else (thresholds,):
            if not 0.0 < value <= 1.0:
                raise ValueError(f"the threshold {value} is no probability above 0")
        return thresholds

    @field_validator("tree", mode="before")
    @classmethod
    def _is_a_tree(cls, value: object) -> object:
        return read_tree(value) if value else {}

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.choose == "several" and self.tree:
            raise ValueError("choose: several and tree: exclude each other: in a tree one label is meant")
        only_several = self.thresholds != THRESHOLD or self.floor != FLOOR
        if only_several and self.choose != "several":
            raise ValueError("thresholds: and floor: need choose: several")
        if self.sure != SURE and not self.tree and self.label_file is None:
            raise ValueError("sure: needs a tree:")
        if self.label_file is not None and (self.labels or self.tree):
            raise ValueError("label_file: already says what labels: and tree: would: write one of them")
        if self.labels and self.tree:
            LabelTree.over(self.tree, self.labels)
        if self.labels and isinstance(self.thresholds, Mapping):
            _refuse_unknown(self.thresholds, self.labels)
        if self.labels and self.prompts is not None:
            self.prompts.of(self.labels)
        return self

    @model_validator(mode="after")
    def _are_of_a_head(self) -> Self:
        if self.vectors is None:
            return self
        given = [name for name in _NOT_OF_HEADS if getattr(self, name) != type(self).model_fields[name].default]
        if self.choose == "several":
            given.append("choose: several")
        if given:
            raise ValueError(f"vectors: says that a head classifies vectors, for which {given[0]} means nothing")
        return self

    def pinned(self, base: Path | None) -> Self:
        """With what the label file says in place of its name.

        Raises:
            SpecError, StoreError: it cannot be read, or says something else.
        """
        if self.label_file is None:
            return self
        found = read_label_file(self.label_file, base=base)
        said = self.model_dump(exclude={"label_file"}, exclude_unset=True)
        try:
            return type(self).model_validate(said | {"labels": found.labels, "tree": dict(found.tree)})
        except ValueError as error:
            raise SpecError(f"{self.label_file}: {_first_line(error)}", hint="correct the file or the task") from error


class ClassifyOperator(Operator[ClassifyParams]):
    """Softmax over the model's logits; `p_ok` is that after temperature scaling, where one is in the weights' card.

    Acceptance test: the label is the right one; all of the set is right; the node is the true label or above it.
    """

    params_type = ClassifyParams

    def open(self) -> None:
        """Load the classifier and settle its label set."""
        params = self.params.pinned(None)
        labels = params.labels
        if not labels and params.tree and pair_of(self.model) is not None:
            labels = leaves(params.tree)  # a pair has none of its own
        asked = Asked(
            model=self.model,
            labels=labels,
            input=params.input,
            prompts=params.prompts,
            precision=params.precision,
            device=self.device,
            threads=self.threads,
            images=self.images,
        )
        self._classifier = open_classifier(asked)
        self._reading = reading_of(self._classifier, params, self.model.name)

    @property
    def preproc(self) -> str:
        """The id of the input's preprocessing."""
        return self._classifier.preproc

    @property
    def needed_side_px(self) -> int | None:
        """The input's longer side, or what it is cut from."""
        return self._classifier.input.side_px

    @property
    def batch_size(self) -> int:
        """The fixed batch."""
        return self._classifier.batch.at_once

    def fields(self) -> list[pa.Field]:
        """Those of one label, of a set, or of a node."""
        return self._reading.fields()

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """One prediction per view."""
        return self.begin(views).collect()

    def begin(self, views: Sequence[View]) -> Pending:
        """The same, later."""
        answers = self._classifier.begin(views)
        return Pending(lambda: [self._predict(output) for output in answers.collect()], answers.held_bytes)

    def _predict(self, output: Any) -> Prediction:
        logits = output.numpy().astype(np.float64)
        if not np.isfinite(logits).all():
            raise ArithmeticError("the model's logits are not finite")
        return self._reading.read(logits)


def vectors_of(operator: str, params: Mapping[str, Any]) -> str | None:
    """The task whose vectors a task with these (dumped) parameters classifies; None of a task of pixels."""
    found = params.get("vectors") if operator == "classify" else None
    return None if found is None else str(found["task"])


def reading_of(classifier: Classifier, params: ClassifyParams, name: str) -> Reading:
    """How the task reads its classifier's logits.

    Raises:
        ModelError: the model's labels do not fit the task's tree or thresholds, or its logits that reading.
    """
    labels = classifier.labels
    if classifier.says_several and params.choose is None:
        raise ModelError(
            f"{name}: its config.json says problem_type: multi_label_classification, so several labels may hold",
            hint="add choose: several to the task (or choose: one, for the surest label alone)",
        )
    try:
        if params.choose == "several":
            if classifier.is_comparing:
                raise ModelError(
                    f"{name}: a CLIP pair only compares labels with each other, it gives none a probability of its own",
                    hint="use a SigLIP pair for choose: several, or choose: one",
                )
            return SeveralLabels(labels, _thresholds(params.thresholds, labels), params.floor)
        if params.tree:
            tree = LabelTree.over(params.tree, labels)
            return Node(labels, tree, params.sure, params.top_k, classifier.calibrator)
    except ValueError as error:
        raise ModelError(f"{name}: {error}", hint="correct the task's labels, tree or thresholds") from error
    return OneLabel(labels, params.top_k, classifier.link, classifier.calibrator)


def _thresholds(given: float | Mapping[str, float], labels: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    if not isinstance(given, Mapping):
        return np.full(len(labels), given)
    _refuse_unknown(given, labels)
    return np.array([given.get(label, THRESHOLD) for label in labels])


def _refuse_unknown(thresholds: Mapping[str, float], labels: Sequence[str]) -> None:
    for label in thresholds:
        if label not in labels:
            near = difflib.get_close_matches(label, labels, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"thresholds has {label!r}, which is no label{meant}")


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return str(error)
