"""What does an OCR engine answer? Lines on the canvas that it was given, in no promised order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from winnow_workers.operator import PixelsHWC

CornersXYPx = npt.NDArray[np.float64]  # (4, 2): as the text is read, top left, top right, bottom right, bottom left


@dataclass(frozen=True, slots=True)
class FoundLine:
    """One line. `score` is the engine's own, in [0, 1]; `text` is empty where a line was found but nothing read."""

    text: str
    score: float
    corners: CornersXYPx


@dataclass(frozen=True, slots=True)
class FoundText:
    """The lines of a canvas, and how many more places were found that the engine was too unsure of to read (`cut`)."""

    lines: Sequence[FoundLine]
    cut: int


class TextEngine(Protocol):
    """An engine that is open."""

    score_kind: str  # of an image: how it comes from its lines'

    def read(self, pixels_bgr: "PixelsHWC") -> FoundText:
        """What stands on one canvas, uint8 (height, width, 3)."""

    def close(self) -> None:
        """Let go of the models."""


def corners_of(box: Any) -> CornersXYPx:
    """The (4, 2) corners of an upright (left, top, right, bottom)."""
    left, top, right, bottom = (float(side) for side in box)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
