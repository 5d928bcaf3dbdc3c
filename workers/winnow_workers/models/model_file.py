"""What is in a model file? One safetensors file: tensors, and a card in its metadata that says how to use them."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from winnow_storage.errors import ModelError

if TYPE_CHECKING:
    import torch

_MAGIC = b'{"'  # what follows the eight bytes of a safetensors header's length
Kind = Literal["classify", "detect", "segment", "instances", "ocr", "anomaly", "embed", "head"]
Variant = Literal["bf16", "int8"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CARD_KEY = "winnow"  # the key of the card in the safetensors metadata


def is_safetensors(data: bytes) -> bool:
    """Whether bytes begin as a safetensors file does."""
    return data[8:10] == _MAGIC


class Preprocessing(BaseModel):
    """From a view to the model's input: (channels, height_px, width_px) float32, (pixel / 255 - mean) / std."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    height_px: int = Field(gt=0, le=4096)
    width_px: int = Field(gt=0, le=4096)
    channels: Literal[1, 3] = 3
    fit: Literal["stretch", "crop", "pad"] = "stretch"  # crop: the centre, after the shorter side fits
    # These three are left out of ids at their defaults, as of before they were.
    # of `crop`: what the shorter side is scaled to before the centre is cut; not said: the centre fills the input
    resize_px: int | None = Field(default=None, gt=0, le=8192, exclude_if=lambda value: value is None)
    interpolation: Literal["bilinear", "bicubic"] = Field(  # antialiased both
        default="bilinear", exclude_if=lambda value: value == "bilinear"
    )
    # the grey around what `pad` shows; not said: the mean's colour
    pad_value: int | None = Field(default=None, ge=0, le=255, exclude_if=lambda value: value is None)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @model_validator(mode="after")
    def _one_number_per_channel(self) -> "Preprocessing":
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise ValueError(f"mean and std need {self.channels} number(s) each, one per channel, and std above zero")
        return self

    @model_validator(mode="after")
    def _room_for_the_centre(self) -> "Preprocessing":
        if self.resize_px is not None and (self.fit != "crop" or self.resize_px < max(self.height_px, self.width_px)):
            raise ValueError("resize_px is for fit: crop, and no less than height_px and width_px")
        return self


class Calibrator(BaseModel):
    """From raw scores to p_ok. `temperature`: top-1 of softmax(logits / temperature) (Guo et al., 2017)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["temperature"]
    temperature: float = Field(gt=0)
    fitted_on: int = Field(ge=0)  # held-out labelled items


class ModelCard(BaseModel):
    """What a weights file says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    architecture: str  # torchvision/NAME, timm/NAME, smp/NAME/ENCODER or builtin/NAME; of an ONNX file, its origin's
    arguments: Mapping[str, Any] = {}  # of the architecture's builder
    labels: tuple[str, ...] = ()  # the label set, in the order of the model's outputs
    preprocessing: Preprocessing | None = None
    calibrator: Calibrator | None = None
    extra: Mapping[str, Any] = {}  # the architecture's own numbers, such as an anomaly threshold
    licence: str | None = None
    trained_on: str | None = None
    # left out at their defaults, so that cards of before they were keep their bytes
    kind: Kind | None = Field(default=None, exclude_if=lambda value: value is None)
    parent: str | None = Field(default=None, exclude_if=lambda value: value is None)  # NAME@VERSION or a sha256
    variant: Variant | None = Field(default=None, exclude_if=lambda value: value is None)
    metrics: Mapping[str, float | int | str] = Field(default={}, exclude_if=lambda value: not value)


def encode_model(tensors: Mapping[str, "torch.Tensor"], card: ModelCard) -> bytes:
    """The bytes of a model file; equal tensors and card give equal bytes. Tied tensors are written for each name."""
    from safetensors.torch import save

    written: dict[str, torch.Tensor] = {}
    memories: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        written[name] = tensor.clone() if memory in memories else tensor  # safetensors refuses two names of one memory
        memories.add(memory)
    return save(written, metadata={CARD_KEY: card.model_dump_json()})


def decode_model(data: bytes, *, where: str) -> tuple[dict[str, "torch.Tensor"], ModelCard | None]:
    """The tensors and the card (None in a plain safetensors file).

    Raises:
        ModelError: not a safetensors file, or a card that does not validate. `where` names the file in the message.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
    except SafetensorError as error:
        raise ModelError(
            f"{where} is not a safetensors file ({error})", hint="convert the weights: winnow models add NAME FILE"
        ) from error
    return tensors, read_card(data, where=where)


def read_card(data: bytes, *, where: str) -> ModelCard | None:
    """The card of a safetensors file, None in a plain one; needs no torch.

    Raises:
        ModelError: a card that does not validate.
    """
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except ValueError:
        return None
    card = header.get("__metadata__", {}).get(CARD_KEY) if isinstance(header, dict) else None
    if card is None:
        return None
    try:
        return ModelCard.model_validate_json(card)
    except ValidationError as error:
        raise ModelError(f"{where}: its card is not valid: {error}", hint="write the file again") from error
