"""How does a test get a real S3 server? A Ceph monitor, an object daemon in memory, a RADOS gateway."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.require import require_program

INSTALL = "apt-get install -y --no-install-recommends ceph-mon ceph-osd radosgw ceph-common"
OSD_PORTS = 24  # an object daemon binds eight: four messengers, two protocols each
START_TIMEOUT_S = 60.0

# Four settings are not what they seem: without `ms_mon_client_mode = crc` the gateway asks for secure mode and loops on
# -13 when authentication is off; the two paxos intervals take the first start from 17 s to 2 s; without `tcp_nodelay`
# a small GET takes 44 ms (Nagle against delayed acknowledgement).
CONFIG = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_port_min = {osd_first}
ms_bind_port_max = {osd_last}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 2
osd_pool_default_pgp_num = 2
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
run_dir = {folder}
admin_socket = {folder}/$name.asok
pid_file = {folder}/$name.pid
log_file = {folder}/$name.log
crash_dir = {folder}
[mon]
mon_data = {folder}/mon
[osd]
osd_data = {folder}/osd
osd_objectstore = memstore
osd_class_update_on_start = false
memstore_device_bytes = 4294967296
[client.rgw.a]
rgw_data = {folder}/rgw
rgw_frontends = beast endpoint=127.0.0.1:{rgw_port} tcp_nodelay=1
rgw_dns_name = localhost
rgw_thread_pool_size = 64
debug_rgw = 0/0
rgw_enable_usage_log = false
"""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server; its objects are gone when it stops."""

    endpoint_url: str
    access_key: str
    secret_key: str
    config: Path

    def admin(self, *arguments: str) -> str:
        """Run radosgw-admin: users, quotas."""
        return _call("radosgw-admin", "-c", str(self.config), "--name", "client.rgw.a", *arguments)


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server in a scratch folder (about two seconds), stop every process of it at the end."""
    for program in ("ceph-mon", "ceph-osd", "radosgw", "ceph", "monmaptool", "radosgw-admin"):
        require_program(program, INSTALL)
    folder = Path(tempfile.mkdtemp(prefix="winnow-s3-"))  # short: it holds unix sockets, whose paths are limited
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield _start(folder, stack)


def _start(folder: Path, stack: contextlib.ExitStack) -> S3Server:
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    config, fsid = folder / "ceph.conf", str(uuid.uuid4())
    mon_v2 = _free_range(3 + OSD_PORTS)
    mon_v1, rgw_port, osd_first = mon_v2 + 1, mon_v2 + 2, mon_v2 + 3
    config.write_text(
        CONFIG.format(
            fsid=fsid,
            folder=folder,
            mon_v2=mon_v2,
            mon_v1=mon_v1,
            rgw_port=rgw_port,
            osd_first=osd_first,
            osd_last=osd_first + OSD_PORTS - 1,
        )
    )
    settings = ("-c", str(config))
    monitors = f"[v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]"
    monmap = str(folder / "monmap")
    _call("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", monitors, monmap)
    _call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--mon-data", str(folder / "mon"), *settings)
    _spawn(folder, stack, "ceph-mon", "-f", "-i", "a", *settings)
    osd_uuid = str(uuid.uuid4())
    _call("ceph", *settings, "--connect-timeout", "30", "osd", "new", osd_uuid, "0")
    _call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid, *settings)
    _spawn(folder, stack, "ceph-osd", "-f", "-i", "0", *settings)
    _call("ceph", *settings, "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
    _wait_for("the object daemon", lambda: "1 up" in _call("ceph", *settings, "osd", "stat"))
    _spawn(folder, stack, "radosgw", "-f", "--name", "client.rgw.a", *settings, patient=False)
    endpoint_url = f"http://127.0.0.1:{rgw_port}"
    _wait_for("the gateway", lambda: _answers(endpoint_url))
    server = S3Server(endpoint_url, "winnow-test", secrets.token_hex(16), config)
    keys = (f"--access-key={server.access_key}", f"--secret-key={server.secret_key}")
    server.admin("user", "create", "--uid=winnow", "--display-name=winnow", *keys)
    return server


def _spawn(
    folder: Path, stack: contextlib.ExitStack, program: str, *arguments: str, patient: bool = True
) -> subprocess.Popen[bytes]:
    with (folder / f"{program}.out").open("wb") as out:
        process = subprocess.Popen([require_program(program, INSTALL), *arguments], stdout=out, stderr=out)
    stack.callback(_stop, process, patient=patient)
    return process


def _stop(process: subprocess.Popen[bytes], *, patient: bool) -> None:
    if patient:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    process.kill()  # the gateway keeps no state and takes seconds to hear a TERM
    process.wait()


def _call(program: str, *arguments: str) -> str:
    result = subprocess.run(
        [require_program(program, INSTALL), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if result.returncode != 0:
        raise RuntimeError(f"{program} {' '.join(arguments)} ended with {result.returncode}: {result.stderr[-2000:]}")
    return result.stdout


def _wait_for(what: str, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} of the S3 server did not start within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


def _free_range(count: int) -> int:
    """The first of `count` neighbouring free ports below the range that the kernel hands out for connections."""
    for _ in range(100):
        first = 12000 + secrets.randbelow(19000)
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
            try:
                for offset, each in enumerate(sockets):
                    each.bind(("127.0.0.1", first + offset))
            except OSError:
                continue
            return first
    raise RuntimeError(f"no {count} neighbouring free ports on 127.0.0.1")
