"""What answers a driver at once? Actors without a pipeline, real ones for Ray and simulated ones without it."""

import time
from collections.abc import Sequence
from typing import Any

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

    def sleep(self) -> None:
        """No answer while the benchmark lasts."""
        time.sleep(3600.0)

    def steps(self) -> int:
        """As if it never moved: nobody asks twice in so short a time."""
        return 0


class SimulatedActor:
    """`Idle` behind the handle that Ray would give; a call's reference is its answer."""

    def __init__(self) -> None:
        self._idle = Idle(None)

    @staticmethod
    def options(**_: float) -> "type[SimulatedActor]":
        """As of a Ray actor's class."""
        return SimulatedActor

    @staticmethod
    def remote(_config: object, _name: str) -> "SimulatedActor":
        """A new one."""
        return SimulatedActor()

    def __getattr__(self, name: str) -> "_Method":
        return _Method(getattr(self._idle, name))


class _Method:
    def __init__(self, call: Any) -> None:
        self._call = call

    def remote(self, *arguments: object) -> "_Reference":
        return _Reference(self._call(*arguments))


class _Reference:
    """Hashed and compared by identity, as a reference is."""

    def __init__(self, answer: object) -> None:
        self.answer = answer


class IdleRay:
    """The part of Ray's interface that the executor uses: whatever was asked first is answered first."""

    @staticmethod
    def wait(
        references: Sequence[_Reference], *, num_returns: int = 1, timeout: float
    ) -> tuple[list[_Reference], list[_Reference]]:
        """The first is ready, however many are asked for."""
        del num_returns, timeout
        return [references[0]], list(references[1:])

    @staticmethod
    def get(reference: _Reference) -> object:
        """Its answer."""
        return reference.answer

    @staticmethod
    def kill(actor: object, *, no_restart: bool) -> None:
        """Nothing runs."""
