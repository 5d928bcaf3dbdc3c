"""How much does a run's committee differ about its images? From the structs that its tasks have in the same rows."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from winnow_annotation.committee import LEAST_MEMBERS, disagreement
from winnow_annotation.policies import SelectSpec
from winnow_annotation.wishes import Predictions

_TOP = "top"


def committee_columns(select: SelectSpec) -> list[str]:
    """What is read of the members, whatever else is read of them."""
    return [f"{name}.{_TOP}.list.element.{of}" for name in select.committee for of in ("label", "score")]


def with_disagreement(predictions: Predictions, rows: pa.Table, task: str, select: SelectSpec) -> Predictions:
    """The predictions of one task, made of these rows, with how much the committee differs, if the task is in it.

    Members that the run has not asked, or that say nothing, are left out.
    """
    if task not in select.committee:
        return predictions
    structs = [rows[name].combine_chunks() for name in select.committee if name in rows.column_names]
    tops = [pc.struct_field(one, _TOP) for one in structs if one.type.get_field_index(_TOP) >= 0]
    return replace(predictions, disagreement=disagreement(tops)) if len(tops) >= LEAST_MEMBERS else predictions
