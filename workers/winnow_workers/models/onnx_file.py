"""What does an ONNX file say of itself, and how is it opened? Its card is in its metadata; nothing else is read."""

import ast
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from winnow_storage.errors import ModelError
from winnow_workers.models.load import cached, fetch
from winnow_workers.models.model_file import CARD_KEY, ModelCard
from winnow_workers.models.reference import ResolvedModel

SUFFIX = ".onnx"
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
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
    refuse_external_data(data, where=weights.uri)
    available = ort.get_available_providers()
    if device == "cuda" and _CUDA not in available:
        raise ModelError(
            f"{model.name} is an ONNX file, and the onnxruntime that is installed here cannot use the GPU "
            f"(it has {', '.join(available)})",
            hint="install onnxruntime-gpu in its place on every node, or write run: {device: cpu}",
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(data, options, providers=[_CUDA, _CPU] if device == "cuda" else [_CPU])
    except (said.Fail, said.InvalidArgument, said.InvalidGraph, said.InvalidProtobuf, said.NotImplemented) as error:
        raise ModelError(
            f"{weights.uri} cannot be opened by ONNX Runtime: {error}",
            hint="export it again in one file, for operators that onnxruntime has",
        ) from error


def refuse_external_data(data: bytes, *, where: str) -> None:
    """Make sure that all tensors of an ONNX file are in it: what lies beside it is pinned by no digest.

    Raises:
        ModelError: no ONNX file, or tensors in other files.
    """
    outside = sorted(
        {one.name or "a constant" for one in _tensors(_parsed(data, where=where).graph) if _is_outside(one)}
    )
    if outside:
        more = f" and {len(outside) - 3} more" if len(outside) > 3 else ""
        raise ModelError(
            f"{where} keeps weights in other files ({', '.join(outside[:3])}{more}); an ONNX model is one file here",
            hint="join them: onnx.save(onnx.load(FILE), OTHER), or export with external_data=False",
        )


def check_onnx(data: bytes, *, where: str) -> ModelCard | None:
    """Make sure that an ONNX file opens on this machine's CPU; its card, None where it has none.

    Raises:
        ModelError: no ONNX file, weights in other files, an operator that is not known, a card that is not valid.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as said

    refuse_external_data(data, where=where)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(data, options, providers=[_CPU])
    except (said.Fail, said.InvalidArgument, said.InvalidGraph, said.InvalidProtobuf, said.NotImplemented) as error:
        raise ModelError(
            f"{where} cannot be opened by ONNX Runtime: {error}", hint="export it for operators that onnxruntime has"
        ) from error
    return card_of(session, where=where)[0]


def with_card(data: bytes, card: ModelCard, *, where: str) -> bytes:
    """The same file with this card in its metadata, in place of one that was there.

    Raises:
        ModelError: no ONNX file.
    """
    loaded = _parsed(data, where=where)
    kept = [(one.key, one.value) for one in loaded.metadata_props if one.key != CARD_KEY]
    del loaded.metadata_props[:]
    for key, value in [*kept, (CARD_KEY, card.model_dump_json())]:
        entry = loaded.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(loaded.SerializeToString(deterministic=True))


def _parsed(data: bytes, *, where: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        loaded = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"{where} is not an ONNX file ({error})", hint="export it again") from error
    if not loaded.graph.node:
        raise ModelError(f"{where} is not an ONNX file, or one without a graph", hint="export it again")
    return loaded


def _tensors(graph: Any) -> Iterator[Any]:
    """Every constant of a graph and of the graphs in its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _is_outside(tensor: Any) -> bool:
    return bool(tensor.data_location == tensor.EXTERNAL or tensor.external_data)


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
    return _read({one.key: one.value for one in _parsed(data, where=where).metadata_props}, where=where)[1]


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
