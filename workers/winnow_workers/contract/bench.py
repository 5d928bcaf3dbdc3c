"""What stands on the bench when an operator is checked? The operator, open; images; what it said of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from winnow_workers.catalogue import operator_of
from winnow_workers.frontier import IsolatingRunner, TaskFailure
from winnow_workers.operator import Operator, Prediction, TaskConfig, View


@dataclass(frozen=True, slots=True)
class Bench:
    """One operator under check; `predictions` are those of `views`, in order, from its first run."""

    task: TaskConfig
    device: str
    operator: Operator[Any]
    fields: tuple[pa.Field, ...]
    views: tuple[View, ...]
    predictions: tuple[Prediction, ...]


def open_operator(task: TaskConfig, device: str) -> Operator[Any]:
    """As the pipeline opens it."""
    operator = operator_of(task, device)
    operator.open()
    return operator


def answers(operator: Operator[Any], views: Sequence[View]) -> list[Prediction | TaskFailure]:
    """As the pipeline runs it: what is raised is isolated to an image.

    Raises:
        WinnowError: whatever of ours it raises, and that it gave another number of predictions than of images.
    """
    return IsolatingRunner("task", operator, alone=True).run(copies(views))


def predictions(operator: Operator[Any], views: Sequence[View], *, at_once: int | None = None) -> list[Prediction]:
    """In batches of the operator's own size, or of another one, with nothing around it."""
    size = max(1, operator.batch_size) if at_once is None else at_once
    given = copies(views)
    return [one for start in range(0, len(given), size) for one in operator.run(given[start : start + size])]


def copies(views: Sequence[View]) -> list[View]:
    """The same images again: an operator that writes into them must not spoil them for the next check."""
    return [replace(view, pixels=view.pixels.copy()) for view in views]
