"""Runs of one classifier's given probabilities, and people who answer what was drawn: for promises and audits."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.jobs.histories import DAY_0, add_run, receipt, spec
from winnow_annotation.policies import ReviewSpec
from winnow_annotation.pull import _put
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.routes import iter_sent
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.ids import item_id
from winnow_storage.records import Label
from winnow_storage.schemas import result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.models.resolve import resolve_model

TASK, LOOK = "kind", "look"
_FIELDS = [
    pa.field("label", pa.string()),
    pa.field("margin", pa.float32()),
    pa.field("top", pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())]))),
    pa.field("entropy", pa.float32()),
]


def job(
    folder: Path, review: ReviewSpec, *, revision: int = 1, with_vectors: bool = False, is_head: bool = False
) -> tuple[ResolvedSpec, Runs]:
    """A job of one classifier, perhaps with vectors beside it, and the runs of its output."""
    model = resolve_model("builtin/fingerprint")
    params = {"vectors": {"task": LOOK, "digest": None}} if is_head else {}
    task = ResolvedTask(name=TASK, operator="classify", revision=revision, params=params, model=model)
    look = ResolvedTask(name=LOOK, operator="embed", revision=1, params={}, model=model)
    resolved = spec(folder, task, *([look] if with_vectors else [])).model_copy(update={"review": review})
    return resolved, Runs(open_store(parse(resolved.output)))


def commit_run(
    runs: Runs,
    resolved: ResolvedSpec,
    keys: Sequence[str],
    probabilities: np.ndarray,
    classes: Sequence[str],
    vectors: np.ndarray | None = None,
    corpus: Mapping[str, str] | None = None,
) -> PlanDocument:
    """A committed run with a prediction of every key; `probabilities` (n, k) of the classes, `vectors` (n, width).

    `corpus` has the versions of its snapshot by key, and so those of the rows.
    """
    plan = add_run(runs, resolved, [None], corpus=corpus)
    ranked = np.argsort(-probabilities, axis=1)[:, :5]
    rows = [_row(key, one, of, classes, plan) for key, one, of in zip(keys, probabilities, ranked, strict=True)]
    rows = [row | {"version": (corpus or {}).get(row["key"], "v1")} for row in rows]
    fields = {TASK: _FIELDS}
    if vectors is not None:
        fields[LOOK] = [pa.field("vector", pa.list_(pa.float32(), vectors.shape[1]))]
        rows = [
            row | {LOOK: {"model": "m", "vector": vector}} for row, vector in zip(rows, vectors.tolist(), strict=True)
        ]
    table = pa.Table.from_pylist(rows, schema=result_schema(fields))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    return plan


def answer(
    runs: Runs,
    run_id: str,
    truth: Mapping[str, str | Mapping[str, Any]],
    purposes: Collection[str],
    *,
    days: float = 0.5,
    operator: str = "classify",
) -> int:
    """Someone answers rightly what the run sent for these purposes, so long after it began; how many answers.

    `truth` has the label of a class, or the value of an answer.
    """
    rows = iter_sent(runs.store, run_id, ["task", "route", "key", "item_id", "version", "dedupe_key"])
    at = DAY_0 + timedelta(days=int(run_id) + days)
    labels = [_label(row, truth[row["key"]], run_id, at) for row in rows if row["route"] in purposes]
    labels = [replace(one, operator=operator) for one in labels]
    if labels:
        _put(labels, runs.store)
    return len(labels)


def _row(
    key: str, probabilities: np.ndarray, ranked: np.ndarray, classes: Sequence[str], plan: PlanDocument
) -> dict[str, Any]:
    top = [{"label": classes[place], "score": float(probabilities[place])} for place in ranked]
    entropy = float(-(probabilities * np.log(np.clip(probabilities, 1e-300, None))).sum())
    struct = {"model": "m", "score": top[0]["score"], "label": top[0]["label"], "top": top, "entropy": entropy}
    struct["margin"] = float(top[0]["score"]) - float(top[1]["score"])
    common = {"item_id": item_id("c", key), "key": key, "uri": f"file:///{key}", "version": "v1", "outcome": "done"}
    return common | {"failed_tasks": [], "run_id": plan.run_id, "shard": 0, TASK: struct}


def _label(row: Mapping[str, Any], said: str | Mapping[str, Any], run_id: str, at: datetime) -> Label:
    return Label(
        label_id=f"{row['dedupe_key']}-{run_id}",
        event="created",
        **{name: row[name] for name in ("dedupe_key", "task", "item_id", "version", "key")},
        job="shelves",
        operator="classify",
        uri=f"file:///{row['key']}",
        purpose=row["route"],
        run_id=run_id,
        server="http://ls",
        annotation_id=row["dedupe_key"],
        project_id=1,
        ls_task_id=1,
        annotator="ann",
        created_at=at,
        updated_at=at,
        was_cancelled=False,
        lead_time_s=1.0,
        value=json.dumps({"label": said} if isinstance(said, str) else said),
        raw="[]",
        config_hash="c",
        model=None,
        shown=None,
    )
