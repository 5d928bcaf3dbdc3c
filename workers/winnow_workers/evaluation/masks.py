"""How well do masks cover the true ones? Intersection and union in pixels, IoU and Dice per class and in the mean.

Masks are COCO run-length codes ({size: [height, width], counts: text}) of one size per item, one per class: instances
of a class are joined before. Pixels of `ignored` count neither way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rle = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixels of one class in one item, or summed over items."""

    intersection: int = 0
    true: int = 0
    predicted: int = 0

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(self.intersection + other.intersection, self.true + other.true, self.predicted + other.predicted)

    @property
    def iou(self) -> float:
        """Intersection over union; NaN where there is neither."""
        union = self.true + self.predicted - self.intersection
        return self.intersection / union if union else float("nan")

    @property
    def dice(self) -> float:
        """Twice the intersection over the sum of both (the F1 of pixels); NaN where there is neither."""
        both = self.true + self.predicted
        return 2 * self.intersection / both if both else float("nan")


def overlaps(
    true: Mapping[str, Rle], predicted: Mapping[str, Rle], *, ignored: Rle | None = None
) -> dict[str, Overlap]:
    """The overlap of every class that is in the truth or in the prediction.

    Raises:
        ValueError: the masks are not of one size.
    """
    sizes = {tuple(rle["size"]) for rle in (*true.values(), *predicted.values(), *([ignored] if ignored else []))}
    if len(sizes) > 1:
        found_sizes = ", ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise ValueError(f"masks of different sizes (height x width): {found_sizes}")
    found = {}
    for label in sorted({*true, *predicted}):
        wanted, got = true.get(label), predicted.get(label)
        both = 0 if wanted is None or got is None else _area([wanted, got], ignored)
        one = Overlap(both, _area([wanted], ignored) if wanted else 0, _area([got], ignored) if got else 0)
        if one.true or one.predicted:
            found[label] = one
    return found


def item_iou(found: Mapping[str, Overlap]) -> float:
    """The mean IoU of an item's classes; 1 where there is nothing to find and nothing was found."""
    return float(np.mean([one.iou for one in found.values()])) if found else 1.0


def totals(items: Sequence[Mapping[str, Overlap]]) -> dict[str, Overlap]:
    """The pixels of every class, summed over items."""
    summed: dict[str, Overlap] = {}
    for found in items:
        for label, one in found.items():
            summed[label] = summed.get(label, Overlap()) + one
    return dict(sorted(summed.items()))


def mean_iou(summed: Mapping[str, Overlap]) -> float:
    """The mean over classes of their IoU over all items' pixels (as VOC and Cityscapes have it); NaN without any."""
    return float(np.mean([one.iou for one in summed.values()])) if summed else float("nan")


def mean_dice(summed: Mapping[str, Overlap]) -> float:
    """The same of Dice."""
    return float(np.mean([one.dice for one in summed.values()])) if summed else float("nan")


def mean_item_iou(items: Sequence[Mapping[str, Overlap]]) -> float:
    """The mean IoU over all pairs of an item and a class that is in its truth or its prediction; NaN without any."""
    found = [one.iou for item in items for one in item.values()]
    return float(np.mean(found)) if found else float("nan")


def union(rles: Sequence[Rle]) -> dict[str, Any]:
    """All of them as one mask."""
    from pycocotools import mask as coco

    merged = coco.merge([_bytes(rle) for rle in rles])
    return {"size": [int(side) for side in merged["size"]], "counts": merged["counts"].decode("ascii")}


def _area(rles: Sequence[Rle], ignored: Rle | None) -> int:
    from pycocotools import mask as coco

    encoded = [_bytes(rle) for rle in rles]
    area = int(coco.area(coco.merge(encoded, intersect=True)))
    if ignored is None:
        return area
    return area - int(coco.area(coco.merge([*encoded, _bytes(ignored)], intersect=True)))


def _bytes(rle: Rle) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
