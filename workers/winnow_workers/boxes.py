"""How do boxes overlap, and what do an image's boxes together say of it? Plain numpy; boxes are xyxy px."""

from typing import Any

import numpy as np
import numpy.typing as npt

SOFTMIN_TEMPERATURE = 0.1

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def softmin(values: npt.NDArray[np.floating[Any]]) -> float:
    """The mean of the values in [0, 1], each weighted by exp((1 - value) / 0.1): near the minimum, and smooth.

    As in cleanlab's scores of segmentations and of boxes (Lad and Mueller, 2023; ObjectLab, Tkachenko et al., 2023).
    """
    wide = values.astype(np.float64).ravel()
    weights = np.exp((wide.min() - wide) / SOFTMIN_TEMPERATURE)  # shifted: the lowest value has weight 1
    return float((wide * weights).sum() / weights.sum())


def image_score(scores: Floats, *, threshold: float, floor: float) -> float:
    """How sure a detector is of an image, in [0, 1].

    The soft minimum over the scores of the boxes that are put out (`threshold` and above), and over 1 - the highest
    score that is not: what was nearly put out makes an image unsure as well. An image without a box that is put out
    has exactly 1 - its highest score. Nothing is known of what lies below the floor, so it counts with the floor.
    """
    out = scores[scores >= threshold]
    held = float(max(scores[scores < threshold], default=floor))
    return softmin(np.append(out.astype(np.float64), 1.0 - held))


def areas(boxes: Floats) -> Floats:
    """(n,) areas of (n, 4) boxes."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)


def paired_intersection(one: Floats, other: Floats) -> Floats:
    """(n, 4) where each box of (n, 4) `one` meets that of `other`; of no area where they do not meet."""
    corners = [np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])]
    return np.concatenate(corners, axis=1)


def iou_matrix(one: Floats, other: Floats) -> Floats:
    """(n, m) intersection over union; 0 where both boxes are empty."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    sides = np.maximum(high - low, 0)
    common = sides[..., 0] * sides[..., 1]
    union = areas(one)[:, None] + areas(other)[None, :] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0), np.float32)


def class_wise_nms(boxes: Floats, scores: Floats, classes: Ints, *, max_iou: float) -> Ints:
    """The boxes that greedy non-maximum suppression keeps within each class, the strongest first.

    Each class by itself rather than by shifted coordinates, which lose digits in large images.
    """
    import torch

    from winnow_workers.models import libraries

    nms = libraries.torchvision().ops.nms
    kept: list[Ints] = []
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        chosen = nms(torch.from_numpy(boxes[members]), torch.from_numpy(scores[members]), max_iou)
        kept.append(members[chosen.numpy()])
    if not kept:
        return np.zeros(0, np.int64)
    everything = np.sort(np.concatenate(kept))
    return everything[np.argsort(-scores[everything], kind="stable")]


def clipped(boxes: Floats, *, width_px: float, height_px: float) -> Floats:
    """The boxes' parts that lie in an image of that size."""
    sides = np.array([width_px, height_px, width_px, height_px], np.float32)
    return np.clip(boxes, np.float32(0), sides)
