"""How is what the output keeps by digest read back? Whole, or as damaged: never as something else."""

from typing import Protocol, Self, TypeVar

from pydantic import ValidationError

from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError


class Kept(Protocol):
    """A pydantic model whose object is named by the digest of its content."""

    @property
    def digest(self) -> str:
        """Of its content."""

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, /) -> Self:
        """From the object's bytes."""


KeptT = TypeVar("KeptT", bound=Kept)


def read_kept(store: BlobStore, key: str, kind: type[KeptT], *, digest: str, damaged: StoreError) -> KeptT:
    """What stands at `key`.

    Raises:
        StoreError: `damaged`, where it is missing or has another digest; or the store does not answer.
    """
    try:
        found = kind.model_validate_json(store.get(key))
    except (BlobMissing, ValidationError) as error:
        raise damaged from error
    if found.digest != digest:
        raise damaged
    return found
