"""How are things named by what they are? Digests of bytes and of values, the same on every machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def digest_bytes(data: bytes) -> str:
    """The sha256 of `data` in hex, 64 characters."""
    return hashlib.sha256(data).hexdigest()


def digest_files(files: Mapping[str, bytes]) -> str:
    """The sha256 that stands for the names and the bytes of all files of a folder."""
    return digest_value({name: digest_bytes(data) for name, data in files.items()})


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_value(value: object) -> str:
    """The sha256 of a JSON value's canonical text."""
    return digest_bytes(canonical_json(value).encode())


def item_id(corpus_id: str, key: str) -> str:
    """The id of an item: 32 hex characters of the digest of (corpus id, key relative to the corpus root).

    For a corpus file the key is the canonical URI.
    """
    return digest_bytes(f"{corpus_id}\0{key}".encode())[:32]


def dedupe_key(*, job: str, task: str, item: str, version: str, purpose: str, round_number: int) -> str:
    """The id of a review task: 32 hex characters."""
    return digest_bytes("\0".join([job, task, item, version, purpose, str(round_number)]).encode())[:32]
