"""How does a ledger fail in the middle of a run? Its file removed or locked, its server stopped and started again."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.servers.postgres import PostgresServer

HOLD_S = 2.0  # how long a lock, or an absence, lasts
PASSWORD = "WINNOW_FAULTS_PASSWORD"  # the variable that a spec takes the password from


class FileLedger:
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self.environ: dict[str, str] = {}
        self._path = path
        self._held: sqlite3.Connection | None = None
        self._until = 0.0

    def remove(self) -> None:
        """Take the file away, with what SQLite keeps beside it."""
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink(missing_ok=True)

    def lock(self) -> None:
        """Keep every writer waiting for a while."""
        if self._held is None:
            self._held = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            self._held.execute("BEGIN IMMEDIATE")
        self._until = time.monotonic() + HOLD_S

    def mend(self, *, now: bool = False) -> None:
        """Let writers go on, if the while is over."""
        if self._held is not None and (now or time.monotonic() > self._until):
            self._held.close()
            self._held = None

    def close(self) -> None:
        """Let go of it."""
        self.mend(now=True)


class ServerLedger:
    """A database of a PostgreSQL server."""

    def __init__(self, server: PostgresServer) -> None:
        database = server.create_database()
        self.url = f"postgresql://{server.user}:${{{PASSWORD}}}@127.0.0.1:{server.port}/{database}"
        self.environ = {PASSWORD: server.password}
        self._pid_file = server.socket_folder / "data/postmaster.pid"
        self._again: Callable[[], subprocess.Popen[bytes]] | None = None
        self._until = 0.0
        self._started: list[subprocess.Popen[bytes]] = []

    def stop(self) -> None:
        """Stop the server at once, as a crash would, for a while."""
        if self._again is None:
            pid = int(self._pid_file.read_text().splitlines()[0])
            self._again = _restart(pid)
            os.kill(pid, signal.SIGQUIT)
            _wait(lambda: not self._pid_file.exists())
        self._until = time.monotonic() + HOLD_S

    def mend(self, *, now: bool = False) -> None:
        """Start it again, if the while is over."""
        if self._again is not None and (now or time.monotonic() > self._until):
            self._started.append(self._again())
            self._again = None
            _wait(self._pid_file.exists)

    def close(self) -> None:
        """Stop what was started here."""
        for process in self._started:
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=30)


Ledger = FileLedger | ServerLedger


def _restart(pid: int) -> Callable[[], subprocess.Popen[bytes]]:
    """How to start a server again as it was started."""
    place = Path(f"/proc/{pid}")
    command = place.joinpath("cmdline").read_text().rstrip("\0").split("\0")
    environ = dict(entry.split("=", 1) for entry in place.joinpath("environ").read_text().split("\0") if "=" in entry)
    owner = place.stat()
    same_user = owner.st_uid == os.geteuid()

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=environ,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **({} if same_user else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}),
        )

    return start


def _wait(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"the ledger's server: not within {deadline_s:.0f} s")
        with contextlib.suppress(ChildProcessError):
            time.sleep(0.02)
