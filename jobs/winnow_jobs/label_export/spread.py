"""To which images does an answer spread? To near-duplicates of what was answered, where all answers agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow_jobs.label_export.answers import Agreed, TaskAnswers
from winnow_jobs.runs import Runs
from winnow_jobs.similar.space import Space, current_space
from winnow_storage.ids import canonical_json
from winnow_storage.vectors import Floats, unit

# A class or a verdict is of the whole image; boxes, masks and lines stand where they stand in one image only.
OPERATORS = ("classify", "anomaly")
_BLOCK = 4096  # answered images that are compared at a time


@dataclass(frozen=True, slots=True)
class Spread:
    """`least`: the cosine of two images' vectors from which on the answer about one is that about the other.

    `vectors` names the task of operator `embed` whose vectors they are; None: the only one.
    """

    least: float
    vectors: str | None = None


def spread_answers(runs: Runs, answers: Sequence[TaskAnswers], wanted: Spread) -> list[TaskAnswers]:
    """The answers, and those of near-duplicates that nobody was asked about: each has that of the most alike.

    One whose answered near-duplicates differ gets none, and is counted.

    Raises:
        UsageError: there are no vectors, or several tasks have some.
        StoreError: as the store says.
    """
    space = current_space(runs, wanted.vectors)
    return [_spread(of, space, wanted.least) if of.operator in OPERATORS else of for of in answers]


def _spread(of: TaskAnswers, space: Space, least: float) -> TaskAnswers:
    answered = {one.item_id: one for one in of.items}
    known = space.vectors.of_items(answered)
    rows = known.rows.select(["item_id", "version"]).to_pylist()
    sources = [answered[row["item_id"]] for row in rows]
    values = [_said(one.value) for one in sources]
    places = [
        place
        for place, (one, value) in enumerate(zip(sources, values, strict=True))
        if value is not None and one.version == rows[place]["version"]
    ]
    if not places:
        return of
    texts = [canonical_json(values[place]) for place in places]
    codes = np.unique(texts, return_inverse=True)[1].astype(np.int64)
    units, found, contradicting = unit(known.vectors[places]), list[Agreed](), 0
    for block in space.vectors.blocks():
        nearest, is_one = _nearest(unit(block.vectors), units, codes, least)
        near = np.flatnonzero(nearest >= 0)
        for place, row in zip(near.tolist(), block.rows.take(near).to_pylist(), strict=True):
            if row["item_id"] in answered:
                continue
            if not is_one[place]:
                contradicting += 1
                continue
            source = places[nearest[place]]
            found.append(_like(row, sources[source], values[source] or {}))
    items = tuple(sorted([*of.items, *found], key=lambda one: one.key))
    return replace(of, items=items, spread=len(found), contradicting=contradicting)


def _said(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What of an answer holds for the whole image; None where it says nothing."""
    if value.get("is_anomalous") is not None:
        return {"is_anomalous": value["is_anomalous"]}
    return None if value.get("label") is None and value.get("labels") is None else value


def _like(row: Mapping[str, Any], source: Agreed, value: Mapping[str, Any]) -> Agreed:
    is_sized = row["height"] is not None and row["width"] is not None
    size = (int(row["height"]), int(row["width"])) if is_sized else None
    return Agreed(row["key"], row["item_id"], row["version"], row["uri"], value, source.labels, size, like=source.key)


def _nearest(
    units: Floats, answered: Floats, codes: NDArray[np.int64], least: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(n,) the most alike of the answered ones, -1 where none is alike enough; whether all that are say the same."""
    nearest, highest = np.full(len(units), -1, np.int64), np.full(len(units), -np.inf, np.float32)
    low, high = np.full(len(units), len(codes), np.int64), np.full(len(units), -1, np.int64)
    for start in range(0, len(answered), _BLOCK):
        some = codes[start : start + _BLOCK]
        cosines = units @ answered[start : start + _BLOCK].T
        is_near = cosines >= least
        best = cosines.argmax(axis=1)
        at_best = cosines[np.arange(len(units)), best]
        is_better = (at_best >= least) & (at_best > highest)
        nearest[is_better], highest[is_better] = start + best[is_better], at_best[is_better]
        low = np.minimum(low, np.where(is_near, some, len(codes)).min(axis=1))
        high = np.maximum(high, np.where(is_near, some, -1).max(axis=1))
    return nearest, low == high
