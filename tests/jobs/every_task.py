"""Runs of one task of any operator whose errors a calibrator can tell, and what is true: for whatever reads `p_ok`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.jobs.histories import CORPUS, add_run, receipt, spec
from winnow_annotation.policies import ReviewSpec
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.ids import item_id
from winnow_storage.schemas import BOX_XYXY_PX, RLE, result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.masks import encode_rle
from winnow_workers.models.resolve import resolve_model

TASK = "thing"
COUNT = 300
_NAMED = [("label", pa.string()), ("score", pa.float32())]
_BOX = pa.struct([*_NAMED, ("box", BOX_XYXY_PX), ("is_output", pa.bool_())])
_MASK = pa.struct([*_NAMED, ("area_px", pa.int64()), ("rle", RLE), ("box", BOX_XYXY_PX), ("is_output", pa.bool_())])
_LINE = pa.struct([("text", pa.string()), ("score", pa.float32()), ("order", pa.int32())])


@dataclass(frozen=True, slots=True)
class Kind:
    """Of an operator: the fields of its rows; the prediction that is right with a probability, and what is true then.

    `struct` is also given noise, which stands as the row's score where the parts say more; `true` is a label's value.
    """

    operator: str
    fields: Sequence[pa.Field]
    struct: Callable[[float, float], dict[str, Any]]
    true: Callable[[bool], dict[str, Any]]


def _classified(p: float, _: float) -> dict[str, Any]:
    top = [{"label": "a", "score": p}, {"label": "b", "score": 1 - p}]
    return {"score": p, "label": "a", "margin": 2 * p - 1, "entropy": 1 - p, "top": top}


def _detected(p: float, noise: float) -> dict[str, Any]:
    put_out = {"label": "a", "score": p, "box": [0.0, 0.0, 9.0, 9.0], "is_output": True}
    held_back = {"label": "b", "score": 0.1 * noise, "box": [20.0, 20.0, 29.0, 29.0], "is_output": False}
    return {"score": noise, "boxes": [put_out, held_back]}


def _rle(rows: int) -> dict[str, Any]:
    """The first rows of 10 x 10 px."""
    bits = np.zeros((10, 10), np.bool_)
    bits[:rows] = True
    return encode_rle(bits)


def _mask(p: float, *, is_output: bool) -> dict[str, Any]:
    return {"label": "a", "score": p, "area_px": 100, "rle": _rle(10), "box": [0, 0, 10, 10], "is_output": is_output}


def _segmented(p: float, noise: float) -> dict[str, Any]:
    return {"score": noise, "masks": [_mask(p, is_output=True)], "boundary_entropy": noise}


def _instances(p: float, noise: float) -> dict[str, Any]:
    masks = [_mask(p, is_output=True), _mask(0.1 * noise, is_output=False)]
    return {"score": noise, "masks": masks, "boundary_entropy": None}


def _read(p: float, noise: float) -> dict[str, Any]:
    lines = [{"text": "shelf 12", "score": p, "order": 0}, {"text": "", "score": 0.1, "order": 1}]
    return {"score": noise, "lines": lines, "full_text": "shelf 12"}


def _looked_at(p: float, _: float) -> dict[str, Any]:
    return {"score": 1 + p, "is_anomalous": True}


_BOXES = [pa.field("boxes", pa.list_(_BOX))]
_MASKS = [pa.field("masks", pa.list_(_MASK)), pa.field("boundary_entropy", pa.float32())]
KINDS: Mapping[str, Kind] = {
    "classify": Kind(
        "classify",
        [
            pa.field("label", pa.string()),
            pa.field("margin", pa.float32()),
            pa.field("entropy", pa.float32()),
            pa.field("top", pa.list_(pa.struct(_NAMED))),
        ],
        _classified,
        lambda ok: {"label": "a" if ok else "b"},
    ),
    "detect": Kind(
        "detect", _BOXES, _detected, lambda ok: {"boxes": [{"label": "a", "box": [0, 0, 9, 9]}] if ok else []}
    ),
    "semantic": Kind(
        "segment", _MASKS, _segmented, lambda ok: {"masks": [{"label": "a", "rle": _rle(10 if ok else 3)}]}
    ),
    "instances": Kind(
        "segment", _MASKS, _instances, lambda ok: {"masks": [{"label": "a", "rle": _rle(10 if ok else 3)}]}
    ),
    "ocr": Kind(
        "ocr",
        [pa.field("lines", pa.list_(_LINE)), pa.field("full_text", pa.string())],
        _read,
        lambda ok: {"full_text": "shelf 12" if ok else "shelf 13"},
    ),
    "anomaly": Kind(
        "anomaly", [pa.field("is_anomalous", pa.bool_())], _looked_at, lambda ok: {"is_anomalous": ok}
    ),
}  # fmt: skip


def job(folder: Path, kind: Kind, review: ReviewSpec) -> tuple[ResolvedSpec, Runs]:
    """A job of this one task, and the runs of its output."""
    model = resolve_model("builtin/fingerprint")
    task = ResolvedTask(name=TASK, operator=kind.operator, revision=1, params={}, model=model)
    resolved = spec(folder, task).model_copy(update={"review": review})
    return resolved, Runs(open_store(parse(resolved.output)))


def commit_run(
    runs: Runs, resolved: ResolvedSpec, kind: Kind, seed: int, *, count: int = COUNT
) -> tuple[PlanDocument, dict[str, dict[str, Any]]]:
    """A committed run of the first of COUNT items, each right with the probability that its parts say; what is true,
    by key.
    """
    rng = np.random.default_rng(seed)
    keys = [f"{seed}-{number:05d}.jpg" for number in range(COUNT)]
    plan = add_run(runs, resolved, [None], corpus=dict.fromkeys(keys, "v1"))
    rows, truth = [], {}
    for key in keys[:count]:
        p, noise = rng.uniform(0.3, 1.0), rng.uniform(0.5, 1.0)
        truth[key] = kind.true(bool(rng.uniform() < p))
        common = {"item_id": item_id(CORPUS, key), "key": key, "uri": f"file:///{key}", "version": "v1"}
        common |= {"outcome": "done", "failed_tasks": [], "run_id": plan.run_id, "shard": 0}
        rows.append(common | {TASK: {"model": "m", **kind.struct(p, noise)}})
    table = pa.Table.from_pylist(rows, schema=result_schema({TASK: kind.fields}))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    return plan, truth


def truth_file(path: Path, truth: Mapping[str, Mapping[str, Any]]) -> Path:
    """The same as a table that `winnow learn --truth` takes."""
    names = {"full_text": "text", "is_anomalous": "anomalous"}
    rows = []
    for key, value in truth.items():
        row = {names.get(name, name): one for name, one in value.items()}
        if "masks" in row:
            row["masks"] = {one["label"]: one["rle"] for one in row["masks"]}
        rows.append({"key": key} | {name: json.dumps(one) if name in ("boxes", "masks") else one
                                    for name, one in row.items()})  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path
