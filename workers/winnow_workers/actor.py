"""How does Ray reach the pipeline? A thin actor: one per accelerator or share of the CPU, warm across shards."""

from dataclasses import dataclass

import ray

from winnow_storage.shards import Receipt
from winnow_workers.children import allowed_s, limit_memory, rows_one_by_one
from winnow_workers.deadline import HangTimer
from winnow_workers.pipeline import CHUNK_BYTES, COMMIT, Pipeline, Stages, WorkerConfig
from winnow_workers.signals import NeedsCare

COMMIT_S = 900.0  # for up to a gibibyte on a slow line, with the store's retries
COMPANY_BYTES = 4 * CHUNK_BYTES  # pixels of a chunk, of what is fetched ahead, and the rows


@dataclass(frozen=True, slots=True)
class CareWanted:
    """The answer of an actor that could not work through a shard in company."""

    reason: str


class ShardWorker:
    """The pipeline of one run in a process of its own."""

    def __init__(self, config: WorkerConfig) -> None:
        import torch

        torch.set_num_threads(config.threads)
        self._timer = HangTimer()
        self._config = config
        self._pipeline = Pipeline(config, self._entering)
        self._is_open = False

    def open(self) -> str:
        """Load the models; the id of the node that this is on.

        Raises:
            ModelError: one of them cannot be used.
        """
        if not self._is_open:
            self._pipeline.open()
            self._is_open = True
            if self._config.device == "cpu":
                limit_memory(self._config.item_memory_bytes + COMPANY_BYTES)
        return str(ray.get_runtime_context().get_node_id())

    def run_shard(self, shard: int) -> Receipt | CareWanted:
        """Process and commit one shard."""
        self.open()
        try:
            return self._pipeline.run_shard(shard)
        except NeedsCare as reason:
            return CareWanted(str(reason))
        finally:
            self._timer.stop()

    def run_carefully(self, shard: int) -> Receipt:
        """Process and commit one shard whose images may end their process: this one's models make room for children."""
        self._pipeline.close()
        self._is_open = False
        rows = rows_one_by_one(self._config, shard, self._pipeline.items(shard))
        try:
            return self._pipeline.commit(shard, rows, Stages())
        finally:
            self._timer.stop()

    def _entering(self, stage: str) -> None:
        self._timer.step(COMMIT_S if stage == COMMIT else allowed_s(stage, self._config))


ShardActor = ray.remote(ShardWorker)
