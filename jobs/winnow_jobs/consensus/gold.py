"""Which questions have known answers, and which of them does a run mix in? A truth as `winnow evaluate` reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow_annotation.consensus.opinions import Value
from winnow_annotation.people_spec import GoldSpec
from winnow_annotation.sampling import position
from winnow_jobs.consensus.asked import ask, rows_of_keys
from winnow_jobs.evaluation.true_items import TrueItem, TruthSet, pair_keys
from winnow_jobs.evaluation.truth import read_truth
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.routes import iter_routes
from winnow_jobs.runs import Runs
from winnow_storage.errors import UsageError
from winnow_storage.schemas import Purpose

REASON = "gold_draw"


def read_gold(spec: GoldSpec, operator: str) -> TruthSet:
    """The known answers.

    Raises:
        UsageError: the file is not there, or says nothing about this operator.
    """
    if not Path(spec.truth).exists():
        raise UsageError(f"review.gold: there is no {spec.truth}", hint="correct the path, or leave the gold out")
    return read_truth(Path(spec.truth), operator)


def gold_values(truth: TruthSet, operator: str, items: Mapping[str, str]) -> dict[str, Value]:
    """Of these items (item_id -> key) those with a known answer, as a label's value, by item_id."""
    names = pair_keys(truth, items.values())
    found = {}
    for item, key in items.items():
        value = value_of_truth(operator, truth.items[names[key]]) if key in names else None
        if value is not None:
            found[item] = value
    return found


def gold_draws(spec: ResolvedSpec, runs: Runs, run_id: str) -> list[dict[str, Any]]:
    """The questions that a run mixes in: of its items with known answers a seeded draw for each task."""
    drawn: list[dict[str, Any]] = []
    for task, gold in sorted(spec.review.gold.items()):
        if gold.per_run == 0:
            continue
        keys = _keys(runs, run_id, task)
        truth = read_gold(gold, spec.task(task).kind)
        there = sorted(pair_keys(truth, keys), key=lambda key: position("gold", run_id, task, key))
        rows = rows_of_keys(runs, run_id, task, there[: gold.per_run])
        drawn += [ask(row, Purpose.GOLD, REASON) for row in rows]
    return drawn


def value_of_truth(operator: str, true: TrueItem) -> Value | None:
    """What is true as a label's value; None where the truth says nothing of this operator."""
    if operator == "classify":
        return None if true.label is None else {"label": true.label}
    if operator == "anomaly":
        return None if true.anomalous is None else {"is_anomalous": true.anomalous}
    if operator == "ocr":
        return None if true.text is None else {"full_text": true.text}
    if operator == "detect":
        objects = [one for one in true.objects or () if not one.crowd]
        return None if true.objects is None else {"boxes": [{"label": o.label, "box": list(o.box)} for o in objects]}
    if true.masks is None:
        return None
    return {"masks": [{"label": label, "rle": rle} for label, rle in sorted(true.masks.items())]}


def _keys(runs: Runs, run_id: str, task: str) -> list[str]:
    keys: list[str] = []
    for batch in iter_routes(runs.store, run_id, ["task", "key"]):
        own: pa.RecordBatch = batch.filter(pc.equal(batch.column("task"), task))
        keys += own.column("key").to_pylist()
    return keys
