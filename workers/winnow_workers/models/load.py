"""How do pinned weights get into memory? From a local cache by sha256, else from where the model says; always checked.

The cache is `$XDG_CACHE_HOME/winnow/models/<sha256>`; an entry that is damaged is fetched again.
"""

import io
import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from winnow_storage.blobs import locate, open_store
from winnow_storage.errors import BlobMissing, ModelError
from winnow_storage.ids import digest_bytes
from winnow_workers.models.cache import cache_folder
from winnow_workers.models.hub import download
from winnow_workers.models.model_file import ModelCard, decode_model, is_safetensors, read_card
from winnow_workers.models.reference import ResolvedModel, Weights

if TYPE_CHECKING:
    import torch

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")
_PEEKED_BYTES = 1 << 16
_MOST_HEADER_BYTES = 100_000_000  # what safetensors itself reads


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """The tensors of a weights file by name, and its card where it has one."""

    tensors: "Mapping[str, torch.Tensor]"
    card: ModelCard | None


def load_weights(model: ResolvedModel) -> LoadedWeights:
    """Read a model's pinned weights.

    Raises:
        ModelError: the file is gone, has another digest than the pinned one, or is of an unsafe or broken format.
        StoreError: the store cannot be reached or refuses.
    """
    data = read_weights(model)
    uri = model.weights.uri or ""
    if uri.endswith(PICKLE_SUFFIXES):
        return LoadedWeights(read_state_dict(data, where=uri), None)
    tensors, card = decode_model(data, where=uri)
    return LoadedWeights(tensors, card)


def read_weights(model: ResolvedModel) -> bytes:
    """The bytes of a model's pinned weights file.

    Raises:
        ModelError: it has none, or the file is gone, an ONNX file, or of another digest than the pinned one.
        StoreError: the store cannot be reached or refuses.
    """
    weights = model.weights
    if weights.kind == "folder":
        raise ModelError(
            f"{model.name}: this operator takes no transformers model", hint="use torchvision/NAME or timm/NAME"
        )
    if weights.uri is not None and weights.uri.lower().endswith(".onnx"):
        raise ModelError(
            f"{model.name}: this operator, or this kind of it, takes no ONNX file",
            hint="ONNX files are for classify, embed, detect, and segment by classes",
        )
    if weights.uri is None or weights.sha256 is None:
        raise ModelError(
            f"{model.name} is no network that this operator can run: it has no weights file",
            hint="name a weights file, models/NAME, or an architecture such as torchvision/NAME or timm/NAME",
        )
    return cached(weights.sha256, lambda: fetch(weights), where=weights.uri)


def fetch(weights: Weights) -> bytes:
    """The bytes of a weights file from where it is kept, unchecked.

    Raises:
        ModelError: it is not there.
        StoreError: the store cannot be reached or refuses.
    """
    uri = weights.uri or ""
    if weights.kind == "pretrained":
        return download(uri)
    root, key = locate(uri)
    try:
        return open_store(root).get(key)
    except BlobMissing as error:
        raise _gone(uri) from error


def peek_card(weights: Weights) -> ModelCard | None:
    """The card of a safetensors file by its header alone, None of any other file; nothing is checked by its digest.

    Raises:
        ModelError: the file is not there, or its card does not validate.
        StoreError: the store cannot be reached or refuses.
    """
    uri = weights.uri or ""
    root, key = locate(uri)
    try:
        head = open_store(root).get_range(key, 0, _PEEKED_BYTES)
        if not is_safetensors(head):
            return None
        length = 8 + int.from_bytes(head[:8], "little")
        if len(head) < length <= _MOST_HEADER_BYTES:
            head = open_store(root).get_range(key, 0, length)
    except BlobMissing as error:
        raise _gone(uri) from error
    return read_card(head, where=uri)


def cached(sha256: str, read: Callable[[], bytes], *, where: str) -> bytes:
    """The bytes of that digest, from the local cache or from `read`, and cached from then on.

    Raises:
        ModelError: what `read` gives has another digest.
    """
    path = cache_folder() / sha256
    try:
        data = path.read_bytes()
    except OSError:
        data = None
    if data is not None and digest_bytes(data) == sha256:
        return data
    data = read()
    got = digest_bytes(data)
    if got != sha256:
        raise ModelError(
            f"{where}: its sha256 is {got}, expected {sha256}",
            hint="the file was replaced: put the right one back, or correct sha256 in the spec and start a new run",
        )
    keep(data, sha256)
    return data


def _gone(uri: str) -> ModelError:
    return ModelError(f"the weights file {uri} is not there", hint="put the file back, or name another in the spec")


def keep(data: bytes, sha256: str) -> None:
    """Put bytes into the cache; a cache that cannot be written is no error, the file is then fetched each time."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(data)
                file.flush()
                part.replace(folder / sha256)
            except OSError:
                part.unlink(missing_ok=True)
    except OSError:
        return


def read_state_dict(data: bytes, *, where: str) -> "dict[str, torch.Tensor]":
    """The tensors of a pickled state dict, read with `weights_only`; its digest must have been checked before.

    Raises:
        ModelError: anything else than tensors by name.
    """
    import torch

    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelError(
            f"{where} cannot be read safely: it is damaged, or holds more than tensors",  # torch's text advises worse
            hint="save model.state_dict() alone, best as safetensors: winnow models add NAME FILE",
        ) from error
    for wrapper in ("state_dict", "model"):  # how training scripts usually wrap it
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ModelError(f"{where} holds no state dict", hint="save model.state_dict() and name that file")
    return dict(content)
