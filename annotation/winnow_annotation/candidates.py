"""Which predictions may go to a person? The lowest of all that were seen, in memory of what is wanted of them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow_annotation.policies import ReviewSpec, SelectSpec
from winnow_annotation.sampling import position
from winnow_annotation.selection import POOL
from winnow_annotation.wishes import Codes, Mask, Numbers, Predictions, numbers

URGENCY_FIELDS = ("margin", "entropy")  # of the structs of `classify`
SLACK = 4096  # candidates above what is wanted that wait for the next sort

# What is compared comes first: position, task, item, version, place, code.
Drawn = tuple[float, str, str, str, int, int]


class Unsure(NamedTuple):
    """A review that is wanted; the lowest is the most urgent."""

    urgency: float
    and_then: float
    item: str
    version: str
    place: int
    code: int


def taken(predictions: Predictions, codes: Codes, chosen: NDArray[np.int64]) -> Sequence[tuple[str, str, int]]:
    """Item, version and code of those at these places."""
    places = pa.array(chosen)
    columns = (column.take(places).to_pylist() for column in (predictions.item_ids, predictions.versions))
    return list(zip(*columns, codes[chosen].tolist(), strict=True))


class Lowest:
    """The `wanted` predictions of a task with the lowest positions: a uniform random draw of all that were seen."""

    def __init__(self, seed: str, wanted: int) -> None:
        self._seed = seed
        self._wanted = wanted
        self._kept: list[Drawn] = []
        self._bound = 1.0

    def add(self, task: str, predictions: Predictions, codes: Codes, place: int) -> None:
        """Some more predictions, with their codes."""
        positions = np.array([position(self._seed, item, task) for item in predictions.item_ids.to_pylist()])
        chosen = np.flatnonzero(positions <= self._bound)
        found = taken(predictions, codes, chosen)
        self._kept += [
            (at, task, item, version, place, code)
            for at, (item, version, code) in zip(positions[chosen].tolist(), found, strict=True)
        ]
        if len(self._kept) > 2 * self._wanted + SLACK:
            self.least()

    def least(self) -> list[Drawn]:
        """Those wanted, lowest first."""
        self._kept = sorted(self._kept)[: self._wanted]
        if len(self._kept) == self._wanted:
            self._bound = self._kept[-1][0]
        return self._kept


class MostUrgent:
    """The most urgent reviews of a task: POOL times the budget, to be compared with each other."""

    def __init__(self, review: ReviewSpec, seed: str) -> None:
        self._select = review.select
        self._seed = seed
        self._wanted = review.budget * POOL  # the others of them compete again next time
        self._kept: list[Unsure] = []
        self._bound = (math.inf, math.inf)  # of the last one wanted so far
        self.seen = 0
        self.by = ""  # what they are ordered by

    def add(self, predictions: Predictions, codes: Codes, place: int, *, wanted: Mask) -> None:
        """Some more predictions, with their codes, of which these are `wanted`, (n,)."""
        self.seen += int(wanted.sum())
        self.by, urgency, and_then = _urgency(predictions, self._select, self._seed)
        last, last_then = self._bound
        near = (urgency < last) | ((urgency == last) & (and_then <= last_then))
        chosen = np.flatnonzero(wanted & near)
        if chosen.size == 0:
            return
        items, versions = (
            column.take(pa.array(chosen)).to_pylist() for column in (predictions.item_ids, predictions.versions)
        )
        of_them = (values[chosen].tolist() for values in (urgency, and_then))
        places = [place] * len(chosen)
        self._kept += map(Unsure, *of_them, items, versions, places, codes[chosen].tolist())
        if len(self._kept) > 2 * self._wanted + SLACK:
            self.least()

    def least(self) -> list[Unsure]:
        """Those wanted, most urgent first."""
        self._kept = sorted(self._kept)[: self._wanted]
        if len(self._kept) == self._wanted:
            self._bound = self._kept[-1][:2]
        return self._kept


def _urgency(predictions: Predictions, wanted: SelectSpec, seed: str) -> tuple[str, Numbers, Numbers]:
    """What orders a task's reviews: its name, its values, the lowest first, and what decides between equal ones."""
    p_ok, score = _or_last(numbers(predictions.p_ok)), _or_last(numbers(predictions.scores))
    by = wanted.by
    if by == "random":
        return by, np.array([position(seed, item) for item in predictions.item_ids.to_pylist()]), score
    if by == "score":
        return by, score, p_ok
    told = predictions.disagreement if by == "disagreement" else None
    told = predictions.field(by) if by in URGENCY_FIELDS else told
    if told is None:  # a raw score does not compare with a probability, so what has no p_ok comes last
        return "p_ok, score", p_ok, score
    return by, _or_last(told if by == "margin" else -told), score


def _or_last(values: Numbers) -> Numbers:
    return np.where(np.isnan(values), math.inf, values)
