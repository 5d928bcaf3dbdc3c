"""Which predicted boxes are right? Greedy matching of one image's boxes at one IoU, as COCO does it, and its counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one image: boxes (n, 4) in xyxy px, labels (n,), and what only one side has.

    `scores` (n,) and `put_out` (n,) bool are the prediction's: what is not put out was nearly found, and no claim.
    `crowd` (n,) bool and `areas` (n,) px are the truth's. `rles` are COCO run-length codes where there are masks.
    """

    boxes: Floats
    labels: tuple[str, ...]
    scores: Floats | None = None
    put_out: npt.NDArray[np.bool_] | None = None
    crowd: npt.NDArray[np.bool_] | None = None
    areas: Floats | None = None
    rles: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, threshold: float) -> "Objects":
        """Those that score at least `threshold`."""
        return self if self.scores is None else self._where(self.scores >= threshold)

    def claims(self, threshold: float | None) -> "Objects":
        """Those that score at least `threshold`; where it is None, those that are put out."""
        return self._where(self.is_claim) if threshold is None else self.above(threshold)

    def _where(self, kept: npt.NDArray[np.bool_]) -> "Objects":
        places = np.flatnonzero(kept)
        return Objects(
            self.boxes[places],
            tuple(self.labels[place] for place in places),
            None if self.scores is None else self.scores[places],
            rles=None if self.rles is None else tuple(self.rles[place] for place in places),
        )

    @property
    def is_claim(self) -> npt.NDArray[np.bool_]:
        """(n,): whether it is put out; all of them where nothing says that."""
        return np.ones(len(self), np.bool_) if self.put_out is None else self.put_out

    @property
    def is_crowd(self) -> npt.NDArray[np.bool_]:
        """(n,): regions of many objects, which match any number of boxes and need not be found."""
        return np.zeros(len(self), np.bool_) if self.crowd is None else self.crowd


NOTHING = Objects(np.empty((0, 4)), (), np.empty(0))


@dataclass(frozen=True, slots=True)
class Matches:
    """Of one image: for every predicted box the index of its true one, -1 without, -2 in a crowd; what was missed."""

    matched: tuple[int, ...]
    missed: tuple[int, ...]

    @property
    def right(self) -> int:
        """Predicted boxes that have a true one."""
        return sum(index >= 0 for index in self.matched)

    @property
    def extra(self) -> int:
        """Predicted boxes that have none and lie in no crowd."""
        return sum(index == -1 for index in self.matched)


def box_iou(first: Floats, second: Floats, *, crowd: npt.NDArray[np.bool_] | None = None) -> Floats:
    """(n, m): intersection over union of boxes (n, 4) and (m, 4); over the first box's area where `crowd` (m,)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    area_first, area_second = (np.clip(one[:, 2:] - one[:, :2], 0, None).prod(axis=1) for one in (first, second))
    union = area_first[:, None] + area_second[None, :] - both
    if crowd is not None:
        union = np.where(crowd[None, :], area_first[:, None], union)
    shares: Floats = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return shares


def match(true: Objects, predicted: Objects, *, iou: float = MATCH_IOU) -> Matches:
    """The most confident box first takes the free true box of its label that it covers best, at `iou` at least.

    A box that finds none but lies in a crowd of its label is neither right nor extra.
    """
    scores = np.zeros(len(predicted)) if predicted.scores is None else predicted.scores
    crowd = true.is_crowd
    shares = box_iou(predicted.boxes, true.boxes, crowd=crowd)
    free = ~crowd
    matched = [-1] * len(predicted)
    for box in np.argsort(-scores, kind="stable"):
        same = np.array([label == predicted.labels[box] for label in true.labels], np.bool_)
        candidates = np.where(same & free & (shares[box] >= iou), shares[box], -1.0)
        if candidates.size and candidates.max() >= 0:
            matched[box] = int(candidates.argmax())
            free[matched[box]] = False
        elif (same & crowd & (shares[box] >= iou)).any():
            matched[box] = -2
    return Matches(tuple(matched), tuple(int(index) for index in np.flatnonzero(free)))


def right_boxes(pairs: Sequence[tuple[Objects, Objects]], *, iou: float = MATCH_IOU) -> tuple[Floats, Floats]:
    """(scores, whether it is right) of every predicted box that lies in no crowd, over (true, predicted) pairs."""
    scores: list[float] = []
    right: list[float] = []
    for true, predicted in pairs:
        for score, index in zip(_scores(predicted), match(true, predicted, iou=iou).matched, strict=True):
            if index != -2:
                scores.append(score)
                right.append(float(index >= 0))
    return np.array(scores, np.float64), np.array(right, np.float64)


def _scores(predicted: Objects) -> list[float]:
    return [] if predicted.scores is None else [float(score) for score in predicted.scores]
