"""Does a model file hold what its card says? Its tensors beside those of the network that the card names, by shape.

The network is built without memory for its weights (torch's meta device), so a large one costs its names only.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from winnow_storage.errors import ModelError
from winnow_workers.heads import is_head, load_head
from winnow_workers.models import onnx_file, patchcore, shapes_only
from winnow_workers.models.anomaly_head import read_head, read_held_out
from winnow_workers.models.architectures import check_architecture, default_preprocessing, is_detector
from winnow_workers.models.build import build_network, misfits, network_arguments
from winnow_workers.models.load import LoadedWeights
from winnow_workers.models.model_file import ModelCard, decode_model, is_safetensors, read_card

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
    if (said := read_card(data, where=where)) is not None and is_head(said):
        load_head(data, where=where)
        return said
    tensors, card = decode_model(data, where=where)
    if card is not None:
        check_fit(LoadedWeights(tensors, card), card.architecture, n_labels=None, where=where)
    return card


def check_fit(loaded: LoadedWeights, architecture: str, *, n_labels: int | None, where: str) -> None:
    """Make sure that tensors are those of an architecture.

    Raises:
        ModelError: as `check_file`.
    """
    if loaded.card is not None and is_anomaly_detector(loaded.card):
        _check_detector(loaded.tensors, loaded.card, where=where)
        return
    check_architecture(architecture)
    arguments, count = network_arguments(loaded, n_labels)
    problems = misfits(meta_state(architecture, arguments, count), loaded.tensors)
    if problems and count is not None and is_detector(architecture):  # a card may leave the background out
        problems = misfits(meta_state(architecture, arguments, count + 1), loaded.tensors)
    _refuse(problems, where, architecture)


def _refuse(problems: Sequence[str], where: str, architecture: str) -> None:
    if problems:
        raise ModelError(
            f"the weights do not fit {where} ({architecture}); " + "; ".join(problems),
            hint="check the architecture, its arguments and the number of labels that the weights were trained with",
        )


def _check_detector(tensors: "Mapping[str, torch.Tensor]", card: ModelCard, *, where: str) -> None:
    """Of an anomaly detector: its backbone, and whether its head is that backbone's."""
    import torch

    layers = card.extra.get("layers")
    try:
        backbone = patchcore.build_backbone(card.architecture, card.arguments, layers=layers, device=shapes_only.META)
    except shapes_only.ShapesUnknown:
        backbone = patchcore.build_backbone(card.architecture, card.arguments, layers=layers).to(shapes_only.META)
    prefix = patchcore.BACKBONE_PREFIX
    own = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
    _refuse(misfits(backbone.state_dict(keep_vars=True), own), where, card.architecture)
    said = card.preprocessing or default_preprocessing(card.architecture)
    images = torch.zeros(1, said.channels, said.height_px, said.width_px)
    with suppress(shapes_only.ShapesUnknown):  # then its operator says it
        shape = tuple(shapes_only.answer(backbone.eval(), images).shape[1:])
        read_head(tensors, card, shape=shape, where=where)
    read_held_out(tensors, where=where)


def is_anomaly_detector(card: ModelCard | None) -> bool:
    """Whether a card is that of a backbone with a fitted head."""
    return card is not None and "threshold" in card.extra


def meta_state(architecture: str, arguments: Mapping[str, Any], n_labels: int | None) -> "Mapping[str, torch.Tensor]":
    """The names and shapes of a network's weights, without memory for them where it can be built so.

    Raises:
        ModelError: it cannot be built.
    """
    try:
        network = build_network(architecture, arguments, n_labels=n_labels, device=shapes_only.META)
    except shapes_only.ShapesUnknown:  # torchvision's RegNets draw their first weights by numbers
        network = build_network(architecture, arguments, n_labels=n_labels)
    return network.state_dict(keep_vars=True)


def differing_fields(card: ModelCard | None, stored: Mapping[str, Any]) -> Sequence[str]:
    """The fields in which a file's card is not the one that the registry keeps beside it."""
    own = {} if card is None else card.model_dump(mode="json")
    return sorted(key for key in set(own) | set(stored) if own.get(key) != stored.get(key))
