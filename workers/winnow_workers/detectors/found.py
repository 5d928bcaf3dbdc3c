"""What does a detector say of one look at an image? Boxes, classes, scores and, where it draws them, masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
MaskHW = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Patch:
    """A mask within an image: `bits` (height, width), its corner at (`left`, `top`) px; false everywhere else."""

    left: int
    top: int
    bits: MaskHW


@dataclass(frozen=True, slots=True)
class Found:
    """n findings: `boxes` (n, 4) float32 xyxy px, `classes` (n,) indices of the label set, `scores` (n,) in [0, 1].

    `masks` has one patch for each, or is None where the detector draws none. `cut` counts what the detector found
    above the floor and left out of the n.
    """

    boxes: Floats
    classes: Ints
    scores: Floats
    masks: tuple[Patch, ...] | None = None
    cut: int = 0

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: Ints) -> "Found":
        """Those of them, in that order."""
        masks = None if self.masks is None else tuple(self.masks[index] for index in chosen.tolist())
        return Found(self.boxes[chosen], self.classes[chosen], self.scores[chosen], masks, self.cut)

    def moved(self, left: int, top: int) -> "Found":
        """The same in an image in which this look's corner is at (left, top)."""
        boxes = self.boxes + np.array([left, top, left, top], np.float32)
        masks = self.masks
        if masks is not None:
            masks = tuple(Patch(one.left + left, one.top + top, one.bits) for one in masks)
        return Found(boxes, self.classes, self.scores, masks, self.cut)


def joined(parts: Sequence[Found]) -> Found:
    """All findings of several looks, at least one, in their order."""
    masks = None
    if all(part.masks is not None for part in parts):
        masks = tuple(mask for part in parts for mask in part.masks or ())
    return Found(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        masks,
        sum(part.cut for part in parts),
    )


def strongest(found: Found, *, most: int, floor: float) -> Found:
    """At most that many of those with at least that score, the strongest first; the rest above the floor is counted.

    Equal scores keep the detector's order.
    """
    order = np.argsort(-found.scores, kind="stable")
    order = order[found.scores[order] >= floor]
    cut = found.cut + max(0, len(order) - most)
    kept = found.take(order[:most])
    return Found(kept.boxes, kept.classes, kept.scores, kept.masks, cut)
