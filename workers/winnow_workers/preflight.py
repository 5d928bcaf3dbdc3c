"""Would a task's model open? It is opened as an actor opens it, without memory for its weights where that can be done.

A network whose shapes depend on numbers is opened with its weights, on the CPU.

So what would keep it from opening is said in the same words before any work is planned: another digest, weights that
do not fit, labels of another number, a model of another kind.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from winnow_storage.errors import ModelError
from winnow_workers.catalogue import OPERATORS, operator_of
from winnow_workers.models.onnx_file import is_onnx
from winnow_workers.models.shapes_only import META, ShapesUnknown
from winnow_workers.operator import Operator, TaskConfig
from winnow_workers.operators.head import check_widths


def check_tasks(tasks: Iterable[TaskConfig]) -> None:
    """Make sure of what can be known of a job's tasks, and of those that take what others make.

    Raises:
        ModelError, StoreError: as `check_task`.
    """
    opened = {}
    try:
        for task in tasks:
            if (operator := _opened(task)) is not None:
                opened[task.name] = operator
        check_widths(opened)
    finally:
        for operator in opened.values():
            operator.close()


def check_task(task: TaskConfig) -> None:
    """Make sure of what can be known without the run's devices. An operator of a user's own is not opened.

    Raises:
        ModelError: the model cannot be used; says which task's.
        StoreError: the store cannot be reached or refuses.
    """
    check_tasks([task])


def _opened(task: TaskConfig) -> Operator[Any] | None:
    if task.operator not in OPERATORS:
        return None
    try:
        if is_onnx(task.model):  # ONNX Runtime has no other way to look at a file
            return _on(task, "cpu")
        try:
            return _on(task, META)
        except ShapesUnknown:
            return _on(_in_float32(task), "cpu")
    except ModelError as error:
        raise ModelError(f"task {task.name}: {error.message}", hint=error.hint) from error


def _on(task: TaskConfig, device: str) -> Operator[Any]:
    operator = operator_of(task, device)
    operator.open()
    return operator


def _in_float32(task: TaskConfig) -> TaskConfig:
    """Whether a network agrees in bfloat16 is a question to the run's device."""
    return replace(task, params={key: value for key, value in task.params.items() if key != "precision"})
