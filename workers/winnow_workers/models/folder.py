"""Which files make up a model that is a folder? Listed, refused where unsafe, pinned by one digest, cached by it."""

import fcntl
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.errors import BlobMissing, ModelError
from winnow_storage.ids import digest_files
from winnow_storage.uri import parse
from winnow_workers.models.cache import cache_folder
from winnow_workers.models.reference import ResolvedModel, Weights

# formats that can run code when they are read, and code itself
_UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".msgpack", ".npy", ".py")
_NEEDED = ("config.json", "model.safetensors")


def resolve_folder(reference: str, *, base: Path | None) -> ResolvedModel:
    """Pin `transformers/FOLDER-OR-URI`: the digest is over the names and bytes of all files in the folder itself.

    Hidden files and what stands in folders below are left out, and no part of the model.

    Raises:
        ModelError: files are missing, are pickles, or the configuration asks for code of its own.
        StoreError: the store cannot be reached or refuses.
    """
    uri = parse(reference.removeprefix("transformers/"), base=base).uri
    digest = digest_files(read_folder(uri))
    return ResolvedModel(
        name=reference, architecture=None, weights=Weights(kind="folder", uri=uri, sha256=digest), digest=digest
    )


def local_folder(model: ResolvedModel) -> Path:
    """A local copy of a pinned folder: fetched once per machine, its digest checked at each call.

    Raises:
        ModelError: the files have another digest than the pinned one, or there is no room for them.
        StoreError: the store cannot be reached or refuses.
    """
    sha256, uri = model.weights.sha256, model.weights.uri
    if model.weights.kind != "folder" or sha256 is None or uri is None:
        raise ModelError(f"{model.name} is no transformers folder", hint="write model: transformers/FOLDER-OR-URI")
    place = cache_folder() / "folders" / sha256
    if _is_kept(place, sha256):
        return place
    files = read_folder(uri)
    if digest_files(files) != sha256:
        raise ModelError(
            f"{uri}: the digest of its files is {digest_files(files)}, expected {sha256}",
            hint="files were replaced: put the right ones back, or start a new run",
        )
    try:
        return _keep(files, place, sha256)
    except OSError as error:
        raise ModelError(
            f"{uri} cannot be copied to {place}: {error.strerror}", hint="set XDG_CACHE_HOME to a folder with room"
        ) from error


def read_folder(uri: str) -> dict[str, bytes]:
    """The files of a transformers folder by name.

    Raises:
        ModelError: files are missing, are pickles, or the configuration asks for code of its own.
        StoreError: the store cannot be reached or refuses.
    """
    store = open_store(parse(uri))
    names = sorted(info.key for info in store.walk() if not any(part.startswith(".") for part in info.key.split("/")))
    unsafe = [name for name in names if name.lower().endswith(_UNSAFE)]
    if unsafe:
        raise ModelError(
            f"{uri} holds {', '.join(unsafe[:5])}: pickles and code are never read",
            hint="keep config.json, model.safetensors and the *.json and *.txt files beside them, and remove the rest",
        )
    missing = [name for name in _NEEDED if name not in names]
    if missing:
        raise ModelError(
            f"{uri} lacks {' and '.join(missing)}", hint="name the folder that save_pretrained wrote, in one shard"
        )
    files = {name: _get(store, name, uri) for name in names if "/" not in name}
    for name, data in files.items():
        if name.endswith("config.json"):
            read_config(data, where=f"{uri}/{name}")
    return files


def read_config(data: bytes, *, where: str) -> dict[str, Any]:
    """A JSON file of a folder, as an object.

    Raises:
        ModelError: it is none, or it names code (`auto_map`), which is never run.
    """
    try:
        config = json.loads(data)
    except ValueError as error:
        raise ModelError(f"{where} is not JSON: {error}", hint="save the model again: save_pretrained") from error
    if not isinstance(config, dict):
        raise ModelError(f"{where} is no JSON object", hint="save the model again: save_pretrained")
    if "auto_map" in config:
        raise ModelError(
            f"{where} asks for code of its own (auto_map), which is never run",
            hint="use a model that the transformers library itself knows",
        )
    return config


def _get(store: BlobStore, name: str, uri: str) -> bytes:
    try:
        return store.get(name)
    except BlobMissing as error:
        raise ModelError(f"{uri}/{name} went away while it was read", hint="run again") from error


def _is_kept(place: Path, sha256: str) -> bool:
    try:
        return digest_files({path.name: path.read_bytes() for path in place.iterdir()}) == sha256
    except OSError:  # absent, or something else than the files that were put there
        return False


def _keep(files: dict[str, bytes], place: Path, sha256: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    # one actor of a machine at a time: the second finds what the first kept, and must not take it from under it
    with (place.parent / f".lock-{sha256}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_kept(place, sha256):
            return place
        part = Path(tempfile.mkdtemp(dir=place.parent, prefix=".part-"))
        try:
            for name, data in files.items():
                (part / name).write_bytes(data)
            if place.exists():
                shutil.rmtree(place)  # damaged: its digest was wrong
            part.replace(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return place
