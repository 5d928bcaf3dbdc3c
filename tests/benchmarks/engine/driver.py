"""What does the driver spend on a shard, beside a bare actor call? The executor as it is, over actors that do nothing.

Two ways, both with real calls of Ray, journal (SQLite) and tally: with as many actors as the machine bears, each in a
process; and with as many as a cluster has, two calls of each under way, which a few processes answer. CPU time is that
of the driver's process, Ray's threads in it included. Prints one JSON line per point.

    python -m tests.benchmarks.engine.driver --shards 100000 --simulated 500
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import ray

from tests.benchmarks.engine.idle_actors import Idle, RayWithoutEnd, SharedActor
from tests.benchmarks.engine.line import say
from winnow_jobs import executor
from winnow_jobs.attempts import LedgerJournal
from winnow_jobs.cluster import Cluster, Placement
from winnow_jobs.events import silent
from winnow_jobs.executor import ShardExecutor
from winnow_jobs.run import Tally
from winnow_storage.ledger import open_ledger
from winnow_workers.actor import SHARDS_AT_ONCE
from winnow_workers.decode import DecodeLimits
from winnow_workers.pipeline import WorkerConfig

CALLS = 2000
TARGET = 3.0


def shard_cpu_s(shards: int, actors: int) -> float:
    """CPU seconds that this process spends on one shard, from giving it out to counting its receipt."""
    config = WorkerConfig(
        job="driver",
        run_id="0001",
        plan_digest="0" * 64,
        output="file:///nowhere",
        work=(),
        code_version="0",
        tasks=(),
        limits=DecodeLimits(),
    )
    placement = Placement(actors, "cpu", 1)
    tally = Tally()
    with tempfile.TemporaryDirectory() as scratch, open_ledger(f"sqlite:///{scratch}/ledger.db") as ledger:
        journal = LedgerJournal(ledger, config.output, config.run_id, silent)
        with ShardExecutor(config, placement, shard_deadline_s=1800.0, journal=journal, say=_ignore) as driven:
            receipts = driven.run(range(shards), journal.past())
            tally.add(next(receipts), now=True)  # with it the actors' start is over, which is no cost of a shard
            start = time.process_time()
            for receipt in receipts:
                tally.add(receipt, now=True)
            spent_s = time.process_time() - start
        journal.close()
    if tally.shards != shards:
        raise SystemExit(f"{tally.shards} of {shards} shards came back")
    return spent_s / (shards - 1)


def call_cpu_s(calls: int) -> float:
    """CPU seconds that this process spends on one call of an actor and its answer."""
    actor: Any = ray.remote(Idle).options(num_cpus=0).remote(None)
    ray.get(actor.run_shard.remote(0))
    start = time.process_time()
    for number in range(calls):
        ray.get(actor.run_shard.remote(number))
    spent_s = time.process_time() - start
    ray.kill(actor)
    return spent_s / calls


@contextlib.contextmanager
def instead(**names: object) -> Iterator[None]:
    """Other things under these names in the executor's module."""
    before = {name: getattr(executor, name) for name in names}
    for name, value in names.items():
        setattr(executor, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(executor, name, value)


class RealActor:
    """Real Ray actors that ask for no CPU, where the executor asks for one."""

    @staticmethod
    def options(**_: float) -> Any:
        """What the executor makes its actors with; the share that it asks for is left out."""
        return ray.remote(max_concurrency=3)(Idle).options(num_cpus=0)


def _ignore(_: str) -> None:
    return


def measure(shards: int, actors: int, simulated: int, repeats: int) -> None:
    """Both ways, by turns."""
    real, many, spent = [], [], []
    for _ in range(repeats):
        with Cluster():
            call_s = call_cpu_s(CALLS)
            with instead(ShardActor=RealActor):
                real_s = shard_cpu_s(min(shards, CALLS), actors)
            shared = ray.remote(max_concurrency=3)(Idle).options(num_cpus=0)
            SharedActor.processes = [shared.remote(None) for _ in range(actors)]
            with instead(ShardActor=SharedActor, ray=RayWithoutEnd()):
                many_s = shard_cpu_s(shards, simulated)
        real.append(real_s / call_s)
        many.append(many_s / call_s)
        spent.append([round(one * 1e6) for one in (call_s, real_s, many_s)])
    say(
        "7, driver: CPU of a shard / of a bare actor call",
        real,
        at_most=TARGET,
        setup=f"{min(shards, CALLS)} shards, {actors} actors that answer at once, SQLite journal",
        cpu_us_of_call_and_shards=spent,
    )
    say(
        "7, driver: CPU of a shard / of a bare actor call, simulated actors",
        many,
        at_most=TARGET,
        setup=f"{shards} shards, {simulated} actors in {actors} processes, {simulated * SHARDS_AT_ONCE} calls at once, "
        "SQLite journal",
        cpu_us_of_call_and_shards=spent,
    )


def main() -> int:
    """Measure; 0 whether it holds or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=2000)
    parser.add_argument("--actors", type=int, default=4, help="real ones: a process each")
    parser.add_argument("--simulated", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    measure(options.shards, options.actors, options.simulated, options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
