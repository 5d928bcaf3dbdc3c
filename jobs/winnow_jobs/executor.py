"""How do shards reach actors? The driver of Ray: start or join a cluster, keep actors busy, replace the dead."""

import logging
import os
import signal
import stat
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayActorError, RayTaskError

from winnow_jobs.spec import ActorRange, ExecutionSpec
from winnow_storage.errors import RayError, RunFailed, WinnowError
from winnow_storage.shards import Receipt
from winnow_workers.actor import ShardActor
from winnow_workers.pipeline import WorkerConfig

SHARD_ATTEMPTS = 3  # a shard whose actor died that often stops the run
POLL_S = 0.5  # how soon an interrupt is noticed while actors work
MEMORY_PER_ACTOR = 2 * 2**30  # bytes: torch, an OCR engine and a chunk of pixels


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the actors of a run go."""

    actors: int
    device: str
    threads: int  # of torch and of the decoder, in each actor


class Cluster:
    """A Ray cluster for the time of one run: the one at RAY_ADDRESS, or one of this machine's own."""

    def __init__(self, *, debug: bool = False) -> None:
        self.debug = debug

    def __enter__(self) -> Self:
        options: dict[str, Any] = {
            "log_to_driver": self.debug,
            "logging_level": logging.ERROR,
            "configure_logging": False,
        }
        address = os.environ.get("RAY_ADDRESS")
        logging.getLogger("ray").setLevel(logging.DEBUG if self.debug else logging.ERROR)
        # Ray would otherwise send anonymous usage figures over the network
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if address is None:
            options |= {
                "address": "local",
                "include_dashboard": False,
                "_node_ip_address": "127.0.0.1",
                "object_store_memory": 128 * 2**20,  # only keys and receipts cross Ray
                "_temp_dir": str(Path(tempfile.gettempdir()) / f"winnow-ray-{os.getuid()}"),
            }
        else:
            options["address"] = address
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
            raise RayError(
                f"{where} could not be started or reached: {str(error).splitlines()[0] if str(error) else error!r}",
                hint="check RAY_ADDRESS, or unset it to run on this machine" if address else "see winnow doctor SPEC",
            ) from error
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray put its own in place, which ends the process at once
        _protect_token()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ray.shutdown()

    def placement(self, spec: ExecutionSpec, shards: int) -> Placement:
        """How many actors, where, with how many threads.

        Raises:
            RayError: the spec asks for CUDA and no node has a GPU.
        """
        resources = ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        if spec.device == "cuda" and gpus == 0:
            raise RayError("run.device is cuda, but the Ray cluster has no GPU", hint="set run.device: auto or cpu")
        device = "cuda" if gpus and spec.device != "cpu" else "cpu"
        fitting = gpus if device == "cuda" else max(1, min(cpus, int(resources.get("memory", 0) // MEMORY_PER_ACTOR)))
        actors = fitting
        if isinstance(spec.actors, int):
            actors = spec.actors
        elif isinstance(spec.actors, ActorRange):
            actors = min(max(fitting, spec.actors.min), spec.actors.max)
        # an actor beyond what the cluster has would be waited for forever
        actors = max(1, min(actors, shards, gpus if device == "cuda" else cpus))
        return Placement(actors, device, max(1, cpus // actors))


class ShardExecutor:
    """The actors of one run, each working on one shard at a time."""

    def __init__(self, config: WorkerConfig, placement: Placement) -> None:
        self._config = replace(config, device=placement.device, threads=placement.threads)
        self._placement = placement
        self._actors: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for actor in self._actors:
            ray.kill(actor, no_restart=True)
        self._actors.clear()

    def open(self) -> None:
        """Start the actors and load their models.

        Raises:
            ModelError: a model does not load.
            RayError: an actor does not start.
        """
        self._actors = [self._start() for _ in range(self._placement.actors)]
        opening = [actor.open.remote() for actor in self._actors]
        while opening:
            ready, opening = ray.wait(opening, num_returns=1, timeout=POLL_S)
            for reference in ready:
                self._outcome(reference, "an actor died while it loaded its models")

    def run(self, shards: Sequence[int]) -> Iterator[Receipt]:
        """The receipt of every shard, as they are committed, in no order.

        Raises:
            RunFailed: a shard's actor died again and again.
            WinnowError: whatever of ours an actor raised.
        """
        waiting = deque(shards)
        attempts: dict[int, int] = {}
        busy: dict[Any, tuple[int, int]] = {}  # reference -> (actor's place, shard)
        for place in range(len(self._actors)):
            self._next(place, waiting, busy)
        while busy:
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=POLL_S)
            for reference in ready:
                place, shard = busy.pop(reference)
                try:
                    receipt = self._outcome(reference, None)
                except RayActorError as error:
                    attempts[shard] = attempts.get(shard, 0) + 1
                    self._replace(place, shard, attempts[shard], error)
                    waiting.appendleft(shard)
                else:
                    yield receipt
                self._next(place, waiting, busy)

    def _next(self, place: int, waiting: deque[int], busy: dict[Any, tuple[int, int]]) -> None:
        if waiting:
            shard = waiting.popleft()
            busy[self._actors[place].run_shard.remote(shard)] = (place, shard)

    def _replace(self, place: int, shard: int, attempt: int, error: RayActorError) -> None:
        if attempt >= SHARD_ATTEMPTS:
            raise RunFailed(
                f"the process that works on shard {shard} died {attempt} times ({_first_line(error)})",
                hint="look for memory or for an image that crashes its decoder; what was committed stays committed",
            ) from error
        self._actors[place] = self._start()
        self._outcome(self._actors[place].open.remote(), "a replaced actor died while it loaded its models")

    def _start(self) -> Any:
        share = {"num_gpus": 1.0} if self._placement.device == "cuda" else {"num_cpus": 1.0}
        return ShardActor.options(**share).remote(self._config)

    @staticmethod
    def _outcome(reference: Any, died: str | None) -> Any:
        try:
            return ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, WinnowError):
                raise error.cause from None
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise RunFailed(
                f"an actor failed: {type(cause).__name__}: {_first_line(cause)}",
                hint="what was committed stays; this is a defect: run again with --debug and report what it prints",
            ) from error
        except RayActorError as error:
            if died is None:
                raise
            raise RayError(f"{died}: {_first_line(error)}", hint="see winnow doctor SPEC; free memory helps") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _protect_token() -> None:
    # Ray writes its access token readable by everyone on the machine
    token = Path.home() / ".ray" / "auth_token"
    if token.exists() and stat.S_IMODE(token.stat().st_mode) != 0o600:
        token.chmod(0o600)
