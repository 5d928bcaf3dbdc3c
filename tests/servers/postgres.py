"""How does a test get a real PostgreSQL server? Debian's binaries on a scratch folder, a password for everyone."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.servers.require import require_program

INSTALL = "apt-get install -y --no-install-recommends postgresql"
START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server with one superuser; its databases are gone when it stops."""

    port: int
    user: str
    password: str
    socket_folder: Path

    def url(self, database: str, *, password: str | None = None) -> str:
        """The URL of a database over TCP."""
        return f"postgresql://{self.user}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """The name of a new, empty database."""
        name = f"winnow_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server (about three seconds), stop it at the end."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="winnow-pg-"))  # short: it holds a unix socket, whose path is limited
    server = PostgresServer(_free_port(), "winnow", secrets.token_hex(8), folder)
    try:
        with _running(binaries, folder, server):
            yield server
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _running(binaries: Path, folder: Path, server: PostgresServer) -> Iterator[None]:
    data, password, log = folder / "data", folder / "password", folder / "log"
    password.write_text(server.password)
    log.touch()
    user = _unprivileged()
    if user is not None:
        for path in (folder, password, log):
            os.chown(path, user.pw_uid, user.pw_gid)
    ids: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    initdb: list[str | Path] = [
        binaries / "initdb",
        "--pgdata",
        data,
        "--username",
        server.user,
        "--pwfile",
        password,
        "--no-sync",
    ]
    authentication = ["--auth", "scram-sha-256", "--encoding", "UTF8"]
    subprocess.run([*initdb, *authentication], check=True, capture_output=True, cwd=folder, env=environment, **ids)
    settings = {
        "port": server.port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": folder,
        "fsync": "off",
        "shared_buffers": "16MB",
    }
    options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
    with log.open("ab") as out:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options], stdout=out, stderr=out, cwd=folder, env=environment, **ids
        )
    try:
        _wait(server, process, log)
        yield
    finally:
        process.send_signal(signal.SIGQUIT)  # at once: nothing of it is kept
        process.wait(timeout=30)


def _binaries() -> Path:
    """The folder with initdb and postgres: Debian keeps it out of PATH."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return packaged[-1].parent if packaged else Path(require_program("initdb", INSTALL)).parent


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as where we are root, which it refuses to be."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _wait(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from error
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
