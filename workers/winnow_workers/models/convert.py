"""How does a weights file enter the registry? As safetensors with a card; a state dict only through weights_only."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.models.load import read_state_dict
from winnow_workers.models.model_file import ModelCard, decode_model, encode_model, is_safetensors


def as_model_file(data: bytes, *, where: str, sha256: str | None, card: Path | None) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a model file and its card, from a model file, plain safetensors, or a state dict.

    `card` is a JSON file for weights that carry none. A file that already is a model file keeps its bytes.

    Raises:
        ModelError: an unsafe or unknown format, a state dict without `sha256`, or no card at all.
    """
    given = _read_card(card)
    if is_safetensors(data):
        tensors, found = decode_model(data, where=where)
        if found is not None and given is None:
            return data, found.model_dump(mode="json")
    else:
        tensors, found = _state_dict(data, where=where, sha256=sha256), None
    described = given or found
    if described is None:
        raise ModelError(
            f"{where} says nothing of its architecture, labels and preprocessing",
            hint='write a card, {"architecture": "torchvision/resnet50", "labels": [...]}, and give it with --card',
        )
    return encode_model(tensors, described), described.model_dump(mode="json")


def _read_card(path: Path | None) -> ModelCard | None:
    if path is None:
        return None
    try:
        return ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"the card {path} cannot be read: {error.strerror}", hint="give a JSON file") from error
    except ValidationError as error:
        raise ModelError(f"the card {path} is not valid: {error}", hint="its keys are those of ModelCard") from error


def _state_dict(data: bytes, *, where: str, sha256: str | None) -> dict[str, Any]:
    if sha256 is None:
        raise ModelError(
            f"{where} is not safetensors; a PyTorch state dict is only read with its digest given",
            hint=f"add --sha256 (sha256sum {where}) if you trust where the file came from",
        )
    return read_state_dict(data, where=where)
