"""How does Ray reach the pipeline? A thin actor: one per accelerator or share of the CPU, warm across shards."""

import os

import ray

from winnow_storage.shards import Receipt
from winnow_workers.pipeline import Pipeline, WorkerConfig


class ShardWorker:
    """The pipeline of one run in a process of its own."""

    def __init__(self, config: WorkerConfig) -> None:
        import torch

        torch.set_num_threads(config.threads)
        self._pipeline = Pipeline(config)

    def open(self) -> int:
        """Load the models; the process id, for logs.

        Raises:
            ModelError: one of them cannot be used.
        """
        self._pipeline.open()
        return os.getpid()

    def run_shard(self, shard: int) -> Receipt:
        """Process and commit one shard."""
        return self._pipeline.run_shard(shard)


ShardActor = ray.remote(ShardWorker)
