"""What does an executor do whose cluster is gone while nothing that it waits for can tell it so?"""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.processes import raylet_of
from tests.jobs.test_executor import config_over, execute
from winnow_jobs import executor as module
from winnow_jobs.cluster import Placement
from winnow_jobs.engine import Engine
from winnow_storage.errors import RayError


def test_run__an_actor_without_a_place_is_not_waited_for_where_no_node_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a driver that was stopped when its raylet was killed, and ends what made no step when it wakes."""
    monkeypatch.setattr(module, "PLACE_S", 1.0)
    with Engine() as engine:
        engine.cluster()
        raylet = raylet_of(os.getpid())
        assert raylet is not None
        os.kill(raylet, signal.SIGKILL)
        with (
            execute(config_over(tmp_path, [0]), Placement(1, "cpu", 1)) as driven,
            pytest.raises(RayError, match="no node left"),
        ):
            list(driven.run(range(1), {}))
