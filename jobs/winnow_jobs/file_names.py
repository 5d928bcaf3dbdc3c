"""How is a file of an item called, and written? By its key, inside of a folder that no key can leave."""

import re
from collections.abc import Container
from pathlib import Path

from winnow_storage.errors import UsageError

_NAME_BYTES = 200  # of a part of a file's name; file systems take 255


def path_of(folder: Path, key: str, item_id: str, suffix: str, *, taken: Container[Path]) -> Path:
    """What a key may hold and a path may not is replaced; where that name is taken, the item_id tells two apart."""
    parts = [_part(part) for part in key.split("/") if part] or ["_"]
    path = folder.joinpath(*parts[:-1], parts[-1] + suffix)
    if path in taken:
        path = folder.joinpath(*parts[:-1], f"{parts[-1]}.{item_id[:12]}{suffix}")
    return path


def write_file(path: Path, data: bytes) -> Path:
    """The path, once the bytes are there and so are its folders.

    Raises:
        UsageError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint="name a place with --to that can be written to"
        ) from error
    return path


def _part(part: str) -> str:
    clean = re.sub(r"[\x00-\x1f\x7f\\:*?\"<>|]", "_", part)
    clean = clean.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    return "_" * len(clean) if clean in {".", ".."} else clean
