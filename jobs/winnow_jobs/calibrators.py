"""Which calibrator holds for a task's predictions? Objects by digest in the output, an append-only log, and pins.

`calibrators/TASK/DIGEST.json` is a calibrator, `calibrators/TASK/log/00000001.json` says that one was learned. A run
applies those that were newest when it was first routed, which `runs/RUN/calibrators.json` pins: rows are final, and so
are routes.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from winnow_annotation.policies import Policy
from winnow_jobs.acceptance import WANTED, acceptance_of
from winnow_jobs.kept import read_kept
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing, StoreError
from winnow_storage.ids import canonical_json
from winnow_workers.confidence.calibrator import Calibrator
from winnow_workers.confidence.features import Floats, features, said

Calibrators = Mapping[str, Calibrator]  # by task


def keep_calibrator(store: BlobStore, calibrator: Calibrator, *, at: datetime) -> bool:
    """Store it as the newest of its task, model and parameters; False if it is that already."""
    subject = calibrator.subject
    mask_iou = WANTED.mask_iou if subject.mask_iou is None else subject.mask_iou
    store.put_if_absent(calibrator_key(subject.task, calibrator.digest), _encode(calibrator))
    while True:
        log = _log(store, subject.task)
        if _newest_digest(store, subject.task, (subject.task_digest, mask_iou), log) == calibrator.digest:
            return False
        entry: dict[str, Any] = {"digest": calibrator.digest, "task_digest": subject.task_digest, "at": at.isoformat()}
        if subject.mask_iou is not None:
            entry["mask_iou"] = mask_iou
        number = 1 + max(log, default=0)
        if store.put_if_absent(_log_key(subject.task, number), canonical_json(entry | _said(calibrator)).encode()):
            return True


def newest_calibrator(store: BlobStore, task: ResolvedTask, policy: Policy | None) -> Calibrator | None:
    """The last one learned of exactly this task, its operator, model and parameters, and of what its policy takes for
    right.

    Raises:
        StoreError: it is damaged.
    """
    learned_of = task.digest, acceptance_of(policy).mask_iou
    digest = _newest_digest(store, task.name, learned_of, _log(store, task.name))
    return None if digest is None else _load(store, task.name, digest)


def learned_calibrators(store: BlobStore, task: str) -> Iterator[tuple[datetime, Calibrator]]:
    """Every one that was learned of a task, whatever its model, with when; oldest first.

    Raises:
        StoreError: one of them is damaged.
    """
    for number in sorted(_log(store, task)):
        key = _log_key(task, number)
        try:
            entry = json.loads(store.get(key))
            at, digest = datetime.fromisoformat(entry["at"]), str(entry["digest"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(store, key) from error
        yield at, _load(store, task, digest)


def pinned_calibrators(store: BlobStore, plan: PlanDocument) -> Calibrators:
    """Those that a run is routed with; the first call for a run pins the newest.

    Raises:
        StoreError: one of them is damaged or gone.
    """
    key = pins_key(plan.run_id)
    try:
        pins = json.loads(store.get(key))
    except BlobMissing:
        pins = {name: one.digest for name, one in newest_calibrators(store, plan).items()}
        if pins and not store.put_if_absent(key, canonical_json(pins).encode()):
            pins = json.loads(store.get(key))  # another driver was first
    found = {name: _load(store, name, digest) for name, digest in pins.items()}
    return {name: one for name, one in found.items() if has_vectors(plan, one)}


def newest_calibrators(store: BlobStore, plan: PlanDocument) -> Calibrators:
    """Of the tasks of a run that have any.

    Raises:
        StoreError: one of them is damaged.
    """
    known, policies = set(store.folders("calibrators/")), plan.spec.review.policies
    tasks = [task for task in plan.tasks() if task.name in known]
    newest = {task.name: newest_calibrator(store, task, policies.get(task.name)) for task in tasks}
    return {name: one for name, one in newest.items() if one is not None}


def kept_calibrator(store: BlobStore, run_id: str, task: str) -> Calibrator | None:
    """The one that a run pinned for a task; None where it has not pinned any.

    Raises:
        StoreError: it is damaged or gone.
    """
    try:
        digest = json.loads(store.get(pins_key(run_id))).get(task)
    except BlobMissing:
        return None
    return None if digest is None else _load(store, task, digest)


def has_vectors(plan: PlanDocument, calibrator: Calibrator) -> bool:
    """Whether a run has the vectors that it was learned beside, if it was beside any: without them p_ok stays null."""
    near = calibrator.neighbours
    return near is None or any((one.name, one.digest) == (near.task, near.task_digest) for one in plan.chosen())


def columns_beside(calibrators: Calibrators) -> list[str]:
    """The columns of other tasks that `with_p_ok` looks at."""
    return [f"{task}.vector" for task in tasks_beside(calibrators)]


def tasks_beside(calibrators: Calibrators) -> list[str]:
    """The tasks whose vectors `with_p_ok` looks at."""
    return sorted({one.neighbours.task for one in calibrators.values() if one.neighbours})


def beside_column(task: str) -> str:
    """The column of all vectors of a task, where some are of earlier runs and its own struct has only this run's."""
    return f".vectors of {task}"


