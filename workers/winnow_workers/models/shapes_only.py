"""How is a network looked at without memory for its weights? On torch's meta device, where a tensor is a shape only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

META = "meta"  # an operator's device in a check: it opens as an actor's does, and answers nothing


class ShapesUnknown(Exception):
    """A network whose shapes depend on numbers: they are only known where it has its weights."""


@contextmanager
def building_on(device: str) -> Iterator[None]:
    """Networks that are built within have no memory for their weights, if `device` is META; else nothing is other.

    Raises:
        ShapesUnknown: what is built within needs numbers.
    """
    if device != META:
        yield
        return
    import torch

    with _saying_so(), torch.device(META):
        yield


def answer(forward: "Callable[[torch.Tensor], torch.Tensor]", batch: "torch.Tensor") -> "torch.Tensor":
    """Zeros in the shape of what a network on META says of a batch, on the CPU.

    Raises:
        ShapesUnknown: its forward pass needs numbers.
    """
    import torch

    with _saying_so():
        said = forward(batch.to(META))
    return torch.zeros(said.shape)


def is_without_memory(module: "nn.Module") -> bool:
    """Whether a network was built on META."""
    return any(part.is_meta for part in module.parameters())


@contextmanager
def _saying_so() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if META in str(error).lower():  # torch has no class of its own for it
            raise ShapesUnknown(str(error)) from error
        raise
