"""What of a prediction says how sure to be of it? Columns of numbers from the rows of a task, higher meaning surer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]

_EPSILON = 1e-6
# fields of a row beside its score; operators that are not here give no p_ok
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "classify": ("margin", "entropy", "top"),
    "detect": (),
    "segment": (),
    "ocr": (),
    "anomaly": (),
}
OPERATORS = tuple(_FIELDS)


@dataclass(frozen=True, slots=True)
class Features:
    """Of n predictions. `columns`: name -> (n,), NaN where the row has none; `score` is the raw score.

    `tops` (n, k + 1), for classify: the k highest probabilities, descending, and what is left of 1.
    """

    score: Floats
    columns: Mapping[str, Floats]
    tops: Floats | None = None

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """(n,): whether every column has a finite number."""
        finite = np.isfinite(np.column_stack([self.score, *self.columns.values()]))
        return np.asarray(finite.all(axis=1), np.bool_)

    def take(self, chosen: npt.NDArray[Any]) -> "Features":
        """Those at these places, or where a mask is true."""
        tops = None if self.tops is None else self.tops[chosen]
        return Features(self.score[chosen], {name: column[chosen] for name, column in self.columns.items()}, tops)


def fields_of(operator: str) -> tuple[str, ...]:
    """The fields of a task's struct that `features` reads."""
    return ("score", *_FIELDS.get(operator, ()))


def features(operator: str, rows: pa.ChunkedArray | pa.StructArray) -> Features:
    """Of a task's structs, which have `fields_of(operator)`; without `top` there are no `tops`.

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
    return Features(score, {"score": score, "log_score": _log(score), "log_rest": -_log(1.0 - score)})


def _of_classify(score: Floats, rows: pa.ChunkedArray | pa.StructArray) -> Features:
    margin = _numbers(pc.struct_field(rows, "margin"))
    columns = {
        "score": score,
        "margin": margin,
        "log_score": _log(score),
        "log_rest": -_log(1.0 - score),
        "log_margin": _log(margin),
        "certainty": -_numbers(pc.struct_field(rows, "entropy")),
    }
    has_tops = rows.type.get_field_index("top") >= 0  # which only a temperature looks at, and which are slow to read
    return Features(score, columns, _tops(pc.struct_field(rows, "top").to_pylist()) if has_tops else None)


def _of_anomaly(score: Floats) -> Features:
    """The score is a distance over the threshold: 1 is least sure, and each side may be right more often."""
    far = _log(score)
    return Features(score, {"far": np.abs(far), "far_above": np.maximum(far, 0.0), "far_below": np.maximum(-far, 0.0)})


def _tops(rows: list[Any]) -> Floats:
    width = max((len(row or ()) for row in rows), default=0)
    tops = np.zeros((len(rows), width + 1))
    for place, row in enumerate(rows):
        scores = [float(one["score"]) for one in row or ()]
        tops[place, : len(scores)] = scores
        tops[place, -1] = max(0.0, 1.0 - sum(scores))
    return tops


def _log(values: Floats) -> Floats:
    found: Floats = np.log(np.clip(values, _EPSILON, None))
    return found


def _numbers(column: pa.Array | pa.ChunkedArray) -> Floats:
    filled = pc.fill_null(column.cast(pa.float64()), float("nan"))
    found: Floats = filled.to_numpy(zero_copy_only=False) if isinstance(filled, pa.Array) else filled.to_numpy()
    return found
