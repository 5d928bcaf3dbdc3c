"""How does Ray Data do the job? In its documented pattern of two stages, and tuned, with decoding inside the actors.

The documented one: tasks read and decode a row at a time, a pool of actors predicts in batches; it reads plain bytes
where the documentation reads images, for the decoder must be the same. The tuned one: rows are paths,
blocks as large as our shards, and an actor reads, decodes and predicts them, so that no pixels cross the object store.
Actors ask for half a core each, or the tasks beside them (decoding, writing) would never be scheduled on so few cores.
"""

import functools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from tests.benchmarks.engine.bare import BareModel
from tests.benchmarks.engine.batch import batch_size
from tests.benchmarks.engine.peers.task import Task, rows_of

ACTOR_CPUS = 0.5


def run(task: Task, *, tuned: bool) -> None:
    """The whole job, in a Ray of its own, without a dashboard."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local",
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=2**30,  # pixels cross it
        log_to_driver=False,
    )
    DataContext.get_current().enable_progress_bars = False
    pool = ActorPoolStrategy(size=task.workers)
    if tuned:
        paths = [{"path": str(path)} for path in task.paths()]
        blocks = max(task.workers, len(paths) // task.shard_items)
        rows = ray.data.from_items(paths, override_num_blocks=blocks).map_batches(
            Fused, batch_size=task.shard_items, compute=pool, num_cpus=ACTOR_CPUS, fn_constructor_args=[task]
        )
    else:
        files = ray.data.read_binary_files(task.corpus, include_paths=True)
        rows = files.map(decode, fn_args=[task.model]).map_batches(
            Predict, batch_size=batch_size(), compute=pool, num_cpus=ACTOR_CPUS, fn_constructor_args=[task]
        )
    rows.write_parquet(task.output)


@functools.cache
def _model(name: str) -> BareModel:
    return BareModel(name)


def decode(row: dict[str, Any], model: str) -> dict[str, Any]:
    """The first stage: one row's bytes to the model's input."""
    return {"path": row["path"], "input": _model(model).prepare(row["bytes"]).numpy()}


class Predict:
    """The second stage."""

    def __init__(self, task: Task) -> None:
        self._model = BareModel(task.model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Rows of a batch of inputs."""
        import torch

        answers = self._model.predict(list(torch.from_numpy(np.asarray(batch["input"]))))
        return rows_of(batch["path"], answers, time.time())


class Fused:
    """Both at once, in batches of the model's size."""

    def __init__(self, task: Task) -> None:
        self._model = BareModel(task.model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Rows of a block of paths."""
        done: list[dict[str, Any]] = []
        size = batch_size()
        for start in range(0, len(batch["path"]), size):
            paths = batch["path"][start : start + size]
            answers = self._model.predict([self._model.prepare(Path(path).read_bytes()) for path in paths])
            done.append(rows_of(paths, answers, time.time()))
        return {name: np.concatenate([part[name] for part in done]) for name in done[0]}
