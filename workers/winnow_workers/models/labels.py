"""Which answers can a task give? Its label set, from its parameters or from its model's card."""

from winnow_workers.classifiers.label_tree import read_tree
from winnow_workers.detectors.torchvision_detector import BACKGROUND
from winnow_workers.models.folder import local_folder, read_config
from winnow_workers.models.load import cached, fetch
from winnow_workers.models.model_file import read_card
from winnow_workers.models.onnx_file import is_onnx, labels_in
from winnow_workers.models.transformers_model import labels_of_config
from winnow_workers.operator import TaskConfig


def labels_of(task: TaskConfig) -> tuple[str, ...]:
    """The labels of a task, in the order of the model's outputs; empty where it has none.

    Raises:
        ModelError, StoreError: the weights file that holds the card cannot be read.
    """
    labels = _all_labels(task)
    if task.operator == "detect" and labels and labels[0] in BACKGROUND:
        labels = labels[1:]  # nobody draws a box around nothing
    return tuple(dict.fromkeys(labels))  # some sets name unused numbers alike


def _all_labels(task: TaskConfig) -> tuple[str, ...]:
    given = task.params.get("labels")
    if isinstance(given, list | tuple) and given:
        return tuple(str(label) for label in given)
    tree = task.params.get("tree")
    if tree and task.operator == "classify":
        return tuple(read_tree(tree))
    weights = task.model.weights
    if weights.kind == "folder":
        place = local_folder(task.model) / "config.json"
        return labels_of_config(read_config(place.read_bytes(), where=str(place)))
    if weights.kind != "file" or weights.sha256 is None or weights.uri is None:
        return ()
    if is_onnx(task.model):
        return labels_in(cached(weights.sha256, lambda: fetch(weights), where=weights.uri), where=weights.uri)
    card = read_card(cached(weights.sha256, lambda: fetch(weights), where=weights.uri), where=weights.uri)
    return () if card is None else card.labels
