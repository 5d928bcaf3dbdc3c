"""Which labels look wrong, and are to be looked at again? By embeddings, or by what the model says, within a budget."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_annotation.consensus.beliefs import belief_of
from winnow_annotation.consensus.decision import State
from winnow_annotation.label_errors import suspects
from winnow_jobs.consensus.asked import Place
from winnow_jobs.consensus.form import TaskConsensus, prediction_of
from winnow_jobs.consensus.rows import ConsensusRow
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.runs import Runs
from winnow_storage.dataset import iter_results
from winnow_storage.errors import UsageError

FIELDS = {"classify": "label", "anomaly": "is_anomalous"}  # of operators whose labels can look wrong
OF_VECTORS, OF_MODEL = "label_looks_wrong", "model_disagrees"
_LIKELY = 0.5  # a label that is likelier than not is left alone
_CLOSED = (State.SETTLED, State.UNSURE)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A row of the consensus whose answer looks wrong; `quality` is the probability that it is right."""

    row: ConsensusRow
    quality: float
    better: str
    reason: str


def doubts(
    spec: ResolvedSpec, runs: Runs, found: TaskConsensus, sent: Mapping[Place, Mapping[str, Any]]
) -> list[Doubt]:
    """The most doubtful first, all of them; none where the spec asks for none, or no label can be told wrong.

    Of classes by out-of-fold probabilities on stored embeddings if the job has any, else by the calibrated p_ok.

    Raises:
        UsageError: the spec names a task of vectors that there is not.
    """
    field = FIELDS.get(found.operator)
    if field is None or spec.review.second_look is None:
        return []
    rows = [row for row in found.rows if row.state in _CLOSED]
    vectors = _vectors_task(spec)
    if vectors is None:
        return _by_model(rows, field, sent)
    known = _vectors(runs, vectors, {row.item_id: row.version for row in rows})
    there = [row for row in rows if row.item_id in known]
    labels = [str(json.loads(row.people_answer)[field]) for row in there]
    try:
        ranked = suspects(np.stack([known[row.item_id] for row in there]) if there else np.zeros((0, 1)), labels)
    except UsageError:
        return _by_model(rows, field, sent)  # too few labels to learn from
    wrong = [one for one in ranked if one.is_issue or one.quality < _LIKELY]
    wrong = [one for one in wrong if one.better != one.label]
    return [Doubt(there[one.place], one.quality, one.better, OF_VECTORS) for one in wrong]


def _vectors_task(spec: ResolvedSpec) -> str | None:
    wish = spec.review.second_look.vectors if spec.review.second_look else None
    embed = [task.name for task in spec.tasks if task.kind == "embed"]
    if wish is not None and wish not in embed:
        raise UsageError(
            f"review.second_look.vectors names {wish!r}, which is no task of embed",
            hint=f"there is {', '.join(embed) or 'none'}; leave it out to go by the model's p_ok",
        )
    return wish or (embed[0] if embed else None)


def _vectors(runs: Runs, task: str, versions: Mapping[str, str]) -> dict[str, np.ndarray[Any, Any]]:
    """By item_id, of the versions that were labelled; a later run's stand."""
    wanted = pa.array(list(versions), pa.string())
    found: dict[str, np.ndarray[Any, Any]] = {}
    for plan in runs.plans():
        if task not in [one.name for one in plan.tasks()]:
            continue
        for _, rows in iter_results(runs.store, plan.run_id, ["item_id", "version", f"{task}.vector"]):
            own = rows.filter(pc.is_in(rows["item_id"], wanted))
            column = pc.struct_field(own[task], "vector")
            pairs = zip(own["item_id"].to_pylist(), own["version"].to_pylist(), column.to_pylist(), strict=True)
            found |= {
                item: np.asarray(vector, np.float64)
                for item, version, vector in pairs
                if vector is not None and versions[item] == version
            }
    lengths = {len(vector) for vector in found.values()}
    return found if len(lengths) <= 1 else {}  # the model of the vectors changed in between


def _by_model(rows: Sequence[ConsensusRow], field: str, sent: Mapping[Place, Mapping[str, Any]]) -> list[Doubt]:
    found = []
    for row in rows:
        prediction, p_ok = prediction_of(sent.get((row.task, row.item_id, row.version)))
        belief = belief_of(row.operator, prediction, p_ok)
        if not belief:
            continue
        quality = belief.get(json.loads(row.people_answer)[field], 0.0)
        better = max(belief, key=lambda answer: belief[answer])
        if quality < _LIKELY and better != json.loads(row.people_answer)[field]:
            found.append(Doubt(row, quality, str(better), OF_MODEL))
    return sorted(found, key=lambda one: (one.quality, one.row.item_id))
