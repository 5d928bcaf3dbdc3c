"""Which rows are compared with which truth? A task's rows, by key; what has no partner is counted and named."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from winnow_jobs.consensus.answers import agreed_answers
from winnow_jobs.evaluation.compare import OPERATORS, Pair, Resampling, compare
from winnow_jobs.evaluation.rows import Row, Rows
from winnow_jobs.evaluation.true_items import TruthSet, pair_keys
from winnow_jobs.evaluation.truth import read_truth
from winnow_jobs.evaluation.truth_people import from_labels
from winnow_jobs.routes import questions_of
from winnow_jobs.runs import Runs
from winnow_jobs.verify.labels import read_labels
from winnow_storage.errors import UsageError
from winnow_storage.records import Label
from winnow_workers.evaluation.acceptance import Acceptance

LABELS = "labels"
SHOWN = 5  # keys that a message names

PER_ITEM = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # of a truth without a row: as the truth has it
        pa.field("item_id", pa.string()),
        pa.field("status", pa.string(), nullable=False),  # measured | failed | without_truth | other_version |
        # not_asked | without_row; only the first two have what follows
        pa.field("ok", pa.bool_()),
        pa.field("value", pa.float64()),  # the record's value_name says what it is
        pa.field("weight", pa.float64()),
        pa.field("confidence", pa.float64()),
    ]
)


@dataclass(slots=True)
class _Unpaired:
    """Rows that are not measured, by why; item ids and which items failed, of all."""

    without_truth: list[str] = field(default_factory=list)
    other_version: list[str] = field(default_factory=list)
    not_asked: list[str] = field(default_factory=list)
    item_ids: dict[str, str | None] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


def truth_of(
    place: str,
    runs: Runs | None,
    task: str,
    operator: str,
    *,
    classes: Sequence[str],
    purposes: Collection[str],
    run: str | None = None,
) -> TruthSet:
    """The truth at `place`, or of the job's labels; `run` is the one whose rows are measured, None the current ones.

    Raises:
        UsageError: an operator that nothing is defined for, or a bad truth.
    """
    if operator not in OPERATORS:
        raise UsageError(
            f"{task}: nothing is defined to measure {operator} by", hint=f"measured are {', '.join(OPERATORS)}"
        )
    if operator == "embed" and (place != LABELS or runs is None):
        raise UsageError(
            f"{task}: of an embedding only its own neighbours are measured, by what people said of them",
            hint="winnow evaluate SPEC --truth labels",
        )
    if place != LABELS:
        return read_truth(Path(place), operator, classes=classes)
    if runs is None:
        raise UsageError(
            "--truth labels: without a job there are no labels", hint="winnow evaluate SPEC --truth labels"
        )
    events, damaged = read_labels(runs.store)
    if damaged:
        raise UsageError(f"{damaged[0].key}: {damaged[0].what}", hint="winnow verify --all SPEC")
    if operator == "embed":
        events = _of_same_vectors(events, runs, task, run)
    jobs = {event.job for event in events if event.task == task}
    agreed = {
        item: value
        for job in sorted(jobs)
        for item, (_, value) in agreed_answers(runs.store, events, job, task, operator).items()
    }
    return from_labels(events, task, operator, purposes, agreed)


def _of_same_vectors(events: Sequence[Label], runs: Runs, task: str, run: str | None) -> list[Label]:
    """Answers to what was asked of these vectors: by runs with the task as it is in `run`, or in the newest."""
    named = [plan for plan in runs.plans() if any(one.name == task for one in plan.tasks())]
    measured = named[-1:] if run is None else [runs.plan(run)]
    digests = {one.digest for plan in measured for one in plan.tasks() if one.name == task}
    asked = questions_of(runs.store, (plan.run_id for plan in named if plan.spec.task(task).digest in digests))
    return [event for event in events if event.task != task or event.dedupe_key in asked]


def evaluate_rows(
    rows: Rows, truth: TruthSet, wanted: Acceptance, *, resampling: Resampling | None = None
) -> dict[str, Any]:
    """The record of one task; `per_item` is a table of PER_ITEM.

    Raises:
        UsageError: they have nothing in common, or an item's truth and prediction cannot be compared.
    """
    keys = rows.keys()
    if len(keys) != len(set(keys)):
        twice = Counter(keys).most_common(1)[0][0]
        raise UsageError(f"{rows.name}: {twice} is there more than once", hint="keep one row for each image")
    found = pair_keys(truth, keys)
    if not found:
        raise UsageError(
            f"none of the {len(truth.items):,} keys of the truth ({_some(truth.items)}) is a key of the "
            f"{len(keys):,} rows ({_some(keys)})",
            hint="keys are relative to the corpus; the end of one from a / on is enough",
        )
    rest = _Unpaired()
    pairs = _pairs(rows(with_heat=truth.has_where), truth, found, rest)
    first = next(pairs, None)
    if first is None:
        raise UsageError(
            f"{rows.name}: no item with a truth has a prediction of {rows.task}"
            + (f"; {len(rest.other_version):,} have one of another version" if rest.other_version else ""),
            hint="winnow run SPEC predicts what is due",
        )
    record = compare(_chain(first, pairs), rows.operator, wanted, has_where=truth.has_where, resampling=resampling)
    used = set(found.values())
    without_row = [key for key in truth.items if key not in used]
    per_item = _per_item(record.pop("per_item"), rest, without_row)
    return {
        "task": rows.task,
        "operator": rows.operator,
        "predictions": rows.name,
        "calibrator": None if rows.by is None else rows.by.record(),
        "truth": truth.where,
        "notes": [*truth.notes, *record.pop("notes")],
        "acceptance": asdict(wanted),
        "rows": len(keys),
        "without_truth": _missing(rest.without_truth),
        "other_version": _missing(rest.other_version),
        "not_asked": _missing(rest.not_asked),
        "without_row": _missing(without_row),
        **record,
        "per_item": per_item,
    }


def _pairs(rows: Iterator[Row], truth: TruthSet, found: Mapping[str, str], rest: _Unpaired) -> Iterator[Pair]:
    for row in rows:
        rest.item_ids[row.key] = row.item_id
        name = found.get(row.key)
        if name is None:
            rest.without_truth.append(row.key)
        elif truth.versions.get(name, row.version) != row.version:
            rest.other_version.append(row.key)
        elif not row.asked:
            rest.not_asked.append(row.key)
        else:
            if row.struct is None:
                rest.failed.add(row.key)
            yield Pair(row.key, truth.items[name], row.struct, row.size)


def _chain(first: Pair, rest: Iterator[Pair]) -> Iterator[Pair]:
    yield first
    yield from rest


def _per_item(columns: Mapping[str, list[Any]], rest: _Unpaired, without_row: Sequence[str]) -> pa.Table:
    measured = len(columns["key"])
    keys, states = list(columns["key"]), ["failed" if key in rest.failed else "measured" for key in columns["key"]]
    for state in ("without_truth", "other_version", "not_asked"):
        more: list[str] = getattr(rest, state)
        keys += more
        states += [state] * len(more)
    keys += without_row
    states += ["without_row"] * len(without_row)
    empty = [None] * (len(keys) - measured)
    values = {name: [*columns[name], *empty] for name in ("ok", "value", "weight", "confidence")}
    ids = [rest.item_ids.get(key) for key in keys]
    return pa.table({"key": keys, "item_id": ids, "status": states, **values}, schema=PER_ITEM)


def _missing(keys: list[str]) -> dict[str, Any]:
    return {"count": len(keys), "some": sorted(keys)[:SHOWN]}


def _some(keys: Any) -> str:
    return ", ".join(sorted(keys)[:3]) or "none"
