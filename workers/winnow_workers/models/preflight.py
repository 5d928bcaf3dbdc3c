"""Would a task's model open? As far as can be said without running it: its file, its names and shapes, its labels.

For classifiers, embedders and segmenters by classes; what is not looked at here is said when an actor opens the model,
which is before any item is fetched.
"""

from winnow_storage.errors import ModelError
from winnow_workers.models.architectures import ONNX, is_detector
from winnow_workers.models.build import architecture_of, network_arguments, open_weights
from winnow_workers.models.check import check_fit, meta_state
from winnow_workers.models.load import cached, fetch
from winnow_workers.models.onnx_file import check_onnx, is_onnx, labels_in
from winnow_workers.operator import TaskConfig

_OPERATORS = ("classify", "embed", "segment")


def check_task(task: TaskConfig) -> None:
    """Make sure of what can be known.

    Raises:
        ModelError: a file that is not what it should be, weights that do not fit, labels of another number, an
            architecture or encoder that does not exist.
        StoreError: the store cannot be reached or refuses.
    """
    kind = task.model.weights.kind
    if task.operator not in _OPERATORS or kind in ("builtin", "folder"):
        return
    given = task.params.get("labels")
    labels = tuple(given) if isinstance(given, list | tuple) and task.operator != "embed" else ()
    if is_onnx(task.model):
        _check_onnx(task, labels)
        return
    loaded = open_weights(task.model)
    architecture = architecture_of(task.model, loaded.card)
    if is_detector(architecture):
        return
    if loaded.card is not None:
        _check_labels(task, labels, loaded.card.labels)
    if kind == "random":
        arguments, count = network_arguments(loaded, len(labels) or None)
        meta_state(architecture, arguments, count)
        return
    check_fit(loaded, architecture, n_labels=len(labels) or None, where=task.model.name)


def _check_onnx(task: TaskConfig, labels: tuple[str, ...]) -> None:
    weights, name = task.model.weights, task.model.name
    data = cached(weights.sha256 or "", lambda: fetch(weights), where=weights.uri or name)
    card = check_onnx(data, where=name)
    said = card.preprocessing is not None or card.architecture != ONNX if card is not None else False
    if not said and not task.params.get("input"):
        raise ModelError(
            f"{name}: the ONNX file does not say what is done to pixels before it",
            hint="add input: {height_px: ..., width_px: ..., mean: [...], std: [...]} to the task",
        )
    own = labels_in(data, where=name)
    _check_labels(task, labels, own)
    if task.operator != "embed" and not labels and not own:
        raise ModelError(
            f"{name}: the ONNX file does not say what its labels are",
            hint="add labels: [...] to the task, in the order of the model's outputs",
        )


def _check_labels(task: TaskConfig, given: tuple[str, ...], own: tuple[str, ...]) -> None:
    if given and own and len(given) != len(own):
        raise ModelError(
            f"task {task.name}: {len(given)} labels for {task.model.name}, whose card has {len(own)}",
            hint="give one label per output of the model, in its order, or remove labels: from the task",
        )
