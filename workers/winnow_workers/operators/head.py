"""What does an image show as a whole, told from a vector that another task made of it? A head on stored embeddings.

It is a task of classify with `vectors`: its rows are those of any classifier with one label, or of a tree.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from winnow_storage.errors import ModelError
from winnow_workers.classifiers.label_tree import LabelTree
from winnow_workers.classifiers.readings import Node, OneLabel, Reading
from winnow_workers.heads import Head, load_head
from winnow_workers.models.load import read_weights
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.operator import VECTOR_FIELD, Operator, Prediction, Vector, View
from winnow_workers.operators.classify import ClassifyParams

AT_ONCE = 64


class HeadOperator(Operator[ClassifyParams]):
    """A head's probabilities; `p_ok` is null until a calibrator is learned for the task."""

    params_type = ClassifyParams

    def __init__(self, params: ClassifyParams, model: ResolvedModel, device: str) -> None:
        super().__init__(params, model, device)
        self.vectors_of = None if params.vectors is None else params.vectors.task

    def open(self) -> None:
        """Load the head, and make sure that it is one for these vectors."""
        head = load_head(read_weights(self.model), where=self.model.name)
        given = self.params.vectors
        fitted = head.embedding
        if given is not None and given.digest is not None and given.digest != fitted.task_digest:
            raise ModelError(
                f"{self.model.name} was fitted on vectors of another embedding (task {fitted.task}, "
                f"{fitted.task_digest[:12]}) than those of {given.task} ({given.digest[:12]})",
                hint=f"fit a head on the vectors that {given.task} makes now, or give the task the model and "
                "parameters again that it had then",
            )
        self._head = head
        self._reading = _reading(head, self.params, self.model.name)

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has that it takes."""
        return self._head.embedding.dimensions

    @property
    def preproc(self) -> str:
        """Whose vectors it takes."""
        return f"vectors-{self._head.embedding.task_digest[:12]}"

    @property
    def batch_size(self) -> int:
        """What is multiplied at once."""
        return AT_ONCE

    def fields(self) -> list[pa.Field]:
        """Those of one label, or of a node."""
        return self._reading.fields()

    def run(self, views: Sequence[View]) -> list[Prediction]:
        """One prediction per view, of its vector."""
        if not views:
            return []
        vectors = np.stack([_vector(view) for view in views])
        return [self._reading.read(logits) for logits in self._head.logits(vectors)]


def check_widths(operators: Mapping[str, Operator[Any]]) -> None:
    """Make sure that heads take vectors as long as those of the tasks that they name; all are open.

    Raises:
        ModelError: one takes others.
    """
    for name, operator in operators.items():
        made = operators.get(operator.vectors_of or "")
        if not isinstance(operator, HeadOperator) or made is None:
            continue
        width = next((field.type.list_size for field in made.fields() if field.name == VECTOR_FIELD), None)
        if width != operator.dimensions:
            raise ModelError(
                f"task {name}: {operator.model.name} takes vectors of {operator.dimensions} numbers, those of "
                f"{operator.vectors_of} have {width}",
                hint="fit a head on the vectors that the job has now",
            )


def _reading(head: Head, params: ClassifyParams, name: str) -> Reading:
    if not params.tree:
        return OneLabel(head.labels, params.top_k)
    try:
        return Node(head.labels, LabelTree.over(params.tree, head.labels), params.sure, params.top_k)
    except ValueError as error:
        raise ModelError(f"{name}: {error}", hint="correct the task's tree") from error


def _vector(view: View) -> Vector:
    if view.vector is None:
        raise ValueError("there is no vector of this image")
    return view.vector
