"""What is a run disturbed in? A folder with a corpus, a spec and a log of predictions, and drivers started there."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.e2e.winnow import WINNOW
from tests.faults import tally
from tests.faults.ledgers import FileLedger, Ledger
from tests.faults.processes import end_session
from winnow_storage.local_store import TEMPORARY

ROOT = Path(__file__).parents[2]
RUN_ID = "0001"
SPEC = """\
name: faults
corpus: {corpus}
output: {output}
ledger: {ledger}
tasks:
  - {{name: vector, operator: embed, model: builtin/fingerprint}}
  - {{name: tally, operator: "tests.faults.tally:TallyOperator"}}
{more}
run:
  actors: {actors}
  device: cpu
  shard_items: {shard_items}
  shard_deadline_s: {shard_deadline_s}
  item_deadline_s: {item_deadline_s}
  item_memory_bytes: {item_memory_bytes}
"""
POISON = '  - {name: poison, operator: "tests.faults.poison:PoisonOperator"}'


@dataclass(frozen=True, slots=True)
class Shape:
    """How much work a run is, and how slow it is made."""

    items: int = 480
    shard_items: int = 8
    actors: int = 2
    item_s: float = 0.03
    sync_s: float = 0.08
    shard_deadline_s: float = 6.0
    item_deadline_s: float = 300.0
    item_memory_bytes: int = 4 * 2**30
    poison: bool = False  # with the operator that images can hurt

    @property
    def shards(self) -> int:
        """How many shards the run has."""
        return -(-self.items // self.shard_items)

    def undisturbed(self) -> "Shape":
        """The same work at full speed."""
        return replace(self, item_s=0.0, sync_s=0.0)


@dataclass(frozen=True, slots=True)
class Driver:
    """A `winnow run` that was started, in a session of its own."""

    process: subprocess.Popen[bytes]
    told: Path  # its stderr

    @property
    def pid(self) -> int:
        """Of the driver, and the id of its session."""
        return self.process.pid

    @property
    def last_words(self) -> str:
        """The end of what it wrote for people, and of its record or error."""
        answered = self.told.with_suffix(".out").read_text(encoding="utf-8", errors="replace")
        return f"{self.said[-1500:]}{answered[-1500:]}"

    @property
    def said(self) -> str:
        """What it wrote for people so far."""
        return self.told.read_text(encoding="utf-8", errors="replace")

    @property
    def actors(self) -> int | None:
        """How many actors it says it has."""
        match = re.search(r"(\d+) actors? on", self.said)
        return None if match is None else int(match[1])


class Log:
    """Which process predicted which image: what the tally operator wrote so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.lines = 0
        self.by_process: dict[int, list[int]] = {}  # pid -> the numbers of images, as it predicted them
        self.first_at_s: dict[int, float] = {}  # pid -> when it was first seen to predict, of time.monotonic

    def read(self) -> None:
        """Take in what is new."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            number, pid = line.split()
            self.by_process.setdefault(int(pid), []).append(int(number))
            self.first_at_s.setdefault(int(pid), time.monotonic())
            self.lines += 1


class Arena:
    """One run of one job in a folder; `corpus` may be shared by several."""

    def __init__(self, folder: Path, corpus: Path, shape: Shape, ledger: Ledger, scratch: Path) -> None:
        self.shape = shape
        self.ledger = ledger
        self.folder = folder.resolve()
        self.out = self.folder / "out"
        self.results = self.out / f"runs/{RUN_ID}/results"
        self.log = Log(self.folder / "predictions")
        self.drivers: list[Driver] = []
        self._scratch = scratch
        self._spec = self.folder / "job.yaml"
        self._spec.write_text(
            SPEC.format(
                corpus=corpus.resolve(),
                output=self.out,
                ledger=ledger.url,
                actors=shape.actors,
                shard_items=shape.shard_items,
                shard_deadline_s=shape.shard_deadline_s,
                item_deadline_s=shape.item_deadline_s,
                item_memory_bytes=shape.item_memory_bytes,
                more=POISON if shape.poison else "",
            ),
            encoding="utf-8",
        )

    def start(self) -> Driver:
        """Start the same command once more."""
        told = self.folder / f"driver-{len(self.drivers)}.err"
        with told.open("wb") as err, told.with_suffix(".out").open("wb") as out:
            process = subprocess.Popen(
                [WINNOW, "run", self._spec, "--json"],
                cwd=self.folder,
                env=self._environ(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.drivers.append(Driver(process, told))
        return self.drivers[-1]

    def committed(self) -> set[int]:
        """The shards that are committed."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.results) as entries:
            return {int(entry.name[:8]) for entry in entries if entry.name[:8].isdecimal()}
        return set()

    def temporary(self, path: str) -> bool:
        """Whether an open path is a put that is not there yet."""
        return path.startswith(f"{self.results}/{TEMPORARY}")

    def is_closed(self) -> bool:
        """Whether the run has its summary."""
        return (self.out / f"runs/{RUN_ID}/summary.json").exists()

    def shard_of(self, number: int) -> int:
        """Images are in shards in the order of their numbers."""
        return number // self.shape.shard_items

    def _environ(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        return inherited | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self._scratch),
            tally.LOG: str(self.folder / "predictions"),
            tally.ITEM_S: str(self.shape.item_s),
            tally.SYNC_S: str(self.shape.sync_s),
            **self.ledger.environ,
        }


@contextlib.contextmanager
def arena_in(folder: Path, corpus: Path, shape: Shape, ledger: Ledger | None = None) -> Iterator[Arena]:
    """An arena; its scratch space (Ray's sockets and logs) and its processes are gone in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="wf-"))  # short: Ray makes unix sockets in it, whose paths are limited
    arena = Arena(folder, corpus, shape, ledger or FileLedger(folder.resolve() / "ledger.db"), scratch)
    try:
        yield arena
    finally:
        arena.ledger.close()
        for driver in arena.drivers:
            end_session(driver.pid)
            driver.process.wait()
        shutil.rmtree(scratch, ignore_errors=True)


def corpus_in(folder: Path, items: int) -> Path:
    """`items` numbered images."""
    for number in range(items):
        tally.save_numbered(folder, number)
    return folder
