"""Nodes that go and come: the shards of a lost one move and accuse nobody, a new one takes the actors that wait."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.jobs.test_executor import ROOT, NoJournal, config_over, execute, opened
from winnow_jobs import executor as module
from winnow_jobs.cluster import Cluster as JoinedCluster
from winnow_jobs.cluster import Placement
from winnow_jobs.executor import ShardExecutor
from winnow_jobs.spec import ActorRange, ExecutionSpec

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes with a place for an actor on each; this process is a driver on the first."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args=SMALL, shutdown_at_exit=False)
    try:
        cluster.add_node(**SMALL)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_run__the_shards_of_a_lost_node_move_and_accuse_nobody(cluster: Cluster, tmp_path: Path) -> None:
    shards = 18
    config = config_over(tmp_path / "a", [10] * shards)
    said: list[str] = []
    (node,) = cluster.worker_nodes
    (raylet,) = node.all_processes["raylet"]
    results = tmp_path / "a/out/runs/0001/results"

    def kill() -> None:
        while len(list(results.glob("*.parquet"))) < 3:
            time.sleep(0.05)
        os.kill(raylet.process.pid, signal.SIGKILL)
        raylet.process.wait()  # as a zombie its actors would take it for alive

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    placement = Placement(2, "cpu", 1)
    with ShardExecutor(config, placement, shard_deadline_s=300.0, journal=NoJournal(), say=said.append) as driven:
        receipts = [receipt.shard for receipt in driven.run(range(shards), {})]
        assert all(past.deaths == 0 for past in driven._past.values()), driven._past
    assert sorted(receipts) == list(range(shards))
    assert any("node lost" in line or "unreachable" in line for line in said), said
    assert not any("died" in line for line in said), said


def test_run__actors_that_are_promised_wait_for_nodes_to_come(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLACE_S", 1.0)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    config = config_over(tmp_path / "a", [5] * 60)
    placement = JoinedCluster().placement(ExecutionSpec(actors=ActorRange(min=3, max=4)), 60)
    with execute(config, placement) as driven:
        receipts = driven.run(range(60), {})
        committed = [next(receipts).shard]
        while len(set(opened(tmp_path))) < 2:
            committed.append(next(receipts).shard)
        assert len(driven._workers) == 3
        cluster.add_node(**SMALL)
        committed += [receipt.shard for receipt in receipts]
    assert sorted(committed) == list(range(60))
    assert len(set(opened(tmp_path))) == 3
