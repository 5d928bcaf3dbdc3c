"""SIGKILL while a shard's put is under way to a real S3 server: nothing lost, nothing doubled, all as without.

A proxy holds the put of a shard's results, before it passes it on or when it is done and not answered yet, and then the
actor or the driver is killed. What was held arrives after all, when the run is closed: as from a machine that was cut
off and comes back. The server must say 412 to it.
"""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from tests.e2e.winnow import WINNOW
from tests.faults.over_s3 import assert_sound, rows, run_in_this_process
from tests.faults.processes import actors_of, end_session, send
from tests.faults.tally import save_numbered
from tests.servers.faulty_s3 import Fault, FaultyS3, Kind, S3Request, faulty_s3
from tests.servers.s3 import S3Server

SEED = 1
ITEMS, SHARD_ITEMS = 64, 4
DEADLINE_S = 120.0
PRECONDITION_FAILED = 412
# no network, so that what is started again and again starts fast
SPEC = """\
name: kills
corpus: {bucket}/corpus/
output: {bucket}/{output}
ledger: sqlite:///{folder}/{output}.db
tasks:
  - {{name: vector, operator: embed, model: builtin/fingerprint}}
run: {{actors: 1, shard_items: {shard_items}}}
"""


@dataclass(frozen=True, slots=True)
class Blow:
    """Who is killed while which kind of stall holds a put, after `puts` more puts of results have passed."""

    victim: str
    kind: Kind
    puts: int


class Holding:
    """A proxy's plan: lets puts of results pass, and holds the one that the next blow is for, until the proxy ends."""

    def __init__(self) -> None:
        self._held: Queue[S3Request] = Queue()
        self._lock = threading.Lock()
        self._next: Blow | None = None
        self._left = 0

    def hold(self, blow: Blow) -> None:
        """From now on."""
        with self._lock:
            self._next, self._left = blow, blow.puts

    def taken(self, drivers: "Drivers") -> S3Request:
        """The put that is held now."""
        try:
            return self._held.get(timeout=DEADLINE_S)
        except Empty:
            raise TimeoutError(f"no put came; what the drivers said:\n{drivers.said}") from None

    def __call__(self, request: S3Request) -> Fault | None:
        """As a `faulty_s3.Plan`."""
        if request.method != "PUT" or "/results/" not in request.key:
            return None
        with self._lock:
            self._left -= 1
            if self._next is None or self._left >= 0:
                return None
            fault, self._next = Fault(self._next.kind, stall_s=DEADLINE_S), None
        self._held.put(request)
        return fault


def blows(seed: int) -> list[Blow]:
    """Both victims at both moments, in an order that is the seed's."""
    dice = random.Random(seed)
    cases = [(victim, kind) for victim in ("actor", "driver") for kind in (Kind.STALL_BEFORE, Kind.STALL_AFTER)]
    return [Blow(victim, kind, dice.randrange(3)) for victim, kind in dice.sample(cases, len(cases))]


@pytest.fixture
def corpus(s3_client: Any, s3_bucket: str, tmp_path: Path) -> str:
    """`s3://BUCKET` with ITEMS images below corpus/."""
    for number in range(ITEMS):
        path = save_numbered(tmp_path / "photos", number)
        key = f"corpus/{path.name}"
        s3_client.put_object(Bucket=s3_bucket.removeprefix("s3://"), Key=key, Body=path.read_bytes())
    return s3_bucket


class Drivers:
    """`winnow run` of one spec, again and again, by way of a proxy."""

    def __init__(self, spec: Path, proxy: FaultyS3) -> None:
        self._command = [WINNOW, "run", spec, "--json"]
        self._environ = {**os.environ, "AWS_ENDPOINT_URL": proxy.endpoint_url}
        self._told = spec.with_suffix(".err")
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self) -> "subprocess.Popen[bytes]":
        """The same command once more, in a session of its own."""
        with self._told.open("ab") as told:
            process = subprocess.Popen(
                self._command, env=self._environ, stdout=told, stderr=told, start_new_session=True
            )
        self._all.append(process)
        return process

    def kill_actors(self) -> int:
        """Every actor, also of a driver that was killed a moment ago; how many there were."""
        return sum(send(actor, signal.SIGKILL) for driver in self._all for actor in actors_of(driver.pid))

    @property
    def said(self) -> str:
        """By all of them."""
        return self._told.read_text(encoding="utf-8", errors="replace")

    def end(self) -> None:
        """Kill what is left of them."""
        for process in self._all:
            end_session(process.pid)
            process.wait()


@pytest.mark.timeout(300)
def test_run__actor_and_driver_are_killed_while_their_put_is_held(
    s3: S3Server, s3_client: Any, corpus: str, tmp_path: Path
) -> None:
    run_in_this_process(spec_for(tmp_path, corpus, "good"))
    bucket, holding = corpus.removeprefix("s3://"), Holding()
    with faulty_s3(s3, holding) as proxy, closing_drivers(spec_for(tmp_path, corpus, "bad"), proxy) as drivers:
        driver = drivers.start()
        for blow in blows(SEED):
            holding.hold(blow)
            held = holding.taken(drivers)
            until(partial(stands, s3_client, bucket, held.key, blow.kind is Kind.STALL_AFTER))
            if blow.victim == "actor":
                assert drivers.kill_actors()
            else:
                driver.kill()
                driver = drivers.start()
        assert driver.wait(DEADLINE_S) == 0, drivers.said
        assert "Traceback" not in drivers.said
        closed = rows(f"{corpus}/bad")
    late = [one for one in proxy.log if one.fault is not None and one.fault.kind is Kind.STALL_BEFORE]
    assert [one.status for one in late] == [PRECONDITION_FAILED] * 2
    assert_sound(f"{corpus}/bad")
    assert rows(f"{corpus}/bad").equals(closed)
    assert closed.equals(rows(f"{corpus}/good"))


@contextlib.contextmanager
def closing_drivers(spec: Path, proxy: FaultyS3) -> Iterator[Drivers]:
    drivers = Drivers(spec, proxy)
    try:
        yield drivers
    finally:
        drivers.end()


def stands(client: Any, bucket: str, key: str, wanted: bool) -> bool:
    """Whether an object is there, or is not, as it is wanted to be."""
    return bool(client.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"]) == wanted


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {DEADLINE_S:.0f} s")
        time.sleep(0.02)


def spec_for(folder: Path, bucket: str, output: str) -> Path:
    path = folder / f"{output}.yaml"
    path.write_text(SPEC.format(bucket=bucket, output=output, folder=folder, shard_items=SHARD_ITEMS))
    return path
