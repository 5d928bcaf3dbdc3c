"""How does a resolved model become a network? Built without weights, then filled strictly; nothing is downloaded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow_storage.errors import ModelError
from winnow_workers.models import libraries
from winnow_workers.models.architectures import ONNX, check_architecture, is_detector, is_segmenter, split
from winnow_workers.models.load import LoadedWeights, load_weights
from winnow_workers.models.model_file import ModelCard
from winnow_workers.models.onnx_file import is_onnx
from winnow_workers.models.reference import ResolvedModel
from winnow_workers.models.shapes_only import building_on, is_without_memory

if TYPE_CHECKING:
    import torch
    from torch import nn

# arguments that would fetch weights or read files; a card must not carry them
_FORBIDDEN = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights",
     "weights_backbone", "encoder_weights", "progress", "scriptable"}
)  # fmt: skip

# parameter names of torchvision's published densenets, older than the module names
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


@dataclass(frozen=True, slots=True)
class Network:
    """A network in evaluation mode on its device, and the card of its weights (None where they have none)."""

    module: "nn.Module"
    architecture: str
    card: ModelCard | None
    tensors: "Mapping[str, torch.Tensor]"  # of the weights file, empty for random weights


def open_network(model: ResolvedModel, *, device: str, n_labels: int | None) -> Network:
    """Load a model's weights and build its network around them. `n_labels` decides where the card names no labels.

    Raises:
        ModelError: unknown architecture, weights that do not fit it, or weights that cannot be used.
    """
    if is_onnx(model):
        from winnow_workers.models.onnx_network import open_onnx

        onnx, card = open_onnx(model, device=device)
        return Network(onnx.eval(), ONNX, card, {})
    loaded = open_weights(model)
    architecture = architecture_of(model, loaded.card)
    arguments, n_labels = network_arguments(loaded, n_labels)
    seed = model.weights.seed if model.weights.seed is not None else 0
    module = build_network(architecture, arguments, n_labels=n_labels, seed=seed, device=device)
    if model.weights.kind != "random":
        fill(module, loaded.tensors, where=f"{model.name} ({architecture})")
    if loaded.card is not None and loaded.card.variant == "bf16":
        module.is_bfloat16_variant = True  # type: ignore[assignment]  # precision.open_batch asks for it
    return Network(module.eval().to(device), architecture, loaded.card, loaded.tensors)


def network_arguments(loaded: LoadedWeights, n_labels: int | None) -> tuple[dict[str, Any], int | None]:
    """What the builder is given: the card's arguments, and its number of labels, else `n_labels`."""
    arguments = dict(loaded.card.arguments) if loaded.card is not None else {}
    if loaded.card is not None and loaded.card.labels:
        n_labels = len(loaded.card.labels)
    if any(name.startswith("aux_classifier.") for name in loaded.tensors):
        arguments.setdefault("aux_loss", True)  # torchvision's segmenters are published with their auxiliary head
    return arguments, n_labels


def open_weights(model: ResolvedModel) -> LoadedWeights:
    """The weights of a model; no tensors and no card where they are random."""
    return LoadedWeights({}, None) if model.weights.kind == "random" else load_weights(model)


def architecture_of(model: ResolvedModel, card: ModelCard | None) -> str:
    """The architecture that the spec or the card names; where both do they must agree."""
    named = card.architecture if card is not None else None
    if model.architecture is not None and named is not None and model.architecture != named:
        raise ModelError(
            f"{model.name}: the weights are of {named}, the spec says {model.architecture}",
            hint=f"write model: {named}, or give other weights",
        )
    architecture = model.architecture or named
    if architecture is None:
        raise ModelError(
            f"{model.name}: the weights file does not say its architecture",
            hint="name it: model: timm/NAME (or torchvision/NAME) with weights: {uri: FILE}",
        )
    check_architecture(architecture)
    return architecture


