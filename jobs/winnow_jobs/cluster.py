"""Which Ray does a run use, and how many actors fit there? The cluster at RAY_ADDRESS, or one of this machine's own."""

import contextlib
import logging
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray

from winnow_jobs.lean_ray import lean
from winnow_jobs.spec import ActorRange, ExecutionSpec
from winnow_storage.errors import RayError

MEMORY_PER_ACTOR = 2 * 2**30  # bytes: torch, an OCR engine and a chunk of pixels


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the actors of a run go."""

    actors: int
    device: str
    threads: int  # of torch and of the decoder, in each actor
    least: int | None = None  # actors that are promised while there is work for them; None: all of them
    most: int | None = None  # if the cluster has room for more; None: no more


class Cluster:
    """A Ray cluster for the time of one run: the one at RAY_ADDRESS, or one of this machine's own."""

    def __init__(self, *, debug: bool = False) -> None:
        self.debug = debug
        self._undo = contextlib.ExitStack()
        self._may_grow = "RAY_ADDRESS" in os.environ

    def __enter__(self) -> Self:
        # Ray prints what its raylet says to stdout, where our record belongs; there is no setting against it
        aside = sys.stderr if self.debug else self._undo.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        self._undo.enter_context(contextlib.redirect_stdout(aside))
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
            with lean(logs=self.debug) if address is None else contextlib.nullcontext():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
            self._undo.close()
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
        self._undo.close()

    def placement(self, spec: ExecutionSpec, shards: int) -> Placement:
        """How many actors, where, with how many threads.

        Raises:
            RayError: as `place`.
        """
        return place(spec, shards, ray.cluster_resources(), may_grow=self._may_grow)


def place(spec: ExecutionSpec, shards: int, resources: Mapping[str, float], *, may_grow: bool) -> Placement:
    """Where the actors of a run over so many shards go, in a cluster that has these resources now.

    Actors that are asked for and have no place yet are what a cluster that `may_grow` adds nodes for.

    Raises:
        RayError: the spec asks for CUDA and no node has a GPU.
    """
    cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
    if spec.device == "cuda" and gpus == 0:
        raise RayError(
            "run.device is cuda, but the Ray cluster has no GPU",
            hint="set run.device: auto or cpu; a cluster that adds nodes needs one with a GPU before the run begins",
        )
    device = "cuda" if gpus and spec.device != "cpu" else "cpu"
    fitting = gpus if device == "cuda" else max(1, min(cpus, int(resources.get("memory", 0) // MEMORY_PER_ACTOR)))
    low, high = 1, shards
    if isinstance(spec.actors, ActorRange):
        low, high = spec.actors.min, spec.actors.max
    elif isinstance(spec.actors, int):
        low = high = spec.actors
    # beyond what is there now an actor only waits; on this machine it would do so for ever
    actors = max(1, min(max(fitting, low), high, shards, gpus if device == "cuda" else cpus))
    least = min(low, shards if may_grow else actors)
    return Placement(actors, device, max(1, cpus // actors), least, high)


def room_for(device: str, held: int) -> int:
    """How many actors more the cluster has a place for now, beside those that are held."""
    free = ray.available_resources()
    if device == "cuda":
        return int(free.get("GPU", 0))
    return min(int(free.get("CPU", 0)), int(ray.cluster_resources().get("memory", 0) // MEMORY_PER_ACTOR) - held)


def living_nodes() -> set[str]:
    """The ids of the nodes that live.

    Raises:
        RayError: there is none.
    """
    alive = {str(node["NodeID"]) for node in ray.nodes() if node["Alive"]}
    if not alive:
        raise RayError(
            "the Ray cluster has no node left (its raylet was killed, or the machine went away)",
            hint="what was committed stays; the same command starts or joins a cluster again and goes on",
        )
    return alive


def _protect_token() -> None:
    # Ray writes its access token readable by everyone on the machine
    token = Path.home() / ".ray" / "auth_token"
    if token.exists() and stat.S_IMODE(token.stat().st_mode) != 0o600:
        token.chmod(0o600)
