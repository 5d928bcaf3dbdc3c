"""The process that pushes, pulls and listens, over and over, each time as a child that may be killed.

`python -m tests.benchmarks.annotation.studio_worker`: a line of JSON in begins something, a second one kills it or
waits, and a line out says how it ended. A child is forked, since what is imported takes seconds, and it opens ledger,
bucket and connections by itself.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.jobs.consensus.crowd_job import TASK, CrowdJob
from winnow_annotation import outbox
from winnow_annotation.push import push
from winnow_jobs.events import silent
from winnow_jobs.listen import Listening, listen
from winnow_jobs.people import _push_items, client_of, pull_labels
from winnow_storage.ledger import open_ledger

CHUNK = 4  # review tasks of one import: many small ones are killed at more points than one large one
LABELS = ("0", "1")


class Worker:
    """The process whose children are killed."""

    def __init__(self, begun: dict[str, Any], token: str, log: Path) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.annotation.studio_worker"]
        environ = os.environ | {"LABEL_STUDIO_TOKEN": token}
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True
            )
        self.items: list[str] = self._ask(begun)["items"]

    def begin(self, order: dict[str, Any]) -> None:
        """Start a child that does it."""
        self._write(order)

    def kill(self) -> bool:
        """Kill the child; whether it was still at work."""
        return bool(self._ask({"kill": True})["killed"])

    def wait(self) -> int | None:
        """Until the child has ended; its exit code."""
        code: int | None = self._ask({"kill": False})["code"]
        return code

    def close(self) -> None:
        """End it."""
        with self._process:  # closes its pipes, and waits
            pass

    def _write(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        self._write(order)
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


def main() -> None:
    """Until there is no more line."""
    begun = json.loads(sys.stdin.readline())
    folder = Path(begun["folder"])
    even = np.full((begun["items"], len(LABELS)), 0.5)
    place = {"url": begun["url"], "document_root": begun["root"]}
    job = CrowdJob(folder, even, images=folder / "images", name=begun["job"], label_studio=place)
    items = list(_push_items(job.runs, job.plan.run_id))
    outbox.CHUNK = CHUNK
    what: dict[str, Callable[[dict[str, Any]], object]] = {
        "push": lambda order: _push(job, items[: order["count"]], folder),
        "pull": lambda _: pull_labels(job.spec, job.runs, _ledger(folder)),
        "listen": lambda order: _listen(job, order, folder),
    }
    _say({"items": [item.dedupe_key for item in items]})
    while line := sys.stdin.readline():
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(what[order["do"]], order)
        then = sys.stdin.readline()
        if not then or json.loads(then)["kill"]:
            os.kill(pid, signal.SIGKILL)  # nobody has waited for it yet, so the number is still its own
        _, status = os.waitpid(pid, 0)
        _say({"killed": os.WIFSIGNALED(status), "code": None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)})


def _child(act: Callable[[dict[str, Any]], object], order: dict[str, Any]) -> None:
    code = 0
    try:
        act(order)
    except Exception:  # noqa: BLE001  (a command ends with its error too, and the next one goes on)
        code = 4
        sys.stderr.write(f"{order['do']}: {traceback.format_exc(limit=-3)}\n")
        sys.stderr.flush()
    os._exit(code)


def _push(job: CrowdJob, items: list[Any], folder: Path) -> None:
    labels = {TASK: LABELS}
    push(client_of(job.spec), _ledger(folder), items, output=job.runs.store, labels=labels, render=_render)


def _render(uri: str, version: str) -> bytes:
    raise AssertionError(f"{uri} in version {version} opens in a browser")


def _listen(job: CrowdJob, order: dict[str, Any], folder: Path) -> None:
    how = Listening(("127.0.0.1", order["port"]), order["secret"], order["url"], every_s=order["every_s"])
    listen(job.spec, job.runs, _ledger(folder), silent, how=how)


def _ledger(folder: Path) -> Any:
    return open_ledger(f"sqlite:///{folder / 'ledger.sqlite'}")


def _say(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
