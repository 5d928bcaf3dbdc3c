"""How well are anomalies told from normal images, and found in them?"""

import base64
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from winnow_jobs.evaluation.measure import Indices, Judged, Measure, Pair, Statistic
from winnow_jobs.evaluation.truth_folders import anomalous_pixels
from winnow_workers.evaluation import acceptance, ranking
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.intervals import Interval, wilson
from winnow_workers.evaluation.pixels import PixelTally

_THRESHOLD = 1.0  # the score is distance over threshold


class AnomalyMeasure(Measure):
    """By image; by pixel too, where the truth says where anomalies are (`has_where`)."""

    value_name: ClassVar[str] = "accuracy of the verdict"
    confidence_name: ClassVar[str] = "distance of the score from its threshold 1"

    def __init__(self, wanted: Acceptance, *, has_where: bool = False) -> None:
        super().__init__(wanted)
        self._true: list[bool] = []
        self._scores: list[float] = []
        self._right = 0
        self._pixels = PixelTally() if has_where else None

    def add(self, pair: Pair) -> Judged:
        """1 if the verdict is right, else 0. An item that failed gets the score that is worst for it."""
        true = bool(pair.truth.anomalous)
        failed = -np.inf if true else np.inf
        score = None if pair.struct is None else pair.struct.get("score")
        self._true.append(true)
        self._scores.append(failed if score is None else float(score))
        said = None if pair.struct is None else pair.struct.get("is_anomalous")
        ok = acceptance.verdict_ok(true=true, predicted=said)
        self._right += ok
        if self._pixels is not None and (not true or pair.truth.anomalous_where is not None):
            self._add_pixels(self._pixels, pair)
        return Judged(ok, float(ok))

    def measures(self) -> dict[str, float]:
        """AUPRO is up to a false positive rate of 0.3."""
        scores, true = np.array(self._scores), np.array(self._true)
        f1, threshold = ranking.best_f1(scores, true)
        found = {
            "auroc": ranking.auroc(scores, true),
            "average_precision": ranking.average_precision(scores, true),
            "f1_max": f1,
            "f1_max_threshold": threshold,
            "accuracy": self._right / len(true) if len(true) else float("nan"),
        }
        if self._pixels is not None:
            found |= {"aupro": self._pixels.aupro(), "pixel_auroc": self._pixels.auroc()}
        return found

    def tables(self) -> dict[str, Any]:
        """Points of the ROC curve of images."""
        return {"roc": ranking.roc_points(np.array(self._scores), np.array(self._true))}

    def intervals(self) -> dict[str, Interval]:
        """Wilson's."""
        return {"accuracy": wilson(self._right, len(self._true))}

    def statistics(self) -> dict[str, Statistic]:
        """AUROC of drawn images."""
        return {"auroc": self._auroc}

    def confidence(self, struct: Mapping[str, Any]) -> float | None:
        """How far the score is from the threshold, on either side."""
        score = struct.get("score")
        return None if score is None else abs(float(score) - _THRESHOLD)

    def _auroc(self, chosen: Indices) -> float:
        return ranking.auroc(np.array(self._scores)[chosen], np.array(self._true)[chosen])

    def _add_pixels(self, tally: PixelTally, pair: Pair) -> None:
        """The heat is stretched over the truth's mask; an image that failed claims nothing anywhere."""
        where = pair.truth.anomalous_where
        grid = None if pair.struct is None else heat(pair.struct.get("heat_map"))
        mask = None if where is None else anomalous_pixels(where)
        size = mask.shape if mask is not None else pair.size or (None if grid is None else grid.shape)
        if size is None:
            return  # a normal image that could not be read: it has no pixels that one knows of
        truth = np.zeros(size, np.bool_) if mask is None else mask
        tally.add(np.full(size, -np.inf, np.float32) if grid is None else _stretched(grid, size), truth)


def heat(heat_map: Mapping[str, Any] | None) -> npt.NDArray[np.float32] | None:
    """(height, width) distances over the threshold of a struct's heat map; `values` are bytes, or base64 of them."""
    if heat_map is None or heat_map.get("values") is None:
        return None
    values = heat_map["values"]
    cells = np.frombuffer(base64.b64decode(values) if isinstance(values, str) else values, np.uint8)
    return cells.reshape(heat_map["height"], heat_map["width"]).astype(np.float32) * np.float32(heat_map["scale"])


def _stretched(grid: npt.NDArray[np.float32], size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    import cv2

    return np.asarray(cv2.resize(grid, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)
