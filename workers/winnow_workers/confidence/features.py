"""What of a prediction says how sure to be of it? Columns of numbers from the rows of a task, higher meaning surer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from winnow_workers.confidence.neighbours import SAYS, Strings
from winnow_workers.confidence.parts import LISTS, Bools, Parts, log, parts_of, summary

Floats = npt.NDArray[np.float64]

# fields of a row beside its score; operators that are not here give no p_ok
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "classify": ("margin", "entropy", "top"),
    "detect": ("boxes",),
    "segment": ("masks", "boundary_entropy"),
    "ocr": ("lines",),
    "anomaly": (),
}
OPERATORS = tuple(_FIELDS)


@dataclass(frozen=True, slots=True)
class Features:
    """Of n predictions. `columns`: name -> (n,), NaN where the row has none; `score` is the raw score.

    `tops` (n, k + 1), for classify: the k highest probabilities, descending, and what is left of 1. `parts`: the boxes
    of detect, masks of segment, lines of ocr. `silent` (n,), for ocr: whether the page was looked at and nothing was
    read, so that there is no score.
    """

    score: Floats
    columns: Mapping[str, Floats]
    tops: Floats | None = None
    parts: Parts | None = None
    silent: Bools | None = None

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(n,): whether every column has a finite number."""
        finite = np.isfinite(np.column_stack([self.score, *self.columns.values()]))
        return np.asarray(finite.all(axis=1), np.bool_)

    def take(self, chosen: npt.NDArray[Any]) -> "Features":
        """Those at these places, or where a mask is true."""
        tops = None if self.tops is None else self.tops[chosen]
        parts = None if self.parts is None else self.parts.take(chosen)
        silent = None if self.silent is None else self.silent[chosen]
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Features(self.score[chosen], columns, tops, parts, silent)

    def beside(self, columns: Mapping[str, Floats]) -> "Features":
        """With more columns of (n,)."""
        return replace(self, columns={**self.columns, **columns})

    def summed(self, probabilities: Floats) -> "Features":
        """With columns of what the probabilities of the parts, (p,), say of each prediction.

        Raises:
            ValueError: there are no parts.
        """
        if self.parts is None:
            raise ValueError("these predictions have no parts")
        return replace(self, columns={**self.columns, **summary(self.parts, probabilities)})


def fields_of(operator: str) -> tuple[str, ...]:
    """The fields of a task's struct that `features` reads."""
    return ("score", *_FIELDS.get(operator, ()))


def said(operator: str, rows: pa.ChunkedArray | pa.StructArray) -> Strings:
    """(n,): in one word what each struct says that truth can agree with; empty where it says nothing of the kind."""
    if operator not in SAYS:
        return np.full(len(rows), "", np.str_)
    words = pc.fill_null(pc.struct_field(rows, SAYS[operator]).cast(pa.string()), "")
    return np.asarray(words.to_pylist(), np.str_)


def paths_of(operator: str, field: str) -> tuple[str, ...]:
    """What of a field is read, as Parquet names it: of boxes and masks not where they are."""
    name, entries = LISTS.get(operator, ("", ()))
    return tuple(f"{field}.list.element.{entry}" for entry in entries) if field == name else (field,)


def features(operator: str, rows: pa.ChunkedArray | pa.StructArray) -> Features:
    """Of a task's structs, which have `fields_of(operator)`; without one of them, what it says is left out.

    Raises:
        KeyError: of this operator nothing is known.
    """
    score = _numbers(pc.struct_field(rows, "score"))
    if operator == "classify":
        return _of_classify(score, rows)
    if operator == "anomaly":
        return _of_anomaly(score)
    if operator not in _FIELDS:
        raise KeyError(operator)
    columns = {"score": score, "log_score": log(score), "log_rest": -log(1.0 - score)}
    if operator == "segment" and rows.type.get_field_index("boundary_entropy") >= 0:
        entropy = _numbers(pc.struct_field(rows, "boundary_entropy"))
        columns["plain"] = -np.where(np.isnan(entropy), 0.0, entropy)  # null: there is no boundary
    if rows.type.get_field_index(LISTS[operator][0]) < 0:
        return Features(score, columns)
    silent = np.isnan(score) & _there(pc.struct_field(rows, LISTS[operator][0])) if operator == "ocr" else None
    return Features(score, columns, parts=parts_of(operator, rows), silent=silent)


def _of_classify(score: Floats, rows: pa.ChunkedArray | pa.StructArray) -> Features:
    margin, entropy = (_numbers_if_there(rows, name) for name in ("margin", "entropy"))
    columns = {
        "score": score,
        "margin": margin,
        "log_score": log(score),
        "log_rest": -log(1.0 - score),
        "log_margin": None if margin is None else log(margin),
        "certainty": None if entropy is None else -entropy,
    }
    has_tops = rows.type.get_field_index("top") >= 0  # which only a temperature looks at, and which are slow to read
    tops = _tops(pc.struct_field(rows, "top").to_pylist()) if has_tops else None
    return Features(score, {name: column for name, column in columns.items() if column is not None}, tops)


def _numbers_if_there(rows: pa.ChunkedArray | pa.StructArray, name: str) -> Floats | None:
    return _numbers(pc.struct_field(rows, name)) if rows.type.get_field_index(name) >= 0 else None


def _of_anomaly(score: Floats) -> Features:
    """The score is a distance over the threshold: 1 is least sure, and each side may be right more often.

    `is_above` and `is_below` (1 or 0) let the two sides meet with a step: where few normal images lie just below the
    threshold, most that do are missed anomalies, and just above it most verdicts are right.
    """
    far = log(score)
    above = np.where(np.isnan(score), np.nan, score > 1.0)
    sides = {"far_above": np.maximum(far, 0.0), "far_below": np.maximum(-far, 0.0)}
    return Features(score, {"far": np.abs(far), **sides, "is_above": above, "is_below": 1.0 - above})


def _tops(rows: list[Any]) -> Floats:
    width = max((len(row or ()) for row in rows), default=0)
    tops = np.zeros((len(rows), width + 1))
    for place, row in enumerate(rows):
        scores = [float(one["score"]) for one in row or ()]
        tops[place, : len(scores)] = scores
        tops[place, -1] = max(0.0, 1.0 - sum(scores))
    return tops


def _there(column: pa.Array | pa.ChunkedArray) -> Bools:
    valid = pc.is_valid(column)
    found: Bools = valid.to_numpy(zero_copy_only=False) if isinstance(valid, pa.Array) else valid.to_numpy()
    return found


def _numbers(column: pa.Array | pa.ChunkedArray) -> Floats:
    filled = pc.fill_null(column.cast(pa.float64()), float("nan"))
    found: Floats = filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy()
    return found
