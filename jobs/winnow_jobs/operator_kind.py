"""Can people answer an operator's predictions in the interface that it claims? Shown, fitted to it, and read back."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from winnow_annotation.kinds.catalogue import KINDS, kind_of
from winnow_annotation.kinds.geometry import Frame
from winnow_annotation.label_set import Labels
from winnow_annotation.labelling_config import labelling_config
from winnow_annotation.tasks import value_of
from winnow_jobs.review import as_json
from winnow_storage.schemas import prediction_type
from winnow_storage.vectors import has_vectors
from winnow_workers.contract.bench import Bench
from winnow_workers.contract.findings import Problem
from winnow_workers.frontier import TaskFailure, attempt

NAME = "label studio"
WHY = "people see its predictions, and answer them, in the interface that it claims"


def check_kind(bench: Bench, claimed: str, labels: Labels) -> Iterator[Problem]:
    """`claimed` is the built-in operator whose interface it is, `labels` what people may choose from."""
    if claimed not in KINDS:
        yield Problem(f"reviewed_as is {claimed!r}, which is none", f"write one of {', '.join(KINDS)}")
        return
    config = attempt(lambda: labelling_config(claimed, labels))
    if isinstance(config, TaskFailure):
        yield Problem(config.error, "give it the parameter labels: the label set that people choose from")
        return
    struct = prediction_type(bench.fields)
    if claimed == "embed":  # people see neighbours, which are found by the vectors, and nothing of a prediction
        if not has_vectors(struct):
            yield Problem("it has no field vector, a list of floats of one length", "see docs/operators.md, embed")
        return
    controls = {element.get("name") for element in ET.fromstring(config).iter()}  # noqa: S314  # our own template
    for number, (view, one) in enumerate(zip(bench.views, bench.predictions, strict=True)):
        (row,) = pa.array([{"score": one.score, "score_kind": one.score_kind, **one.fields}], struct).to_pylist()
        frame = Frame(view.width_px, view.height_px)
        wrong = attempt(lambda row=row, frame=frame: _wrong(row, frame, claimed, controls))  # type: ignore[misc]
        if isinstance(wrong, TaskFailure):
            wrong = f"{wrong.error}: its fields are not those of {claimed}"
        if wrong is not None:
            yield Problem(f"image {number}: {wrong}", f"give the fields that {claimed} has (docs/operators.md)")
            return


def _wrong(row: dict[str, Any], frame: Frame, claimed: str, controls: set[str | None]) -> str | None:
    shown = json.loads(as_json(row))  # as it stands in the routes
    results = json.loads(json.dumps(kind_of(claimed).results(shown, frame)))
    strange = sorted({result["from_name"] for result in results} - controls)
    if strange:
        return f"it is shown by {strange[0]!r}, which the interface does not have"
    value_of(claimed, results)
    return None
