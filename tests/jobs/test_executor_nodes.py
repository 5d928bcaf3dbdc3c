"""What becomes of the shards of a node that is lost? Others work on them again, and nobody is accused."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.jobs.test_executor import ROOT, NoJournal, config_over
from winnow_jobs.cluster import Placement
from winnow_jobs.executor import ShardExecutor


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes with a place for an actor on each; this process is a driver on the first."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small, shutdown_at_exit=False)
    try:
        cluster.add_node(**small)
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