def vectors_of(rows: pa.Table, task: str) -> Floats:
    """(n, length) of an `embed` task, NaN where a row has none; of length 0 where none has, or not of one length."""
    name = beside_column(task)
    is_beside = name in rows.column_names
    column = rows[name].combine_chunks() if is_beside else pc.struct_field(rows[task].combine_chunks(), "vector")
    if not pa.types.is_fixed_size_list(column.type):  # all null, or an operator's own, of no one length
        return np.zeros((len(column), 0))
    length = column.type.list_size
    there = pc.is_valid(column).to_numpy(zero_copy_only=False)
    found = np.full((len(column), length), np.nan)
    values = pc.list_flatten(column.filter(pa.array(there))).to_numpy(zero_copy_only=False)
    found[there] = values.reshape(-1, length)
    return found


def fields_read(calibrator: Calibrator | None) -> tuple[str, ...]:
    """The fields of a task's struct that `with_p_ok` looks at."""
    return () if calibrator is None else (*calibrator.fields, "p_ok", "calibrator")


def with_p_ok(rows: pa.Table, task: str, calibrator: Calibrator) -> pa.Table:
    """The rows with this calibrator's p_ok and id in the task's struct, null where the row has no score."""
    struct = rows[task].combine_chunks()
    operator = calibrator.subject.operator
    found = features(operator, struct)
    if calibrator.neighbours is not None:
        vectors = vectors_of(rows, calibrator.neighbours.task)
        found = found.beside(calibrator.neighbours.columns(vectors, said(operator, struct)))
    p_ok = pa.array(calibrator.p_ok(found), pa.float32(), from_pandas=True)
    identity = pc.if_else(pc.is_valid(p_ok), pa.scalar(calibrator.id), pa.scalar(None, pa.string()))
    fields = list(struct.type)
    applied = {"p_ok": p_ok, "calibrator": identity}
    arrays = [applied[field.name] if field.name in applied else pc.struct_field(struct, field.name) for field in fields]
    with_both = pa.StructArray.from_arrays(arrays, fields=fields, mask=pc.is_null(struct))
    return rows.set_column(rows.column_names.index(task), task, with_both)


def _said(calibrator: Calibrator) -> dict[str, Any]:
    return {"model": calibrator.subject.model, "kind": calibrator.kind, "labels": calibrator.fitted_on.labels}


def _encode(calibrator: Calibrator) -> bytes:
    return canonical_json(calibrator.content).encode()


def _load(store: BlobStore, task: str, digest: str) -> Calibrator:
    key = calibrator_key(task, digest)
    return read_kept(store, key, Calibrator, digest=digest, damaged=_damaged(store, key))


def _newest_digest(store: BlobStore, task: str, learned_of: tuple[str, float], log: list[int]) -> str | None:
    """`learned_of`: the task's digest, and from which IoU on masks are right."""
    for number in sorted(log, reverse=True):
        key = _log_key(task, number)
        try:
            entry = json.loads(store.get(key))
            if (entry["task_digest"], entry.get("mask_iou", WANTED.mask_iou)) == learned_of:
                return str(entry["digest"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(store, key) from error
    return None


def _log(store: BlobStore, task: str) -> list[int]:
    prefix = f"calibrators/{task}/log/"
    names = (info.key.removeprefix(prefix).removesuffix(".json") for info in store.walk(prefix))
    return [int(name) for name in names if name.isdecimal()]


def _damaged(store: BlobStore, key: str) -> StoreError:
    return StoreError(
        f"{store.root}/{key} is missing or not what winnow learn wrote there",
        hint="restore it from a backup; for runs to come, winnow learn SPEC --calibrate again",
    )


def pins_key(run_id: str) -> str:
    """Of the document that pins a run's calibrators: their digests by task."""
    return f"runs/{run_id}/calibrators.json"


def calibrator_key(task: str, digest: str) -> str:
    """Of a calibrator."""
    return f"calibrators/{task}/{digest}.json"


def _log_key(task: str, number: int) -> str:
    return f"calibrators/{task}/log/{number:08d}.json"
