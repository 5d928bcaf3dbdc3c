"""Which model does a task mean? The parsed name, and the model once its digest is known."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Weights(BaseModel):
    """Where a model's weights come from.

    `file`: a safetensors (or, with `sha256` given, a `weights_only` state dict) file at `uri`.
    `folder`: a transformers folder or object-store prefix at `uri`; `sha256` is over all its files.
    `pretrained`: the architecture's own public weights, downloaded from its hub.
    `random`: initialised from `seed`; for benchmarks and parity tests only.
    `builtin`: there are none, or they are part of a pinned package (builtin/fingerprint, rapidocr's wheel).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["file", "folder", "pretrained", "random", "builtin"]
    uri: str | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    seed: int | None = None


class ResolvedModel(BaseModel):
    """A model pinned for a run. Everything here is in the resolved spec and travels to the actors as JSON.

    `name` is what the spec says (`models/kind@prod`); `architecture` is `torchvision/NAME`, `timm/NAME` or
    `builtin/NAME`, null where only the weights file's own metadata tells (it is then read when the model is opened).
    `digest` goes into every row: the sha256 of the weights file, `random:SEED`, `pretrained:NAME` or `builtin:NAME`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    architecture: str | None
    weights: Weights
    digest: str
