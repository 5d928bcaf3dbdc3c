"""What does the report show of evaluations? Records of `winnow evaluate --json` side by side: before, after."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from winnow_jobs.evaluation.charts import CURVE_CLASSES, risk_chart
from winnow_storage.errors import UsageError

SURE_SHARE = 0.5  # the error among the surest half stands beside that of all


class Interval(BaseModel):
    """Of a measure, at 95 %."""

    low: float
    high: float


class Tables(BaseModel):
    """`risk_coverage`: (coverage, share of errors) points, the surest first."""

    risk_coverage: tuple[tuple[float, float], ...]


class Measures(BaseModel):
    """`ok_share`: of all predictions; of a classifier it is the accuracy. `aurc`: the area under the curve."""

    ok_share: float
    aurc: float


class EvaluationRecord(BaseModel):
    """As much of a record of `winnow evaluate --json` as is shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str
    operator: str
    predictions: str
    truth: str
    n: int
    confidence: str
    measures: Measures
    intervals: Mapping[str, Interval]
    tables: Tables


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A record, and what people call it: before, after, night 7."""

    name: str
    record: EvaluationRecord


def read_evaluation(given: str) -> Evaluation:
    """From NAME=FILE, or FILE alone, whose name it then has.

    Raises:
        UsageError: the file cannot be read, or is no such record.
    """
    name, is_named, place = given.rpartition("=")
    path = Path(place)
    try:
        return evaluation_of(name if is_named else path.stem, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"the evaluation {path} cannot be read: {error.strerror}", hint=_HINT) from error
    except ValueError as error:  # no JSON, or another record
        raise UsageError(f"{path} is no record of an evaluation: {_first(error)}", hint=_HINT) from error


_HINT = "winnow evaluate SPEC --task NAME --truth FILE --json > FILE"


def evaluation_of(name: str, record: Mapping[str, Any]) -> Evaluation:
    """Of a record as `winnow evaluate` makes it.

    Raises:
        ValidationError: it lacks something.
    """
    return Evaluation(name, EvaluationRecord.model_validate(record))


def evaluation_views(given: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """A record for each task and truth, with its evaluations in the order given, and their curves in one chart.

    Of more than the chart has colours for the last ones are drawn.
    """
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for one in given:
        groups.setdefault((one.record.task, one.record.truth), []).append(one)
    return [
        {
            "task": task,
            "truth": truth,
            "rows": [_row(one, colour) for one, colour in zip(some, reversed(_colours(len(some))), strict=True)],
            "chart": risk_chart([one.record.tables.risk_coverage for one in reversed(some)]),
        }
        for (task, truth), some in groups.items()
    ]


def _colours(count: int) -> list[str]:
    """The class of each curve, the newest first; nothing of those that the chart has no colour for."""
    return [*CURVE_CLASSES, *([""] * count)][:count]


def _row(one: Evaluation, colour: str) -> dict[str, Any]:
    record = one.record
    interval = record.intervals.get("ok_share")
    return {
        "name": one.name,
        "colour": colour,
        "predictions": record.predictions,
        "n": record.n,
        "right": record.measures.ok_share,
        "interval": None if interval is None else [interval.low, interval.high],
        "sure_error": next((risk for coverage, risk in record.tables.risk_coverage if coverage >= SURE_SHARE), None),
        "aurc": record.measures.aurc,
        "confidence": record.confidence,
    }


def _first(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
    return str(error)
