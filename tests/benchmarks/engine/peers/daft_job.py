"""How does Daft do the job? A class in as many processes as cores, from paths to rows, and its own writer."""

import time
from pathlib import Path
from typing import Any

import daft
from daft import DataType

from tests.benchmarks.engine.bare import BareModel
from tests.benchmarks.engine.batch import batch_size
from tests.benchmarks.engine.peers.task import Task

FIELDS = {"label": DataType.int64(), "score": DataType.float64(), "at_s": DataType.float64()}


def run(task: Task) -> None:
    """The whole job on Daft's own runner."""
    daft.set_runner_native()
    fused = daft.cls(Fused, max_concurrency=task.workers, use_process=True)(task.model)
    paths = daft.from_pydict({"path": [str(path) for path in task.paths()]})
    rows = paths.into_batches(task.shard_items).select(daft.col("path"), fused.predict(daft.col("path")).alias("kind"))
    kind = daft.col("kind")
    fields = [kind.get(name).alias(name) for name in FIELDS]
    rows.select(daft.col("path"), *fields).write_parquet(task.output)


class Fused:
    """Reads, decodes and predicts, in batches of the model's size."""

    def __init__(self, model: str) -> None:
        self._model = BareModel(model)

    @daft.method.batch(return_dtype=DataType.struct(FIELDS), batch_size=64)
    def predict(self, paths: daft.Series) -> list[dict[str, Any]]:
        """A row per path."""
        files, rows, size = paths.to_pylist(), [], batch_size()
        for start in range(0, len(files), size):
            part = files[start : start + size]
            answers = self._model.predict([self._model.prepare(Path(path).read_bytes()) for path in part])
            rows += [{"label": label, "score": score, "at_s": time.time()} for label, score in answers]
        return rows
