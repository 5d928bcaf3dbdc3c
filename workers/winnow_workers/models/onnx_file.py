"""What does an ONNX file say of itself, and how is it opened? Its card is in its metadata; nothing else is read."""

import ast
from typing import Any

from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.models.load import cached, fetch
from winnow_workers.models.model_file import CARD_KEY, ModelCard
from winnow_workers.models.reference import ResolvedModel

SUFFIX = ".onnx"
_NAMES_KEY = "names"  # where the exporters of several YOLOs put their classes: {0: 'person', ...}


def is_onnx(model: ResolvedModel) -> bool:
    """Whether a model's weights are an ONNX file."""
    return model.weights.uri is not None and model.weights.uri.lower().endswith(SUFFIX)


def open_session(model: ResolvedModel, *, device: str, threads: int) -> Any:
    """An ONNX Runtime session; weights in other files than the one that is pinned are refused.

    Raises:
        ModelError: another digest, no ONNX file, or one that this runtime cannot run.
        StoreError: the store cannot be reached or refuses.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as said

    weights = model.weights
    if weights.uri is None or weights.sha256 is None:
        raise ModelError(f"{model.name} has no weights file", hint="name an ONNX file")
    data = cached(weights.sha256, lambda: fetch(weights), where=weights.uri)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
    providers = [one for one in [*wanted, "CPUExecutionProvider"] if one in ort.get_available_providers()]
    try:
        return ort.InferenceSession(data, options, providers=providers)
    except (said.Fail, said.InvalidArgument, said.InvalidGraph, said.InvalidProtobuf, said.NotImplemented) as error:
        raise ModelError(
            f"{weights.uri} cannot be opened by ONNX Runtime: {error}",
            hint="export it again in one file, for operators that onnxruntime has",
        ) from error


def card_of(session: Any, *, where: str) -> tuple[ModelCard | None, tuple[str, ...]]:
    """The card in a session's metadata (None: there is none), and the labels that the card or the exporter says.

    Raises:
        ModelError: a card that does not validate.
    """
    return _read(session.get_modelmeta().custom_metadata_map, where=where)


def labels_in(data: bytes, *, where: str) -> tuple[str, ...]:
    """The labels of an ONNX file that is not opened.

    Raises:
        ModelError: no ONNX file, or a card that does not validate.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        loaded = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"{where} is not an ONNX file ({error})", hint="export it again") from error
    return _read({one.key: one.value for one in loaded.metadata_props}, where=where)[1]


def _read(metadata: dict[str, str], *, where: str) -> tuple[ModelCard | None, tuple[str, ...]]:
    card = None
    if CARD_KEY in metadata:
        try:
            card = ModelCard.model_validate_json(metadata[CARD_KEY])
        except ValidationError as error:
            raise ModelError(
                f"{where}: its card is not valid: {error}", hint="write the file's metadata again"
            ) from error
        if card.labels:
            return card, card.labels
    try:
        names = ast.literal_eval(metadata.get(_NAMES_KEY, ""))
    except (ValueError, SyntaxError):
        return card, ()
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        return card, tuple(str(names[index]) for index in range(len(names)))
    return card, tuple(str(name) for name in names) if isinstance(names, list) else ()