def build_network(
    architecture: str, arguments: Mapping[str, Any], *, n_labels: int | None, seed: int = 0, device: str = "cpu"
) -> "nn.Module":
    """A network with weights drawn from `seed`; the global random state stays as it was.

    It is on the CPU, or without memory for weights if `device` is META (models.shapes_only).

    Raises:
        ModelError: unknown architecture, or arguments that it does not take.
    """
    import torch

    check_architecture(architecture)
    refused = sorted(_FORBIDDEN & set(arguments))
    if refused:
        raise ModelError(
            f"{architecture}: the card's arguments must not name {', '.join(refused)}",
            hint="remove them from the card: the weights are those of its own file",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with building_on(device):
                return _build(architecture, dict(arguments), n_labels)
        except (TypeError, ValueError, AssertionError) as error:
            raise ModelError(
                f"{architecture} cannot be built with arguments {dict(arguments)}: {error}",
                hint="correct the arguments in the weights' card",
            ) from error


def _build(architecture: str, arguments: dict[str, Any], n_labels: int | None) -> "nn.Module":
    library, name = split(architecture)
    module: nn.Module
    if library == "builtin":
        from winnow_workers.models.nets import NETS

        return NETS[name](n_labels if n_labels is not None else 2, arguments)
    if library == "smp":
        return _build_smp(name, arguments, n_labels)
    if n_labels is not None:
        arguments.setdefault("num_classes", n_labels)
    if library == "timm":
        module = libraries.timm().create_model(name, pretrained=False, **arguments)
        return module
    if is_segmenter(architecture) or is_detector(architecture):
        arguments["weights_backbone"] = None  # its default downloads
    elif name in {"googlenet", "inception_v3"}:
        arguments.setdefault("init_weights", False)  # the default warns, and takes minutes
    module = libraries.torchvision().models.get_model(name, weights=None, **arguments)
    return module


def _build_smp(name: str, arguments: dict[str, Any], n_labels: int | None) -> "nn.Module":
    """An architecture of segmentation-models-pytorch: `unet/resnet18`, or `unet` with the encoder in the arguments."""
    smp = libraries.smp()
    name, _, encoder = name.partition("/")
    if encoder:
        arguments.setdefault("encoder_name", encoder)
    if n_labels is not None:
        arguments.setdefault("classes", n_labels)
    try:
        module: nn.Module = smp.create_model(name, encoder_weights=None, **arguments)  # its default downloads
    except KeyError as error:
        raise ValueError(f"smp has no encoder {arguments.get('encoder_name')!r}") from error
    return module


def fill(module: "nn.Module", tensors: "Mapping[str, torch.Tensor]", *, where: str) -> None:
    """Put weights into a network, but not into one without memory; every name and shape must fit.

    Raises:
        ModelError: lists what is missing, what is too much and which shapes differ.
    """
    problems = misfits(module.state_dict(keep_vars=True), tensors)
    if problems:
        raise ModelError(
            f"the weights do not fit {where}; " + "; ".join(problems),
            hint="check the architecture and the number of labels that the weights were trained with",
        )
    if not is_without_memory(module):
        module.load_state_dict(_renamed(tensors), strict=False)


def misfits(own: "Mapping[str, torch.Tensor]", tensors: "Mapping[str, torch.Tensor]") -> list[str]:
    """What is missing, what is too much and which shapes differ between a network's weights and those of a file.

    Of tied weights, which are one tensor under several names (`state_dict(keep_vars=True)`), a file need hold one.
    """
    given = _renamed(tensors)
    filled = {id(own[name]) for name in given if name in own}
    # counters of batches, which old files lack and inference does not use
    missing = [
        name
        for name, tensor in own.items()
        if name not in given and id(tensor) not in filled and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in given if name not in own]
    shapes = [
        f"{name}: {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    return [
        f"{title} {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for title, names in (("missing:", missing), ("unexpected:", unexpected), ("wrong shapes:", shapes))
        if names
    ]


def _renamed(tensors: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
