"""What do the runs of one process share? A Ray cluster, and actors that stay warm from one run to the next."""

import contextlib
import gc
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from winnow_workers.garbage import not_looked_for
from winnow_workers.pipeline import WorkerConfig

if TYPE_CHECKING:
    from winnow_jobs.cluster import Cluster

Done = TypeVar("Done")


def key_of(config: WorkerConfig) -> str:
    """Equal for runs whose actors hold the same: tasks with their models' digests, device, threads, limits of memory.

    What a run wants beside that (its shards, its output, its limits on requests) an actor turns to without loading.
    """
    return repr((config.tasks, config.device, config.threads, config.item_memory_bytes, config.code_version))


def _is_joined() -> bool:
    return "RAY_ADDRESS" in os.environ


class Engine:
    """Give it to one run after the other; what they start ends with it, not with them.

    Actors without work are kept for the next run, if that has the same tasks, and end when one with others begins.
    """

    def __init__(self, *, debug: bool = False, is_shared: bool = True) -> None:
        """One that is not shared keeps no actors: it is of one run."""
        self.is_shared = is_shared
        self._debug = debug
        # Ray is started and ended by one thread, which lives as long: the system ends the processes that a thread
        # started when that thread ends (PR_SET_PDEATHSIG)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="winnow-ray")
        self._cluster: Future[Cluster] | None = None
        self._undo = contextlib.ExitStack()
        self._key = ""
        self._actors: list[tuple[Any, str]] = []  # with their names

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()
        self._thread.shutdown()

    def begin(self) -> None:
        """Start a cluster of this machine's own meanwhile: it will be asked for; `cluster` says what goes wrong."""
        if not _is_joined():
            self._begun()

    def cluster(self) -> "Cluster":
        """Started, or joined, when a run asks first.

        Raises:
            RayError: it does not start, or cannot be reached.
        """
        return self._begun().result()

    def end(self) -> None:
        """The cluster is not needed any more; whoever leaves the engine waits until it has ended."""
        self._actors.clear()
        if self._cluster is not None:
            self._cluster = None
            # what is of Ray and held by garbage (errors of calls, with their frames) goes before Ray does: let go of
            # while that thread ends Ray, it would end the process
            gc.collect()
            self._in_turn(self._undo.close)

    def _begun(self) -> "Future[Cluster]":
        if self._cluster is None:
            self._cluster = self._in_turn(self._start)
        return self._cluster

    def _in_turn(self, call: Callable[[], Done]) -> "Future[Done]":
        if not _is_joined():
            return self._thread.submit(call)
        # at once: one that does not answer is waited for minutes, and nobody could be interrupted while a thread waits
        done: Future[Done] = Future()
        done.set_result(call())
        return done

    def _start(self) -> "Cluster":
        with not_looked_for():
            from winnow_jobs.cluster import Cluster  # Ray costs a second to import

            return self._undo.enter_context(Cluster(debug=self._debug))

    def keep(self, config: WorkerConfig, actor: Any, name: str) -> None:
        """An actor of a run with this configuration has nothing left to do."""
        self._key = key_of(config)
        self._actors.append((actor, name))

    def take(self, config: WorkerConfig) -> tuple[Any, str] | None:
        """A warm actor that can turn to a run with this configuration, and its name."""
        return self._actors.pop() if self._actors and self._key == key_of(config) else None

    def strangers(self, config: WorkerConfig) -> list[Any]:
        """The actors that are of no use to a run with this configuration; they are kept no more."""
        if self._key == key_of(config):
            return []
        strangers = [actor for actor, _ in self._actors]
        self._actors.clear()
        return strangers
