"""Does a model file hold what its card says? Its tensors beside those of the network that the card names, by shape.

The network is built without memory for its weights (torch's meta device), so a large one costs its names only.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from winnow_storage.errors import ModelError
from winnow_workers.models import onnx_file
from winnow_workers.models.architectures import check_architecture, is_detector
from winnow_workers.models.build import build_network, misfits, network_arguments
from winnow_workers.models.load import LoadedWeights
from winnow_workers.models.model_file import ModelCard, decode_model, is_safetensors
from winnow_workers.models.shapes_only import META

if TYPE_CHECKING:
    import torch


def check_file(data: bytes, *, where: str) -> ModelCard | None:
    """Make sure that a file opens and fits its card; the card, None where the file has none.

    Raises:
        ModelError: neither safetensors nor ONNX, a card that is not valid, an architecture that cannot be built, or
            tensors that are not its own.
    """
    if not is_safetensors(data):
        return onnx_file.check_onnx(data, where=where)
    tensors, card = decode_model(data, where=where)
    if card is not None:
        check_fit(LoadedWeights(tensors, card), card.architecture, n_labels=None, where=where)
    return card


def check_fit(loaded: LoadedWeights, architecture: str, *, n_labels: int | None, where: str) -> None:
    """Make sure that tensors are those of an architecture.

    Raises:
        ModelError: as `check_file`.
    """
    if is_anomaly_detector(loaded.card):
        return  # an anomaly detector: its operator checks head and backbone together when it opens
    check_architecture(architecture)
    arguments, count = network_arguments(loaded, n_labels)
    problems = misfits(meta_state(architecture, arguments, count), loaded.tensors)
    if problems and count is not None and is_detector(architecture):  # a card may leave the background out
        problems = misfits(meta_state(architecture, arguments, count + 1), loaded.tensors)
    if problems:
        raise ModelError(
            f"the weights do not fit {where} ({architecture}); " + "; ".join(problems),
            hint="check the architecture, its arguments and the number of labels that the weights were trained with",
        )


def is_anomaly_detector(card: ModelCard | None) -> bool:
    """Whether a card is that of a backbone with a fitted head."""
    return card is not None and "threshold" in card.extra


def meta_state(architecture: str, arguments: Mapping[str, Any], n_labels: int | None) -> "Mapping[str, torch.Tensor]":
    """The names and shapes of a network's weights.

    Raises:
        ModelError: it cannot be built.
    """
    return build_network(architecture, arguments, n_labels=n_labels, device=META).state_dict()


def differing_fields(card: ModelCard | None, stored: Mapping[str, Any]) -> Sequence[str]:
    """The fields in which a file's card is not the one that the registry keeps beside it."""
    own = {} if card is None else card.model_dump(mode="json")
    return sorted(key for key in set(own) | set(stored) if own.get(key) != stored.get(key))
