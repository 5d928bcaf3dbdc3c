"""How does Ray reach the pipeline? A thin actor: one per accelerator or share of the CPU, warm across shards."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from winnow_storage.errors import StoreError
from winnow_storage.shards import Receipt
from winnow_workers.ahead import REQUESTS
from winnow_workers.allocator import keep_freed_memory
from winnow_workers.children import allowed_s, brought, limit_memory, prepare, rows_one_by_one
from winnow_workers.deadline import STDERR, HangTimer
from winnow_workers.last_words import LastWords, take_last_words
from winnow_workers.pipeline import CHUNK_BYTES, COMMIT, WAIT, Pipeline, WorkerConfig, stored_among
from winnow_workers.signals import NeedsCare
from winnow_workers.tasks import Stages

COMMIT_S = 900.0  # for up to a gibibyte on a slow line, or the patience of a commit (shards.PATIENCE) twice
STACK_BYTES = 8 * 2**20  # of a thread, by the usual limit
# pixels of a chunk, of what is fetched and decoded ahead, the rows; the threads of two shards
COMPANY_BYTES = 4 * CHUNK_BYTES + 2 * REQUESTS * STACK_BYTES


@dataclass(frozen=True, slots=True)
class CareWanted:
    """The answer of an actor that could not work through a shard in company."""

    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer of an actor that is ready for shards."""

    node_id: str
    modules: tuple[str, ...]  # slow ones to import that its models brought
    last_words: str | None = None  # of the actor before it: how it ended itself; then no model is loaded yet


class ShardWorker:
    """The pipeline of one run in a process of its own."""

    def __init__(self, config: WorkerConfig, name: str = "") -> None:
        """`name` is what a successor will ask for its last words by."""
        keep_freed_memory()
        words = None
        with contextlib.suppress(OSError):  # without a folder to write to it dies in silence
            words = LastWords(name) if name else None
        self._words = words
        self._timer = HangTimer(STDERR if words is None else words.file.fileno())
        self._steps = 0
        self._lock = threading.Lock()  # more than one thread may be in here
        self._config = config
        self._pipeline = Pipeline(config, self._entering)
        self._is_open = False

    def open(self, after: str = "", modules: Sequence[str] = ()) -> Opened:
        """Load the models, unless the actor named `after` ended itself: care needs none.

        `modules` are what that one's models had brought; children are forked from a process that has them.

        Raises:
            ModelError: one of the models cannot be used.
        """
        words = take_last_words(after) if after else None
        if words is None:
            self._load()
        else:
            prepare(self._config, modules)
        return Opened(str(ray.get_runtime_context().get_node_id()), brought(), words)

    def turn_to(self, config: WorkerConfig) -> Opened:
        """Go on with another run whose tasks are the same, with the models as they are.

        Called when nothing runs here.
        """
        with self._lock:
            before, self._config = self._pipeline, config
            self._pipeline = Pipeline(config, self._entering)
            if self._is_open:
                self._pipeline.take_over(before)
        return self.open()

    def run_shard(self, shard: int) -> Receipt | CareWanted:
        """Process and commit one shard; two at a time, of which one has the models."""
        self._load()
        with self._watched():
            try:
                return self._pipeline.run_shard(shard)
            except NeedsCare as reason:
                return CareWanted(str(reason))
            except MemoryError:
                return CareWanted("out of memory")  # outside of decoding and models: whose fault it is shows alone

    def run_carefully(self, shard: int) -> Receipt:
        """Process and commit one shard whose images may end their process: this one's models make room for children.

        Called when nothing else runs here.
        """
        items = self._pipeline.items(shard)
        self._pipeline.close()
        self._is_open = False
        rows = rows_one_by_one(self._config, shard, items, self._step)
        with self._watched():
            return self._pipeline.commit(shard, rows, Stages(), stored=stored_among(items))

    def bare_loop(self, shard: int) -> tuple[int, float]:
        """Images and seconds of a shard's bare loop, once nothing else runs here; no image where it cannot be timed."""
        self._load()
        with self._watched():
            try:
                return self._pipeline.bare_loop(shard)
            except (NeedsCare, MemoryError, StoreError):
                return 0, 0.0

    def steps(self) -> int:
        """How many steps were made in this process so far: as long as that grows, it is not stuck."""
        return self._steps

    def _load(self) -> None:
        with self._lock:
            if not self._is_open:
                self._pipeline.open()
                self._is_open = True
                if self._config.device == "cpu":
                    limit_memory(self._config.item_memory_bytes + COMPANY_BYTES)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._timer.rest()

    def _step(self) -> None:
        self._steps += 1

    def _entering(self, stage: str) -> None:
        self._step()
        if stage == WAIT:  # the thread that has the models is the one to be watched
            self._timer.rest()
        else:
            self._timer.step(COMMIT_S if stage == COMMIT else allowed_s(stage, self._config))


SHARDS_AT_ONCE = 2  # one whose images are worked on, one whose images are fetched or whose rows are written
ShardActor = ray.remote(max_concurrency=SHARDS_AT_ONCE + 1)(ShardWorker)  # one thread answers `steps`
