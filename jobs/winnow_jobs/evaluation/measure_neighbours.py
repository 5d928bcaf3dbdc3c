"""How many of an image's nearest neighbours show the same as it does? Of an embedding, by what people said of them."""

from typing import ClassVar

import numpy as np

from winnow_annotation.guarantees import bounded
from winnow_annotation.kinds.embed import NEIGHBOURS
from winnow_jobs.evaluation.measure import Indices, Judged, Measure, Pair, Statistic
from winnow_workers.evaluation import acceptance
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.intervals import Interval

PRECISION = f"precision_at_{NEIGHBOURS}"


class EmbedMeasure(Measure):
    """Precision at K: of the neighbours that people were shown and could judge, the share that shows the same."""

    value_name: ClassVar[str] = "share of the neighbours that show the same"

    def __init__(self, wanted: Acceptance) -> None:
        super().__init__(wanted)
        self._shares: list[float] = []

    def add(self, pair: Pair) -> Judged:
        """An item without any vector has no neighbours that show the same."""
        same = () if pair.struct is None else pair.truth.neighbours or ()
        self._shares.append(sum(same) / len(same) if same else 0.0)
        return Judged(acceptance.neighbours_ok(same), self._shares[-1])

    def measures(self) -> dict[str, float]:
        """The mean over the items."""
        return {PRECISION: float(np.mean(self._shares))}

    def intervals(self) -> dict[str, Interval]:
        """Of a mean of numbers in [0, 1], whatever their distribution: neighbours of one item are not independent."""
        low, high = bounded.interval(sum(self._shares), len(self._shares))
        return {PRECISION: Interval(low, high, "hoeffding-bentkus")}

    def statistics(self) -> dict[str, Statistic]:
        """The mean over drawn items."""
        return {PRECISION: self._precision}

    def _precision(self, chosen: Indices) -> float:
        return float(np.mean(np.array(self._shares)[chosen]))
