"""How does a weights file enter the registry? As safetensors or ONNX with a card; a state dict only by weights_only."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_storage.registry import ONNX, SAFETENSORS
from winnow_workers.models.check import check_file
from winnow_workers.models.load import read_state_dict
from winnow_workers.models.model_file import ModelCard, decode_model, encode_model, is_safetensors
from winnow_workers.models.onnx_file import SUFFIX, check_onnx, with_card

_MOST_CARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the registry takes: `file` is what it is called there, by its format."""

    data: bytes
    card: dict[str, Any]
    file: str


def as_model_file(data: bytes, *, where: str, sha256: str | None, card: Path | None) -> ModelFile:
    """From a model file, plain safetensors, ONNX, or a state dict, once it is sure that it opens and fits its card.

    `card` is a YAML or JSON file for weights that carry none, or another. A file that already is a model file keeps its
    bytes.

    Raises:
        ModelError: an unsafe or unknown format, a state dict without `sha256`, no card, or one that does not fit.
    """
    given = None if card is None else valid_card(card_document(card), where=str(card))
    if where.lower().endswith(SUFFIX):
        return _as_onnx(data, given, where=where)
    if is_safetensors(data):
        tensors, found = decode_model(data, where=where)
        if found is not None and given is None:
            check_file(data, where=where)
            return ModelFile(data, found.model_dump(mode="json"), SAFETENSORS)
    else:
        tensors, found = _state_dict(data, where=where, sha256=sha256), None
    described = given or found
    if described is None:
        raise _no_card(where)
    encoded = encode_model(tensors, described)
    check_file(encoded, where=where)
    return ModelFile(encoded, described.model_dump(mode="json"), SAFETENSORS)


def _as_onnx(data: bytes, given: ModelCard | None, *, where: str) -> ModelFile:
    found = check_onnx(data, where=where)
    described = given or found
    if described is None:
        raise _no_card(where)
    encoded = data if given is None else with_card(data, given, where=where)
    return ModelFile(encoded, described.model_dump(mode="json"), ONNX)


def _no_card(where: str) -> ModelError:
    return ModelError(
        f"{where} says nothing of its architecture, labels and preprocessing",
        hint="write a card, {architecture: torchvision/resnet50 (onnx/file for ONNX), labels: [...], preprocessing: "
        "{...}}, and give it with --card",
    )


def card_document(path: Path) -> object:
    """What a YAML or JSON file holds that should be a card.

    Raises:
        ModelError: it cannot be read, or is neither.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"the card {path} cannot be read: {error.strerror}", hint="give a YAML or JSON file"
        ) from error
    if len(data) > _MOST_CARD_BYTES:
        raise ModelError(f"the card {path} has {len(data)} bytes, which is no card", hint="give a YAML or JSON file")
    try:
        return yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise ModelError(f"the card {path} is neither YAML nor JSON: {error}", hint="correct it") from error


def valid_card(document: object, *, where: str) -> ModelCard:
    """What a document says as a card.

    Raises:
        ModelError: it is none; says what is wrong, key by key.
    """
    try:
        return ModelCard.model_validate(document)
    except ValidationError as error:
        raise ModelError(
            f"the card {where} is not valid: {_said(error)}", hint=f"its keys are {', '.join(ModelCard.model_fields)}"
        ) from error


def _said(error: ValidationError) -> str:
    """What is wrong, key by key."""
    parts = [f"{'.'.join(map(str, one['loc'])) or 'the card'}: {one['msg']}" for one in error.errors()[:5]]
    return "; ".join(parts)


def _state_dict(data: bytes, *, where: str, sha256: str | None) -> dict[str, Any]:
    if sha256 is None:
        raise ModelError(
            f"{where} is not safetensors; a PyTorch state dict is only read with its digest given",
            hint=f"add --sha256 (sha256sum {where}) if you trust where the file came from",
        )
    return read_state_dict(data, where=where)
