"""How is a mask written, and put together from patches? COCO's run-length code at the full size of the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow_workers.detectors.found import MaskHW, Patch


def encode_rle(mask: npt.NDArray[np.bool_]) -> dict[str, object]:
    """COCO's compressed run-length code of a (height, width) mask, column by column."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return _plain(encoded)


def encode_patches(patches: Sequence[Patch], *, width_px: int, height_px: int) -> tuple[dict[str, object], int, Patch]:
    """The code of the union of patches in an image of that size, its area in px, and the union as one patch."""
    from pycocotools import mask as coco

    whole = united(patches, width_px=width_px, height_px=height_px)
    full = np.zeros((height_px, width_px), np.uint8, order="F")
    rows, columns = whole.bits.shape
    full[whole.top : whole.top + rows, whole.left : whole.left + columns] = whole.bits
    return _plain(coco.encode(full)), int(whole.bits.sum()), whole


def united(patches: Sequence[Patch], *, width_px: int, height_px: int) -> Patch:
    """One patch that is true where any of them is, cut to the image; empty where they are."""
    left = max(0, min((one.left for one in patches), default=0))
    top = max(0, min((one.top for one in patches), default=0))
    right = min(width_px, max((one.left + one.bits.shape[1] for one in patches), default=0))
    bottom = min(height_px, max((one.top + one.bits.shape[0] for one in patches), default=0))
    bits = np.zeros((max(0, bottom - top), max(0, right - left)), np.bool_)
    for one in patches:
        x0, y0 = max(one.left, left), max(one.top, top)
        x1 = min(one.left + one.bits.shape[1], right)
        y1 = min(one.top + one.bits.shape[0], bottom)
        if x0 < x1 and y0 < y1:
            part = one.bits[y0 - one.top : y1 - one.top, x0 - one.left : x1 - one.left]
            bits[y0 - top : y1 - top, x0 - left : x1 - left] |= part
    return Patch(left, top, bits)


def box_around(mask: MaskHW, *, left: int = 0, top: int = 0) -> list[float]:
    """Xyxy px around the true pixels of a mask that has any, whose corner is at (left, top)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [float(left + columns[0]), float(top + rows[0]), float(left + columns[-1] + 1), float(top + rows[-1] + 1)]


def _plain(encoded: dict[str, Any]) -> dict[str, object]:
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
