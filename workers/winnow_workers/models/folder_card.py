"""What does the registry keep of a transformers folder? Its files, and among them a card that says what they are.

The card is `winnow.json`, so that one digest pins it with the weights, as it does in a safetensors file. Labels and
input are those of config.json and preprocessor_config.json, which the card repeats: a model is opened by these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow_storage.errors import ModelError
from winnow_storage.ids import canonical_json
from winnow_storage.uri import parse
from winnow_workers.models.convert import card_document, valid_card
from winnow_workers.models.folder import read_config, read_folder
from winnow_workers.models.model_file import ModelCard
from winnow_workers.models.transformers_model import labels_of_config, read_preprocessing

CARD_FILE = "winnow.json"
_KINDS = (
    ("ForImageClassification", "classify"), ("ForObjectDetection", "detect"), ("ForSemanticSegmentation", "segment"),
    ("ForInstanceSegmentation", "instances"),
)  # fmt: skip
_REPEATED = ("architecture", "labels", "preprocessing")
_UNHEEDED = ("arguments", "calibrator", "variant")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What the registry takes: the files by name, the card among them."""

    files: dict[str, bytes]
    card: ModelCard


def as_model_folder(place: Path, *, card: Path | None) -> ModelFolder:
    """From what `save_pretrained` wrote; `card` is a YAML or JSON file with what the folder does not say itself.

    Raises:
        ModelError: files are missing or unsafe, or the card says other things than the folder.
    """
    files = read_folder(parse(str(place.absolute())).uri)
    if card is not None:
        given = _mapping(card_document(card), where=str(card))
    else:
        given = _mapping(read_config(files.get(CARD_FILE, b"{}"), where=f"{place}/{CARD_FILE}"), where=str(place))
    described = _described(place, given, where=str(card or place))
    files[CARD_FILE] = canonical_json(described.model_dump(mode="json")).encode()
    return ModelFolder(files, described)


def folder_card(place: Path) -> ModelCard:
    """The card of a local folder of the registry.

    Raises:
        ModelError: it has none, or one that says other things than the folder.
    """
    file = place / CARD_FILE
    if not file.exists():
        raise ModelError(f"{place} has no {CARD_FILE}", hint="add the folder again: winnow models add NAME FOLDER")
    return _described(place, read_config(file.read_bytes(), where=str(file)), where=str(file))


def _described(place: Path, given: Mapping[str, Any], *, where: str) -> ModelCard:
    config = read_config((place / "config.json").read_bytes(), where=f"{place}/config.json")
    named = [str(one) for one in config.get("architectures") or ()]
    kind = next((kind for ending, kind in _KINDS if any(one.endswith(ending) for one in named)), "embed")
    kind = given.get("kind") or kind
    found = valid_card(
        {
            "architecture": f"transformers/{config.get('model_type')}",
            "labels": () if kind == "embed" else labels_of_config(config),
            "preprocessing": read_preprocessing(place),
            "kind": kind,
        },
        where=where,
    )
    said = valid_card({**found.model_dump(mode="json"), **given}, where=where)
    for key in _REPEATED:
        if getattr(said, key) != getattr(found, key):
            raise ModelError(
                f"{where}: {key} is {getattr(said, key)!r}, the folder says {getattr(found, key)!r}",
                hint=f"leave {key} out: a folder's card says kind, licence, trained_on, parent and metrics; a task may "
                "have labels: and input: of its own",
            )
    unheeded = [key for key in _UNHEEDED if getattr(said, key)]
    if unheeded:
        raise ModelError(
            f"{where} says {', '.join(unheeded)}, which nobody heeds of a transformers folder",
            hint="leave it out; p_ok comes from winnow learn --calibrate, bfloat16 from a task's precision: bf16",
        )
    return said


def _mapping(document: object, *, where: str) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise ModelError(f"the card {where} is no mapping of keys", hint="write key: value, one a line")
    return document
