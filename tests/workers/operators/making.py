"""How do the tests of operators get operators, model files and views?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow_workers.catalogue import operator_named
from winnow_workers.models.model_file import ModelCard, encode_model
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import Operator, View


def opened(
    operator: str, model: str | None = None, *, weights: Mapping[str, object] | None = None, **params: object
) -> Operator[Any]:
    """An operator that is open, on the CPU."""
    kind = operator_named(operator)
    built = kind(kind.params_type.model_validate(params), resolve_model(model or kind.default_model, weights), "cpu")
    built.open()
    return built


def view(pixels: np.ndarray, *, width_px: int | None = None, height_px: int | None = None) -> View:
    """A view of (height, width, 3) pixels, by default at full size."""
    return View(pixels, width_px or pixels.shape[1], height_px or pixels.shape[0])


def flat(colour: tuple[int, int, int], *, width: int = 40, height: int = 30) -> np.ndarray:
    """An image of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def write_model(path: Path, tensors: Mapping[str, torch.Tensor], card: ModelCard) -> str:
    """Write a model file; its path."""
    path.write_bytes(encode_model(tensors, card))
    return str(path)
