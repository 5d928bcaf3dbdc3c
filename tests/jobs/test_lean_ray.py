"""What runs when a run has a Ray of its own: no more than is asked, from the thread that ends it, and nothing after."""

import contextlib
import os
import signal
import threading
import time

import pytest
import ray
from ray._private import node, services

from tests.faults.processes import command_of, descendants, is_alive
from winnow_jobs import cluster
from winnow_jobs.engine import Engine
from winnow_jobs.lean_ray import ENVIRON, lean
from winnow_jobs.spec import ExecutionSpec

GONE_S = 20.0
UNWANTED = (b"dashboard/dashboard.py", b"monitor.py", b"log_monitor.py", b"agent.py", b"agent/main.py")


def test_engine__starts_and_ends_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = set(descendants(os.getpid()))
    with Engine(is_shared=False) as engine:
        engine.begin()
        engine.begin()
        assert engine.cluster().placement(ExecutionSpec(), 8).actors >= 1
        started = set(descendants(os.getpid())) - before
        commands = {command_of(pid) for pid in started}
        assert any(b"raylet" in command for command in commands)
        assert not [command for command in commands if any(name in command for name in UNWANTED)]
        engine.end()
    assert not ray.is_initialized()
    _await_the_end_of(started)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("winnow-ray")]


def test_engine__whose_raylet_was_killed_leaves_no_idle_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = set(descendants(os.getpid()))
    with Engine(is_shared=False) as engine:
        engine.cluster()
        started = set(descendants(os.getpid())) - before
        idle = {pid for pid in started if command_of(pid).strip(b"\0") == b"cat"}
        assert len(idle) == 2
        for pid in started:
            if b"--raylet_socket_name" in command_of(pid):
                os.kill(pid, signal.SIGKILL)
        _await_the_end_of(idle)


def _await_the_end_of(pids: set[int]) -> None:
    deadline_s = time.monotonic() + GONE_S
    while any(map(is_alive, pids)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert not [command_of(pid) for pid in pids if is_alive(pid)]


def test_engine__that_nobody_asked_starts_nothing() -> None:
    before = set(descendants(os.getpid()))
    with Engine(is_shared=False) as engine:
        engine.end()
    assert set(descendants(os.getpid())) - before == set()


def test_engine__joins_a_cluster_in_the_thread_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_by: list[threading.Thread] = []

    class Joined(contextlib.AbstractContextManager[None]):
        def __init__(self, *, debug: bool) -> None:
            del debug
            asked_by.append(threading.current_thread())

        def __exit__(self, *_: object) -> None:
            asked_by.append(threading.current_thread())

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(cluster, "Cluster", Joined)
    with Engine(is_shared=False) as engine:
        engine.begin()
        assert asked_by == []  # not before it is needed
        engine.cluster()
    assert asked_by == [threading.current_thread()] * 2


def test_lean__leaves_ray_as_it_was() -> None:
    before = _what_lean_replaces()
    with lean(logs=True):
        assert node.Node.start_api_server is not before[0]
        assert node.Node.start_log_monitor is before[1]
        assert services.start_ray_process is not before[3]
        assert ENVIRON.items() <= dict(os.environ).items()
    assert _what_lean_replaces() == before


def _what_lean_replaces() -> tuple[object, ...]:
    return (
        node.Node.start_api_server,
        node.Node.start_log_monitor,
        services.get_node,
        services.start_ray_process,
        dict(os.environ),
    )


def test_lean__does_without_what_another_version_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(node.Node, "start_monitor")
    with lean(logs=False):
        assert not hasattr(node.Node, "start_monitor")
    assert not hasattr(node.Node, "start_monitor")
