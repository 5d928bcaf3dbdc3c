"""How alike are the outputs of two versions of one network? A share of equal choices, or how far vectors turn.

It decides whether a cheaper version may stand in for the float32 one: at THRESHOLD and above it may.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

THRESHOLD = 0.995

Floats = npt.NDArray[np.floating[Any]]
Compares = Literal["choice", "direction"]


def agreements(reference: Floats, other: Floats, compares: Compares) -> Floats:
    """Per image, in [0, 1], of (images, channels, ...) outputs; what follows the channels are positions in the image.

    `choice`, of logits: the share of positions with the same largest channel (per pixel in dense outputs; 0 or 1 for
    an image's label). `direction`, of features: the cosine over the channels, its mean over the positions. Where
    either is not finite they do not agree; two vectors of length zero do.

    Raises:
        ValueError: the shapes differ, or there is nothing to compare.
    """
    if reference.shape != other.shape or reference.ndim < 2 or reference.size == 0:
        raise ValueError(f"outputs of shapes {reference.shape} and {other.shape} cannot be compared")
    finite = (np.isfinite(reference) & np.isfinite(other)).all(axis=1)
    ours, theirs = (np.where(finite[:, None], one, 0.0).astype(np.float64) for one in (reference, other))
    if compares == "choice":
        alike = (ours.argmax(axis=1) == theirs.argmax(axis=1)).astype(np.float64)
    else:
        alike = np.clip(_cosines(ours, theirs), 0.0, 1.0)
    each: Floats = np.where(finite, alike, 0.0).reshape(len(alike), -1).mean(axis=1)
    return each


def overall(each: Floats, compares: Compares) -> float:
    """Of all images: the mean for choices; for features the lowest, as one vector elsewhere has other neighbours."""
    return float(each.mean() if compares == "choice" else each.min())


def _cosines(ours: Floats, theirs: Floats) -> Floats:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    both_zero = ~(ours.any(axis=1) | theirs.any(axis=1))
    cosines: Floats = np.where(both_zero, 1.0, (ours * theirs).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))
    return cosines
