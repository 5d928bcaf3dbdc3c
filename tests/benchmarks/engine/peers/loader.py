"""How does a plain PyTorch loop do the job? A DataLoader whose workers decode; one process predicts and writes."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

from tests.benchmarks.engine.bare import BareModel
from tests.benchmarks.engine.batch import batch_size
from tests.benchmarks.engine.peers.task import Task, rows_of


class Files(Dataset[tuple[str, torch.Tensor]]):
    """Paths and the model's inputs."""

    def __init__(self, task: Task) -> None:
        self._paths = task.paths()
        self._model = BareModel(task.model)  # for its preparation alone

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        path = self._paths[index]
        return str(path), self._model.prepare(path.read_bytes())


def run(task: Task, *, threads: int) -> None:
    """The whole job; `threads` are those of the model, for a single process has it."""
    model = BareModel(task.model, threads=threads)
    workers = max(1, task.workers - 1)  # the process that predicts is one more
    loader = DataLoader(Files(task), batch_size=batch_size(), num_workers=workers, prefetch_factor=4)
    torch.set_num_threads(threads)
    done = []
    for paths, inputs in loader:
        done.append(rows_of(paths, model.predict(list(inputs)), time.time()))
    columns = {name: np.concatenate([part[name] for part in done]) for name in done[0]}
    pq.write_table(pa.table(columns), f"{task.output}/rows.parquet")
