"""What of Ray does this machine's own cluster do without? Whatever nobody here asks: it would be waited for.

`ray.init` starts a dashboard's server, an autoscaler's monitor and a reader of logs even where none is wanted, waits
until the first is up and, at the end, until all have gone: 2.5 s of 10 on two cores. Its raylet starts two agents, one
for metrics and one for environments of tasks, and starts no worker before both have told their ports: half a second,
and a second of the processors while actors import. None of it can be turned off by a setting, hence the stand-ins for
methods of Ray's own; one that a version of Ray lacks is left out.
"""

import contextlib
import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ray._private import node, services, state

from winnow_workers.allocator import ENVIRON as ALLOCATOR

POLL_S = 0.02
START_S = 30.0  # as Ray's own
AGENTS = ("--dashboard_agent_command", "--runtime_env_agent_command")
PORTS = ("--metrics-agent-port", "--metrics_export_port", "--dashboard_agent_listen_port", "--runtime_env_agent_port")
IDLE = 'sh -c "exec cat"'  # whatever the raylet adds; it reads from the raylet, and so ends with it
NO_PORT = "1"  # below 1024: no process of a user's listens there
# What its processes read. A raylet whose object store is not there yet asks again after a second, and starts no worker
# before there is a job, which the driver is then kept waiting for.
ENVIRON = {
    "RAY_raylet_client_connect_timeout_milliseconds": "20",
    "RAY_raylet_client_num_connect_attempts": "500",
    "RAY_enable_worker_prestart": "1",
    "RAY_enable_metrics_collection": "0",  # there is no agent to take them
    **ALLOCATOR,
}


@contextlib.contextmanager
def lean(*, logs: bool) -> Iterator[None]:
    """What `ray.init` starts in here is no more than work needs; `logs` are read all the same if they are wanted."""
    stand_ins = [(node.Node, "start_api_server", _nothing), (node.Node, "start_monitor", _nothing)]
    if not logs:
        stand_ins.append((node.Node, "start_log_monitor", _nothing))
    if shutil.which("sh") and hasattr(services, "start_ray_process"):
        start = functools.partial(_start_without_agents, services.start_ray_process)
        stand_ins.append((services, "start_ray_process", start))
    with contextlib.ExitStack() as undo:
        for owner, name, stand_in in [*stand_ins, (services, "get_node", _get_node)]:
            if hasattr(owner, name):
                undo.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, stand_in)
        for name, value in ENVIRON.items():
            if name not in os.environ:
                undo.callback(os.environ.pop, name, None)
                os.environ[name] = value
        yield


def _nothing(*_: object, **__: object) -> None:
    return


def _start_without_agents(start: Callable[..., Any], command: Sequence[str], *rest: Any, **more: Any) -> Any:
    """As Ray's, but a raylet, which wants agents to watch, has two idle processes, and their ports from the beginning.

    Nobody listens at those.
    """
    if any(word.startswith("--raylet_socket_name=") for word in command):
        told = dict.fromkeys(AGENTS, IDLE) | dict.fromkeys(PORTS, NO_PORT)
        kept = [word for word in command if word.partition("=")[0] not in told]
        command = [*kept, *(f"{name}={value}" for name, value in told.items())]
    return start(command, *rest, **more)


def _get_node(gcs_address: str, node_id: str) -> Any:
    """As Ray's, which looks once a second whether a node has registered."""
    looked = state.GlobalState()
    looked._initialize_global_state(services._get_gcs_client_options(gcs_address))  # noqa: SLF001
    deadline_s = time.monotonic() + START_S
    while not any(one["NodeID"] == node_id for one in looked.node_table()) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    return looked.get_node(node_id)
