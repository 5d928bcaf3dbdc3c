"""Which input does a library publish with an architecture's public weights? Its own transforms, as a Preprocessing.

It is the input of weights that do not say theirs: the public ones, and files without a card or with one that names no
preprocessing. It is settled when a spec is resolved, and stands in the plan and in the task's digest, so a run that is
open keeps what it began with. Random weights have no input of their own: architectures.default_preprocessing.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.models import libraries
from winnow_workers.models.architectures import default_preprocessing, split
from winnow_workers.models.load import PICKLE_SUFFIXES, peek_card
from winnow_workers.models.model_file import IMAGENET_MEAN, IMAGENET_STD, ModelCard, Preprocessing
from winnow_workers.models.onnx_file import is_onnx
from winnow_workers.models.reference import ResolvedModel

_REVISION = 1  # raised when the same transforms are said otherwise than before
_OPERATORS = ("classify", "embed")
# with this argument, which ours are built without, a network goes over from ImageNet's mean and std to 0.5 itself
_TRANSFORM_INPUT = "transform_input"
_BUILT_WITH_IT = ("googlenet", "inception_v3")  # by torchvision, for its weights

Said = Mapping[str, Any] | str  # a Preprocessing as JSON, or why there is none that says the same


def with_published_input(params: Mapping[str, Any], operator: str, model: ResolvedModel) -> dict[str, Any]:
    """A task's parameters with the published input where neither they nor the weights name one.

    Raises:
        ModelError: a Preprocessing cannot say it, or the weights file cannot be read.
        StoreError: the store of the weights file cannot be reached or refuses.
    """
    found = dict(params)
    if operator in _OPERATORS and params.get("input") is None:
        card = _silent(model)
        published = None if card is None else published_input(card.architecture, card.arguments)
        if published is not None:
            found["input"] = published.model_dump(mode="json")
    return found


def usual_input(architecture: str, arguments: Mapping[str, Any]) -> Preprocessing:
    """The input of weights that are not random and do not say theirs.

    Raises:
        ModelError: as `published_input`, or it is an ONNX file's own.
    """
    return published_input(architecture, arguments) or default_preprocessing(architecture)


def published_input(architecture: str, arguments: Mapping[str, Any] = MappingProxyType({})) -> Preprocessing | None:
    """None where a library publishes none: without public weights, and of others than classifiers.

    Detectors scale images themselves; torchvision's segmenters keep their sides, which no fixed input can.

    Raises:
        ModelError: a Preprocessing cannot say it.
    """
    library, name = split(architecture)
    ask = _ASK.get(library)
    if ask is None:
        return None
    said: Said | None = libraries.remembered(library, f"inputs-{_REVISION}", ask).get(name)
    if isinstance(said, str):
        raise ModelError(
            f"{architecture}: the input that {library} publishes with its weights cannot be made here: {said}",
            hint="write what the weights expect in the task or their card: input: {height_px: ..., width_px: ...}",
        )
    if said is None:
        return None
    if arguments.get(_TRANSFORM_INPUT):
        said = {**said, "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return Preprocessing.model_validate(said)


def _silent(model: ResolvedModel) -> ModelCard | None:
    """A card for weights that do not say their input; None of others, and of ONNX files."""
    weights = model.weights
    if weights.kind not in ("pretrained", "file") or is_onnx(model):
        return None
    has_card = weights.kind == "file" and not (weights.uri or "").endswith(PICKLE_SUFFIXES)
    card = peek_card(weights) if has_card else None
    if card is None and model.architecture is not None:
        return ModelCard(architecture=model.architecture)
    return None if card is None or card.preprocessing is not None else card


def _torchvision() -> dict[str, Said]:
    models = libraries.torchvision().models
    found = {}
    for name in models.list_models(module=models):
        default = getattr(models.get_model_weights(name), "DEFAULT", None)
        if default is not None:
            found[name] = _of_transforms(name, default.transforms())
    return found


def _of_transforms(name: str, transforms: Any) -> Said:
    if not transforms.antialias:
        return "it is scaled without antialiasing"
    halves = name in _BUILT_WITH_IT
    side = transforms.crop_size[0]
    return _said(
        height_px=side,
        width_px=side,
        fit="crop",
        resize_px=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        mean=(0.5,) * 3 if halves else transforms.mean,
        std=(0.5,) * 3 if halves else transforms.std,
    )


def _timm() -> dict[str, Said]:
    timm = libraries.timm()
    from timm.data import resolve_data_config

    found = {}
    for name in [*timm.list_models(), *timm.list_pretrained()]:
        config = timm.get_pretrained_cfg(name)
        if config is not None:
            found[name] = _of_data_config(resolve_data_config(pretrained_cfg=config.to_dict()))
    return found


def _of_data_config(config: Mapping[str, Any]) -> Said:
    """As timm.data.create_transform reads it to evaluate."""
    channels, height, width = config["input_size"]
    ratio, mode = config["crop_pct"], config["crop_mode"]
    if channels != len(config["mean"]):
        return f"{channels} channels with {len(config['mean'])} means"
    given = {"height_px": height, "width_px": width, "channels": channels}
    given |= {key: config[key] for key in ("interpolation", "mean", "std")}
    if mode == "squash" and ratio == 1.0:
        return _said(**given)
    if mode != "center" or height != width or ratio > 1.0:
        return f"crop_mode {mode} of crop_pct {ratio} for {width} x {height} px"
    return _said(**given, fit="crop", resize_px=math.floor(height / ratio))


def _said(**given: Any) -> Said:
    try:
        return Preprocessing.model_validate(given).model_dump(mode="json")
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())


_ASK: Mapping[str, Callable[[], dict[str, Said]]] = MappingProxyType({"torchvision": _torchvision, "timm": _timm})
