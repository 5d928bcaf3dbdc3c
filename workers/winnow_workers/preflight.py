"""Would a task's model open? It is opened as an actor opens it, without memory for its weights where that can be done.

A network whose shapes depend on numbers is opened with its weights, on the CPU. So is an operator of a user's own,
which need not know of networks without memory: it is closed again before the next one is opened.

So what would keep it from opening is said in the same words before any work is planned: another digest, weights that
do not fit, labels of another number, a model of another kind.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from winnow_storage.errors import ModelError, WinnowError
from winnow_workers.catalogue import OPERATORS, operator_of
from winnow_workers.classifiers.opening import pair_of
from winnow_workers.frontier import TaskFailure, attempt
from winnow_workers.models.model_file import Kind
from winnow_workers.models.onnx_file import is_onnx
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.shapes_only import META, ShapesUnknown
from winnow_workers.operator import Operator, TaskConfig
from winnow_workers.operators.embed import check_vectors
from winnow_workers.operators.head import check_widths


def check_tasks(tasks: Iterable[TaskConfig], *, own: bool = True) -> None:
    """Make sure of what can be known of a job's tasks, and of those that take what others make.

    Operators of a user's own are opened if `own`: those of a job for GPUs may not open on a CPU.

    Raises:
        ModelError, StoreError: as `check_task`.
    """
    opened = {}
    try:
        for task in tasks:
            if task.operator in OPERATORS:
                opened[task.name] = _opened(task)
            elif own:
                _open_own(task)
        check_widths(opened)
    finally:
        for operator in opened.values():
            operator.close()


def check_task(task: TaskConfig) -> None:
    """Make sure of what can be known without the run's devices.

    Raises:
        ModelError: the model cannot be used; says which task's.
        StoreError: the store cannot be reached or refuses.
    """
    check_tasks([task])


def check_folder(model: ResolvedModel, kind: Kind | None) -> None:
    """Make sure that a transformers folder opens as a model of that kind; a CLIP or SigLIP pair as one that embeds.

    Raises:
        ModelError, StoreError: as `check_task`.
    """
    operator = "segment" if kind == "instances" else kind or "embed"
    if operator not in ("classify", "detect", "segment", "embed"):
        raise ModelError(
            f"{model.name}: no transformers folder is a model of the kind {operator!r}",
            hint="write kind: classify, detect, segment, instances or embed in the card",
        )
    if operator == "classify" and pair_of(model) is not None:
        operator = "embed"  # it has no labels of its own
    params = {"choose": "several"} if operator == "classify" else {}  # which opens those for one label as well
    _without_memory(TaskConfig(model.name, operator, model, params)).close()


def _opened(task: TaskConfig) -> Operator[Any]:
    try:
        return _without_memory(task)
    except ModelError as error:
        raise _of(task, error) from error


def _without_memory(task: TaskConfig) -> Operator[Any]:
    if is_onnx(task.model):  # ONNX Runtime has no other way to look at a file
        return _on(task, "cpu")
    try:
        return _on(task, META)
    except ShapesUnknown:
        return _on(_in_float32(task), "cpu")


def _open_own(task: TaskConfig) -> None:
    operator = operator_of(task, "cpu")
    said = attempt(lambda: _refusal(operator))
    if said is None:
        said = attempt(operator.close)
    if isinstance(said, TaskFailure):
        raise ModelError(
            f"task {task.name}: {task.operator} cannot be opened on this machine's CPU: {said.error}",
            hint=f"winnow operators check {task.operator} opens it alone; with run: {{device: cuda}} actors do",
        )
    if isinstance(said, ModelError):
        raise _of(task, said) from said
    if said is not None:
        raise said


def _refusal(operator: Operator[Any]) -> WinnowError | None:
    """What of ours it raises when it is opened: that has its own words, and says what to do."""
    try:
        operator.open()
        check_vectors(operator)
    except WinnowError as error:
        return error
    return None


def _of(task: TaskConfig, error: ModelError) -> ModelError:
    return ModelError(f"task {task.name}: {error.message}", hint=error.hint)


def _on(task: TaskConfig, device: str) -> Operator[Any]:
    operator = operator_of(task, device)
    operator.open()
    return operator


def _in_float32(task: TaskConfig) -> TaskConfig:
    """Whether a network agrees in bfloat16 is a question to the run's device."""
    return replace(task, params={key: value for key, value in task.params.items() if key != "precision"})
