"""What is a measure of a kind of task? It is shown item after item, keeps what its numbers need, and says them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from winnow_jobs.evaluation.true_items import TrueItem
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.intervals import Interval

Struct = Mapping[str, Any] | None  # of a prediction; None: the task failed on the item
Indices = npt.NDArray[np.int64]
Statistic = Callable[[Indices], float]  # of the items at these indices, in the order in which they were added


@dataclass(frozen=True, slots=True)
class Pair:
    """One item: its key, what is true, the task's struct, and the upright image's (height, width) where it is known."""

    key: str
    truth: TrueItem
    struct: Struct
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One item: whether its prediction passes the acceptance test, and how good it is.

    The mean of `value`, weighted by `weight`, is the task's number where that is a mean over items.
    """

    ok: bool
    value: float
    weight: float = 1.0


class Measure(ABC):
    """Of one task. `value_name` says what `Judged.value` is; a higher one is better unless it is named an error."""

    value_name: ClassVar[str]

    def __init__(self, wanted: Acceptance) -> None:
        self.wanted = wanted

    @abstractmethod
    def add(self, pair: Pair) -> Judged:
        """One more item."""

    @abstractmethod
    def measures(self) -> dict[str, float]:
        """Every number; NaN where it is not defined."""

    def tables(self) -> dict[str, Any]:
        """What is more than a number."""
        return {}

    def intervals(self) -> dict[str, Interval]:
        """95 % intervals that cost nothing, by the name of the measure."""
        return {}

    def notes(self) -> list[str]:
        """What people must be told of how it was measured."""
        return []

    def statistics(self) -> dict[str, Statistic]:
        """What can be computed again over drawn items, by the name of the measure."""
        return {}

    def confidence(self, struct: Mapping[str, Any]) -> float | None:
        """What ranks predictions while they have no p_ok: the score, if it is one of being right."""
        return struct.get("score")

    confidence_name: ClassVar[str] = "score"
