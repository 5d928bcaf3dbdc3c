"""Which weights exactly does a task's model mean today? Names, stages and files become a pinned model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from winnow_storage.blobs import locate, open_store
from winnow_storage.errors import BlobMissing, ModelError
from winnow_storage.ids import digest_bytes
from winnow_storage.registry import Registry
from winnow_storage.uri import parse
from winnow_workers.models.architectures import check_architecture, split
from winnow_workers.models.folder import resolve_folder
from winnow_workers.models.hub import download, pretrained_url
from winnow_workers.models.load import PICKLE_SUFFIXES, keep
from winnow_workers.models.reference import ResolvedModel, Weights
from winnow_workers.models.tesseract_data import is_tesseract

LIBRARIES = ("torchvision", "timm", "smp", "builtin")
FINGERPRINT = "builtin/fingerprint"
RAPIDOCR = "builtin/rapidocr"
NO_MODEL = "builtin/none"  # of operators that are code alone


class _FileWeights(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class _RandomWeights(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    random: int = Field(ge=0)


_Request = Literal["pretrained"] | _FileWeights | _RandomWeights | None
_REQUEST: TypeAdapter[_Request] = TypeAdapter(_Request)


def resolve_model(
    reference: str | None,
    weights: "str | Mapping[str, object] | BaseModel | None" = None,
    *,
    registry: Registry | None = None,
    base: Path | None = None,
) -> ResolvedModel:
    """Pin a model. Relative files are relative to `base`.

    `weights` is what the spec says: nothing, "pretrained", {uri, sha256} or {random: SEED}.

    Raises:
        ModelError: the name or the weights mean nothing that can be used.
        StoreError: the store of a weights file cannot be reached or refuses.
    """
    if reference is None:
        raise ModelError(
            "the task names no model", hint="add model: torchvision/NAME, timm/NAME, models/NAME or a weights file"
        )
    request = _read_request(weights)
    library, name = split(reference)
    if library == "transformers":
        if request is not None or not name:
            raise ModelError(
                f"{reference!r}: a transformers folder brings its weights", hint="write model: transformers/FOLDER"
            )
        return resolve_folder(reference, base=base)
    if reference in (FINGERPRINT, RAPIDOCR, NO_MODEL) or is_tesseract(reference):
        if request is not None:
            raise ModelError(f"{reference} brings what it needs and takes no weights", hint="remove weights:")
        return _builtin(reference)
    if library in LIBRARIES and name:
        check_architecture(reference)
        return _architecture(reference, request, base=base)
    if request is not None:
        raise ModelError(
            f"{reference!r} already says where its weights are", hint="remove weights:, or name an architecture"
        )
    if library == "models" and name:
        return _registered(reference, registry)
    return _file(reference, architecture=None, request=_FileWeights(uri=reference), base=base)


def _read_request(weights: "str | Mapping[str, object] | BaseModel | None") -> _Request:
    value = weights.model_dump(exclude_none=True) if isinstance(weights, BaseModel) else weights
    try:
        return _REQUEST.validate_python(value)
    except ValidationError as error:
        raise ModelError(
            f"weights: {value!r} is not understood", hint="write pretrained, {uri: ..., sha256: ...} or {random: SEED}"
        ) from error


def _builtin(reference: str) -> ResolvedModel:
    name = split(reference)[1]
    if reference in (FINGERPRINT, NO_MODEL):
        return ResolvedModel(
            name=reference, architecture=reference, weights=Weights(kind="builtin"), digest=f"builtin:{name}"
        )
    if is_tesseract(reference):
        from winnow_workers.models.tesseract_data import tesseract_digest, tesseract_version

        sha256, name = tesseract_digest(reference), f"{name}:{tesseract_version()}"
    else:
        from winnow_workers.models.ocr_wheel import wheel_digest

        sha256 = wheel_digest()
    return ResolvedModel(
        name=reference,
        architecture=reference,
        weights=Weights(kind="builtin", sha256=sha256),
        digest=f"builtin:{name}:{sha256[:16]}",
    )


def _architecture(reference: str, request: _Request, *, base: Path | None) -> ResolvedModel:
    if request is None:
        choices = "{uri: FILE}, pretrained or {random: SEED}"
        if split(reference)[0] == "builtin":
            choices = "{uri: FILE} or {random: SEED}"
        raise ModelError(
            f"{reference} names an architecture, but not where its weights come from", hint=f"add weights: {choices}"
        )
    if request == "pretrained":
        return _pretrained(reference)
    if isinstance(request, _RandomWeights):
        return ResolvedModel(
            name=reference,
            architecture=reference,
            weights=Weights(kind="random", seed=request.random),
            digest=f"random:{request.random}",
        )
    return _file(reference, architecture=reference, request=request, base=base)


def _pretrained(reference: str) -> ResolvedModel:
    url = pretrained_url(reference)
    data = download(url)
    sha256 = digest_bytes(data)
    keep(data, sha256)
    return ResolvedModel(
        name=reference,
        architecture=reference,
        weights=Weights(kind="pretrained", uri=url, sha256=sha256),
        digest=sha256,
    )


def _registered(reference: str, registry: Registry | None) -> ResolvedModel:
    if registry is None:
        raise ModelError(f"{reference!r}: there is no model registry here", hint="set registry: in the spec")
    entry = registry.resolve(reference)
    kind: Literal["file", "folder"] = "folder" if entry.is_folder else "file"
    return ResolvedModel(
        name=reference,
        architecture=None,
        weights=Weights(kind=kind, uri=entry.uri, sha256=entry.sha256),
        digest=entry.sha256,
    )


def _file(reference: str, *, architecture: str | None, request: _FileWeights, base: Path | None) -> ResolvedModel:
    uri = parse(request.uri, base=base).uri
    root, key = locate(uri)
    if uri.endswith(PICKLE_SUFFIXES) and request.sha256 is None:
        raise ModelError(
            f"{request.uri}: a pickled state dict is read only when its sha256 is given",
            hint="add weights: {uri: ..., sha256: ...} to the architecture's name, or convert it to safetensors",
        )
    sha256 = request.sha256
    if sha256 is None:
        try:
            data = open_store(root).get(key)
        except BlobMissing as error:
            raise _no_file(reference, uri) from error
        sha256 = digest_bytes(data)
        keep(data, sha256)
    elif open_store(root).info(key) is None:
        raise _no_file(reference, uri)
    return ResolvedModel(
        name=reference,
        architecture=architecture,
        weights=Weights(kind="file", uri=uri, sha256=sha256),
        digest=sha256,
    )


def _no_file(reference: str, uri: str) -> ModelError:
    return ModelError(
        f"{reference!r}: there is no weights file at {uri}",
        hint="a model is torchvision/NAME, timm/NAME, builtin/NAME, models/NAME@STAGE, or the URI of a weights file",
    )
