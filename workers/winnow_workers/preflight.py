"""Would a task's model open? It is opened as an actor opens it, without memory for its weights where that can be done.

So what would keep it from opening is said in the same words before any work is planned: another digest, weights that
do not fit, labels of another number, a model of another kind.
"""

from winnow_storage.errors import ModelError
from winnow_workers.catalogue import OPERATORS
from winnow_workers.models.onnx_file import is_onnx
from winnow_workers.models.shapes_only import META, ShapesUnknown
from winnow_workers.operator import TaskConfig


def check_task(task: TaskConfig) -> None:
    """Make sure of what can be known without the run's devices. An operator of a user's own is not opened.

    Raises:
        ModelError: the model cannot be used; says which task's.
        StoreError: the store cannot be reached or refuses.
    """
    operator_type = OPERATORS.get(task.operator)
    if operator_type is None:
        return
    device = "cpu" if is_onnx(task.model) else META  # ONNX Runtime has no other way to look at a file
    operator = operator_type(operator_type.params_type.model_validate(task.params), task.model, device)
    try:
        operator.open()
    except ShapesUnknown:
        return  # an actor says it, before it fetches an item
    except ModelError as error:
        raise ModelError(f"task {task.name}: {error.message}", hint=error.hint) from error
    operator.close()
