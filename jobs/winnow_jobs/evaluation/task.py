"""Which rows are compared with which truth? A task's committed rows, by key; what has no partner is counted."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from winnow_jobs.evaluation.compare import OPERATORS, Pair, compare
from winnow_jobs.evaluation.truth import TruthSet, from_answers, pair_keys, read_truth
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.runs import Runs
from winnow_jobs.verify.labels import read_labels
from winnow_storage.dataset import iter_current, iter_results
from winnow_storage.errors import UsageError
from winnow_workers.evaluation.acceptance import Acceptance

LABELS = "labels"
SHOWN = 5  # keys that a message names


def evaluate_task(
    spec: ResolvedSpec,
    runs: Runs,
    name: str,
    truth: str,
    *,
    run_id: str | None,
    classes: Sequence[str],
    wanted: Acceptance,
) -> dict[str, Any]:
    """The record of one task; `per_item` holds (key, ok).

    Raises:
        UsageError: no such task, an operator that nothing is defined for, a bad truth, or nothing in common.
    """
    task = next((one for one in spec.tasks if one.name == name), None)
    if task is None:
        raise UsageError(f"the spec has no task {name!r}", hint=f"tasks: {', '.join(one.name for one in spec.tasks)}")
    if task.operator not in OPERATORS:
        raise UsageError(
            f"{name}: nothing is defined to measure {task.operator} by", hint=f"measured are {', '.join(OPERATORS)}"
        )
    known = _answers(runs, name, task.operator) if truth == LABELS else read_truth(
        Path(truth), task.operator, classes=classes
    )  # fmt: skip
    rows, structs = 0, {}
    for table in _tables(spec, runs, name, run_id):
        rows += table.num_rows
        columns = (table[column].to_pylist() for column in ("key", "outcome", name))
        for key, outcome, struct in zip(*columns, strict=True):
            if struct is not None or outcome != "done":  # null on a done row: the run did not ask this task
                structs[key] = None if struct is None or struct["error"] is not None else struct
    found = pair_keys(known, structs)
    if not found:
        raise UsageError(
            f"none of the {len(known.items):,} keys of the truth ({_some(known.items)}) is a key of the "
            f"{len(structs):,} rows ({_some(structs)})",
            hint="keys are relative to the corpus; the end of one from a / on is enough",
        )
    pairs = [Pair(key, known.items[other], structs[key]) for key, other in sorted(found.items())]
    used = set(found.values())
    return {
        "job": spec.job,
        "task": name,
        "operator": task.operator,
        "run_id": run_id,
        "truth": known.where,
        "rows": rows,
        "without_truth": _missing([key for key in structs if key not in found]),
        "without_row": _missing([key for key in known.items if key not in used]),
        **compare(pairs, task.operator, wanted),
    }


def _tables(spec: ResolvedSpec, runs: Runs, name: str, run_id: str | None) -> Iterator[pa.Table]:
    columns = ["key", "outcome", name]
    if run_id is None:
        yield from iter_current(spec.output, columns)
    else:
        runs.plan(run_id)  # says which runs there are, if not this one
        for _, table in iter_results(runs.store, run_id, columns):
            yield table


def _answers(runs: Runs, name: str, operator: str) -> TruthSet:
    """The newest answer of each item that was not skipped or deleted, whatever purpose it was asked for."""
    events, _ = read_labels(runs.store)
    newest: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.task != name:
            continue
        if event.event == "deleted" or event.was_cancelled:
            if newest.get(event.key, {}).get("annotation_id") == event.annotation_id:
                del newest[event.key]
            continue
        newest[event.key] = {"key": event.key, "value": event.value, "annotation_id": event.annotation_id}
    if not newest:
        raise UsageError(f"nobody has answered anything about {name} yet", hint="winnow pull SPEC")
    return from_answers(newest.values(), operator)


def _missing(keys: list[str]) -> dict[str, Any]:
    return {"count": len(keys), "some": sorted(keys)[:SHOWN]}


def _some(keys: Any) -> str:
    return ", ".join(sorted(keys)[:3]) or "none"
