"""How is a file of an item called? By its key, inside of a folder that no key can leave."""

import re
from collections.abc import Container
from pathlib import Path

_NAME_BYTES = 200  # of a part of a file's name; file systems take 255


def path_of(folder: Path, key: str, item_id: str, suffix: str, *, taken: Container[Path]) -> Path:
    """What a key may hold and a path may not is replaced; where that name is taken, the item_id tells two apart."""
    parts = [_part(part) for part in key.split("/") if part] or ["_"]
    path = folder.joinpath(*parts[:-1], parts[-1] + suffix)
    if path in taken:
        path = folder.joinpath(*parts[:-1], f"{parts[-1]}.{item_id[:12]}{suffix}")
    return path


def _part(part: str) -> str:
    clean = re.sub(r"[\x00-\x1f\x7f\\:*?\"<>|]", "_", part)
    clean = clean.encode("utf-8", "replace")[:_NAME_BYTES].decode("utf-8", "ignore")
    return "_" * len(clean) if clean in {".", ".."} else clean
