"""What answers a driver at once? Real Ray actors without a pipeline, each in a process or many places in a few."""

from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar

import ray

from winnow_storage.shards import Receipt
from winnow_workers.actor import Opened

ITEMS = 2048


def receipt_of(shard: int) -> Receipt:
    """A receipt of the usual size: two tasks, all items done."""
    return Receipt(
        run_id="0001",
        shard=shard,
        job="driver",
        plan_digest="0" * 64,
        items_digest="0" * 64,
        code_version="0",
        attempt="0" * 32,
        outcomes={"done": ITEMS},
        predictions={"kind": ITEMS, "vector": ITEMS},
        errors={},
        models={"kind": "0" * 64, "vector": "1" * 64},
        bytes=ITEMS * 120_000,
        seconds={"fetch_decode": 1.0, "kind": 1.0, "vector": 1.0, "encode": 0.1},
    )


class Idle:
    """As the shard actor, without work."""

    def __init__(self, config: object, name: str = "") -> None:
        """What the real one is given."""

    def open(self) -> Opened:
        """No model is loaded; the id of a node."""
        return Opened("node", ())

    def run_shard(self, shard: int) -> Receipt:
        """The receipt at once."""
        return receipt_of(shard)

    def steps(self) -> int:
        """As if it never moved: nobody asks twice in so short a time."""
        return 0


class SharedActor:
    """One of many places that share a few real actors: the calls of a whole cluster, answered by few processes."""

    processes: ClassVar[list[Any]] = []
    _made: ClassVar[Iterator[int]] = count()

    @staticmethod
    def options(**_: float) -> "type[SharedActor]":
        """As of a Ray actor's class; the share that is asked for is left out."""
        return SharedActor

    @staticmethod
    def remote(_config: object, _name: str) -> Any:
        """The next one's handle."""
        return SharedActor.processes[next(SharedActor._made) % len(SharedActor.processes)]


class RayWithoutEnd:
    """Ray, but that an actor which one place has no use for is not ended: others share it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    @staticmethod
    def kill(actor: object, *, no_restart: bool) -> None:
        """It lives."""
        del actor, no_restart
