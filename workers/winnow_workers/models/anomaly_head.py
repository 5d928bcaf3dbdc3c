"""What turns a feature map into distances? A memory bank (PatchCore) or Gaussians (PaDiM), as a detector's file says.

A detector's file holds the backbone's tensors under `backbone.`, the head's, and `held_out_scores`, the image distances
of normal images that nothing was fitted on, float64, sorted upwards. Its card names the backbone as `architecture`, and
in `extra`: `method` (`patchcore` where it is absent), `threshold`, `false_alarms`, optionally `layers`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from winnow_storage.errors import ModelError
from winnow_workers.models import patchcore
from winnow_workers.models.model_file import ModelCard
from winnow_workers.models.padim import Gaussians, read_gaussians

if TYPE_CHECKING:
    import torch

HELD_OUT = "held_out_scores"
METHODS = ("patchcore", "padim")


class Head(Protocol):
    """From features to distances."""

    def distance_map(self, features_chw: "torch.Tensor") -> "torch.Tensor":
        """(rows, columns) float32, 0 and above."""

    def tensors(self) -> "Mapping[str, torch.Tensor]":
        """As a model file holds them."""


@dataclass(frozen=True, slots=True)
class MemoryBank:
    """`bank` (patches, features) float32."""

    bank: "torch.Tensor"

    def distance_map(self, features_chw: "torch.Tensor") -> "torch.Tensor":
        """Euclidean distances to the nearest remembered patch."""
        return patchcore.distance_map(features_chw, self.bank)

    def tensors(self) -> "Mapping[str, torch.Tensor]":
        """As a model file holds them."""
        return {patchcore.MEMORY_BANK: self.bank}


def read_head(
    tensors: "Mapping[str, torch.Tensor]", card: ModelCard | None, *, shape: tuple[int, ...], where: str
) -> Head:
    """The head of a detector's file; `shape` (features, rows, columns) is what its backbone gives.

    Raises:
        ModelError: an unknown method, or tensors that do not fit it or the backbone.
    """
    method = card.extra.get("method", METHODS[0]) if card else METHODS[0]
    if method not in METHODS:
        raise ModelError(f"{where}: its card names the method {method!r}", hint=f"known are {', '.join(METHODS)}")
    if method == "padim":
        return _fitting(read_gaussians(tensors, where=where), shape, where)
    bank = patchcore.check_bank(tensors, where=where)
    if bank.shape[1] != shape[0]:
        raise ModelError(
            f"{where}: its bank has {bank.shape[1]} features, its backbone gives {shape[0]}",
            hint="fit the detector again",
        )
    return MemoryBank(bank)


def read_held_out(tensors: "Mapping[str, torch.Tensor]", *, where: str) -> npt.NDArray[np.float64] | None:
    """The sorted distances of held-out normal images, None in a file without them.

    Raises:
        ModelError: they are no finite numbers.
    """
    found = tensors.get(HELD_OUT)
    if found is None:
        return None
    scores = np.sort(found.double().numpy().ravel())
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise ModelError(f"{where}: its {HELD_OUT} are no finite numbers", hint="fit the detector again")
    return scores


def _fitting(gaussians: Gaussians, shape: tuple[int, ...], where: str) -> Gaussians:
    places = tuple(gaussians.mean.shape[:2])
    if places != shape[1:] or int(gaussians.channels.max()) >= shape[0] or int(gaussians.channels.min()) < 0:
        raise ModelError(
            f"{where}: its Gaussians are of a {places} map, its backbone gives {shape}",
            hint="keep the input as it was fitted, or fit the detector again",
        )
    return gaussians
