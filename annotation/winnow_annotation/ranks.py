"""How sure is a prediction, and which classes does it name? From the struct of its task, by operator; pure.

A rank is a non-negative number, higher meaning surer: -log(1 - s) of a score s in [0, 1], which tells scores near 1
apart. It is no probability and needs to be none: a promise asks only for an order that was fixed before its labels.
"""

from collections.abc import Callable, Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow_annotation.kinds.anomaly import ANOMALOUS, NORMAL
from winnow_annotation.policies import Policy, Rule

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

# operator -> the list of structs in which an image's classes stand
_LISTS = {"detect": "boxes", "segment": "masks"}


def fields_read(operator: str, policy: Policy | None) -> tuple[str, ...]:
    """The fields of a task's struct that are looked at beside `score` and `p_ok`, as Parquet names them."""
    if policy is None or not policy.names_classes:
        return ()
    if operator == "anomaly":
        return ("is_anomalous",)
    if operator in _LISTS:
        inner = ("label", "is_output", "score") if policy.min_recall is not None else ("label", "is_output")
        return tuple(f"{_LISTS[operator]}.list.element.{name}" for name in inner)
    tops = ("top.list.element.label", "top.list.element.score") if policy.min_recall is not None else ()
    return ("label", *tops)


def ranks(operator: str, rows: pa.StructArray, rule: Rule, harmful: Collection[str] = ()) -> Numbers:
    """(n,) how sure each prediction is in the sense of a rule, NaN where the row does not say."""
    if rule.min_recall is not None:
        return _from_risk(_harm(operator, rows, harmful))
    if rule.rank == "p_ok":
        return _from_risk(1.0 - _numbers(_field(rows, "p_ok")))
    score = _numbers(_field(rows, "score"))
    if operator == "anomaly":  # distance / threshold: 1 is least sure, on either side
        with np.errstate(divide="ignore", invalid="ignore"):
            distance: Numbers = np.abs(np.log(score))
        return distance
    return _from_risk(1.0 - score)


def score_of(operator: str, rank: float, rule: Rule) -> str:
    """A threshold as people know the number that it is compared with."""
    risk = float(np.exp(-rank))
    if rule.min_recall is not None:
        return f"harm at most {risk:.6g}"
    if operator == "anomaly" and rule.rank == "score":
        return f"score at most {risk:.6g} or at least {1 / risk:.6g}" if risk > 0 else "no score"
    return f"{rule.rank} at least {1 - risk:.9g}"


def names_any(operator: str, rows: pa.StructArray, classes: Collection[str]) -> Mask:
    """(n,) whether a prediction puts out one of these classes."""
    if not classes:
        return np.zeros(len(rows), np.bool_)
    wanted = pa.array(sorted(classes), pa.string())
    if operator not in _LISTS:
        return _mask(pc.is_in(_single(operator, rows), wanted))
    return _of_parents(rows, operator, lambda parts: _mask(pc.is_in(_field(parts, "label"), wanted)))


def names_only(operator: str, rows: pa.StructArray, classes: Collection[str]) -> Mask:
    """(n,) whether a prediction puts out something, and nothing but these classes."""
    if not classes:
        return np.zeros(len(rows), np.bool_)
    if operator not in _LISTS:
        return names_any(operator, rows, classes)
    wanted = pa.array(sorted(classes), pa.string())
    others = _of_parents(rows, operator, lambda parts: ~_mask(pc.is_in(_field(parts, "label"), wanted)))
    return names_any(operator, rows, classes) & ~others


def flagged(operator: str, rows: pa.StructArray, harmful: Collection[str]) -> Mask:
    """(n,) whether a prediction itself says that the item is harmful; of anomalies, that it is one."""
    return names_any(operator, rows, harmful or (ANOMALOUS,))


def classes_of(operator: str, rows: pa.StructArray) -> list[tuple[str, ...]]:
    """The classes that each prediction puts out, each once, sorted."""
    if operator in _LISTS:
        lists = _field(rows, _LISTS[operator]).to_pylist()
        return [
            tuple(sorted({one["label"] for one in found or () if one.get("is_output") is not False})) for found in lists
        ]
    if operator not in ("classify", "anomaly"):
        return [()] * len(rows)
    return [() if name is None else (name,) for name in _single(operator, rows).to_pylist()]


def _single(operator: str, rows: pa.StructArray) -> pa.Array:
    if operator == "anomaly":
        return pc.if_else(_field(rows, "is_anomalous"), ANOMALOUS, NORMAL)
    return _field(rows, "label")


def _of_parents(rows: pa.StructArray, operator: str, test: Callable[[pa.Array], Mask]) -> Mask:
    """(n,) whether any part that is put out passes."""
    lists = _field(rows, _LISTS[operator])
    parts = pc.list_flatten(lists)
    passed = test(parts) & _mask(pc.fill_null(_field(parts, "is_output"), fill_value=True))
    found = np.zeros(len(rows), np.bool_)
    found[pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[passed]] = True
    return found


def _harm(operator: str, rows: pa.StructArray, harmful: Collection[str]) -> Numbers:
    """(n,) in [0, 1]: how likely the model thinks that an item is harmful; the score of an anomaly cut off at 1."""
    if operator == "anomaly":
        return np.clip(_numbers(_field(rows, "score")), 0.0, 1.0)
    lists = _field(rows, "top" if operator == "classify" else _LISTS[operator])
    parts = pc.list_flatten(lists)
    chosen = _mask(pc.is_in(_field(parts, "label"), pa.array(sorted(harmful), pa.string())))
    parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)[chosen]
    scores = _numbers(_field(parts, "score"))[chosen]
    harm = np.zeros(len(rows))
    if operator == "classify":
        np.add.at(harm, parents, scores)
    else:
        np.maximum.at(harm, parents, scores)
    harm[~_mask(pc.is_valid(lists))] = np.nan
    return np.clip(harm, 0.0, 1.0)


def _from_risk(risk: Numbers) -> Numbers:
    with np.errstate(divide="ignore"):
        found: Numbers = -np.log(np.clip(risk, 0.0, 1.0))
    return np.abs(found)  # of a risk of 1 it is -0.0


def _field(rows: pa.Array, name: str) -> pa.Array:
    return pc.struct_field(rows, name)


def _numbers(column: pa.Array) -> Numbers:
    found: Numbers = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
    return found


def _mask(column: pa.Array) -> Mask:
    found: Mask = pc.fill_null(column, fill_value=False).to_numpy(zero_copy_only=False)
    return found
