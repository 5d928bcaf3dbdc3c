"""Does the heat lie where the anomaly is? AUPRO and AUROC over pixels, added up image by image.

AUPRO after Bergmann et al. (MVTec AD, 2019): the area under the mean share of each true region (8-connected) that is
above the threshold, over the share of normal pixels that is, up to a limit, divided by that limit.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from winnow_workers.evaluation.ranking import weighted_auroc

FPR_LIMIT = 0.3
EXACT_VALUES = 20_000_000  # distinct scores that are kept; beyond, scores are rounded to 12 bits of their mantissa

Floats = npt.NDArray[np.floating[Any]]


@dataclass(slots=True)
class PixelTally:
    """Normal pixels, anomalous pixels and shares of regions by score.

    Exact as long as at most `limit` distinct scores are seen; after that scores are rounded by at most one part in
    4,096, which bounds the memory.
    """

    limit: int = EXACT_VALUES
    regions: int = 0
    is_rounded: bool = False
    _parts: list[tuple[npt.NDArray[Any], ...]] = field(default_factory=list)
    _held: int = 0

    def add(self, scores_hw: Floats, anomalous_hw: npt.NDArray[np.bool_]) -> None:
        """One image; its scores are -inf where nothing is claimed (a failed task).

        Raises:
            ValueError: the two differ in shape.
        """
        if scores_hw.shape != anomalous_hw.shape:
            raise ValueError(f"scores of shape {scores_hw.shape} for a mask of shape {anomalous_hw.shape}")
        import cv2

        count, parts = cv2.connectedComponents(anomalous_hw.astype(np.uint8), connectivity=8)
        self.regions += count - 1
        sizes = np.bincount(parts.ravel(), minlength=count).astype(np.float64)
        weights = np.concatenate([[0.0], 1.0 / sizes[1:]])[parts.ravel()]
        is_anomalous = anomalous_hw.ravel().astype(np.float64)
        self._take(scores_hw.ravel().astype(np.float32), 1.0 - is_anomalous, is_anomalous, weights)

    def auroc(self) -> float:
        """Of anomalous against normal pixels; NaN unless both occur."""
        scores, normal, anomalous, _ = self._merged()
        return weighted_auroc(scores, anomalous, normal)

    def aupro(self, fpr_limit: float = FPR_LIMIT) -> float:
        """In [0, 1]; NaN without regions or without normal pixels."""
        _, normal, _, shares = self._merged()
        if not self.regions or not normal.sum():
            return float("nan")
        fpr = np.concatenate([[0.0], np.cumsum(normal) / normal.sum()])
        pro = np.concatenate([[0.0], np.cumsum(shares) / self.regions])
        inside = fpr <= fpr_limit
        end = float(np.interp(fpr_limit, fpr, pro))
        x, y = np.append(fpr[inside], fpr_limit), np.append(pro[inside], end)
        return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / fpr_limit)

    def _take(self, *columns: npt.NDArray[Any]) -> None:
        scores = _rounded(columns[0]) if self.is_rounded else columns[0]
        self._parts.append(_joined(scores, *columns[1:]))
        self._held += len(self._parts[-1][0])
        if self._held > self.limit:
            self._merged()
        if self._held > self.limit:
            self.is_rounded = True
            self._parts = [_joined(_rounded(self._parts[0][0]), *self._parts[0][1:])]
            self._held = len(self._parts[0][0])

    def _merged(self) -> tuple[npt.NDArray[Any], ...]:
        if not self._parts:
            return tuple(np.empty(0) for _ in range(4))
        if len(self._parts) > 1:
            self._parts = [_joined(*(np.concatenate(column) for column in zip(*self._parts, strict=True)))]
            self._held = len(self._parts[0][0])
        return self._parts[0]


def _joined(scores: npt.NDArray[Any], *columns: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Equal scores as one, descending, what is counted at them summed."""
    values, places = np.unique(-scores, return_inverse=True)
    return (-values, *(np.bincount(places, weights=one, minlength=len(values)) for one in columns))


def _rounded(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    bits = scores.astype(np.float32).view(np.uint32) & np.uint32(0xFFFFF800)
    return bits.view(np.float32)
