"""A job whose items several people answer: a committed run with a classifier and vectors, and labels as pulled."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tests.jobs.histories import add_run, receipt, spec
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_annotation.pull import _put
from winnow_jobs.consensus.further import settle
from winnow_jobs.consensus.rows import ConsensusRow, standing_rows
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask
from winnow_jobs.review import route_run
from winnow_jobs.runs import PlanDocument, Runs
from winnow_storage.blobs import open_store
from winnow_storage.ids import item_id
from winnow_storage.records import Label
from winnow_storage.schemas import result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.models.resolve import resolve_model

NOW = datetime(2026, 11, 20).astimezone()
JOB, TASK, VECTORS = "shelves", "kind", "vector"

Floats = NDArray[np.float64]


def key_of(place: int) -> str:
    return f"{place:05d}.jpg"


def id_of(place: int) -> str:
    return item_id("c", key_of(place))


class CrowdJob:
    """Items 0, 1, ...; `beliefs` (items, classes): the model's calibrated probabilities; `vectors` (items, d).

    `images`: the folder in which their files are, where anybody is to see them.
    """

    def __init__(
        self,
        folder: Path,
        beliefs: Floats,
        vectors: Floats | None = None,
        *,
        images: Path = Path("/none"),
        name: str = JOB,
        **review: Any,
    ) -> None:
        self.beliefs, self.vectors, self.images = beliefs, vectors, images
        policy = {TASK: Policy(min_p_ok=1.0)}  # nothing is accepted: everybody is asked about everything
        people = ReviewSpec.model_validate({"policies": policy, "budget": len(beliefs), "blind": True, **review})
        self.spec: ResolvedSpec = spec(folder, *self._tasks(), job=name).model_copy(update={"review": people})
        self.runs = Runs(open_store(parse(self.spec.output)))
        self.clock = 0
        self.plan = self._run()

    def _tasks(self) -> list[ResolvedTask]:
        model = resolve_model("builtin/fingerprint")
        params = {"labels": [str(one) for one in range(self.beliefs.shape[1])]}
        operators = {TASK: "classify"} | ({} if self.vectors is None else {VECTORS: "embed"})
        return [
            ResolvedTask(name=name, operator=one, revision=1, params=params if name == TASK else {}, model=model)
            for name, one in operators.items()
        ]

    def _run(self) -> PlanDocument:
        plan = add_run(self.runs, self.spec, [None])
        fields = {TASK: [pa.field("label", pa.string()), pa.field("margin", pa.float32()), _TOP]}
        if self.vectors is not None:
            fields[VECTORS] = [pa.field("vector", pa.list_(pa.float32(), self.vectors.shape[1]))]
        rows = [self._row(place, plan) for place in range(len(self.beliefs))]
        table = pa.Table.from_pylist(rows, schema=result_schema(fields))
        assert self.runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
        route_run(self.runs.store, plan)
        return plan

    def _row(self, place: int, plan: PlanDocument) -> dict[str, Any]:
        belief = self.beliefs[place]
        order = np.argsort(-belief, kind="stable")
        top = [{"label": str(one), "score": float(belief[one])} for one in order[:5]]
        sure = float(belief[order[0]])
        struct = {"model": "m", "score": sure, "p_ok": sure, "label": top[0]["label"], "margin": 0.0, "top": top}
        key = key_of(place)
        row = {"item_id": id_of(place), "key": key, "uri": (self.images / key).as_uri(), "version": "v1"}
        row |= {"outcome": "done", "failed_tasks": [], "run_id": plan.run_id, "shard": 0, TASK: struct}
        row |= {"width": 10, "height": 10, "format": "jpeg"}
        return row if self.vectors is None else row | {VECTORS: {"model": "m", "vector": self.vectors[place].tolist()}}

    def answer(self, said: Sequence[tuple[int, str, str]], purpose: str = "review", **changes: Any) -> None:
        """(item, annotator, label) of answers that came in together."""
        self.clock += 1
        at = NOW + timedelta(minutes=self.clock)
        _put([self._label(*one, purpose, at, changes) for one in said], self.runs.store)

    def _label(
        self, place: int, annotator: str, label: str, purpose: str, at: datetime, changes: Mapping[str, Any]
    ) -> Label:
        name = f"{purpose} {place} {annotator}"
        own = {
            "label_id": f"{name} {self.clock}",
            "event": "created",
            "dedupe_key": f"{purpose} {place}",
            "job": self.spec.job,
            "task": TASK,
            "operator": "classify",
            "item_id": id_of(place),
            "version": "v1",
            "key": key_of(place),
            "uri": f"file:///{key_of(place)}",
            "purpose": purpose,
            "run_id": "0001",
            "server": "http://ls",
            "annotation_id": name,
            "project_id": 1,
            "ls_task_id": place,
            "annotator": annotator,
            "created_at": at,
            "updated_at": at,
            "was_cancelled": False,
            "lead_time_s": 1.0,
            "value": json.dumps({"label": label}),
            "raw": "[]",
            "config_hash": "c",
            "model": None,
            "shown": None,
        }
        return Label(**{**own, **changes})

    def settle(self) -> dict[str, Any]:
        """What `winnow consensus` does without Label Studio; the record of the task."""
        self.clock += 1
        record = settle(self.spec, self.runs, tasks=[TASK], at=NOW + timedelta(minutes=self.clock))
        (task,) = record["tasks"]
        return dict(task)

    def standing(self) -> dict[int, ConsensusRow]:
        """By place."""
        places = {id_of(place): place for place in range(len(self.beliefs))}
        return {places[row.item_id]: row for row in standing_rows(self.runs.store).values()}


_TOP = pa.field("top", pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())])))
