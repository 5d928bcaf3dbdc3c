"""What does a night with 1 % new images cost beside the full run, and how soon does a killed run work again?

The night: actor seconds (the stages of all shards together) as a share of the full run's; and the whole command's, in
which starting, loading the models and planning are most of so short a night. Resuming: `winnow run` is killed with its
actors when half of the shards are committed, and the same command is timed to its first new shard, beside the time to
the first shard of a fresh run.

    python -m tests.benchmarks.engine.night --images 6000 --repeats 5
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.benchmarks.engine.images import jpegs
from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.winnow_side import WINNOW, Job, shard_times_s, write_spec
from tests.faults.processes import end_session

MODEL = "mobilenet_v3_small"
NEW_SHARE = 0.01
POLL_S = 0.02
GIVE_UP_S = 1800.0


@dataclass(frozen=True, slots=True)
class Run:
    """A whole `winnow run`: its record, and the seconds of the command."""

    record: dict[str, Any]
    seconds: float

    @property
    def actor_s(self) -> float:
        """Of all stages of all shards."""
        return float(sum(self.record["stage_seconds"].values()))


def run(spec: Path) -> Run:
    """To its end."""
    start = time.monotonic()
    done = subprocess.run(
        [WINNOW, "run", spec, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    )
    return Run(json.loads(done.stdout), time.monotonic() - start)


def night(job: Job, folder: Path) -> tuple[Run, Run]:
    """The full run, and the one after it, when a copy of every hundredth image is new."""
    spec = write_spec(job, folder)
    full = run(spec)
    names = sorted(Path(job.corpus).iterdir())[:: round(1 / NEW_SHARE)]
    new = [name.with_name(f"new-{name.name}") for name in names]
    for old, place in zip(names, new, strict=True):
        shutil.copy(old, place)
    later = run(spec)
    for place in new:
        place.unlink()
    if later.record["items"] != len(new):
        raise SystemExit(f"{later.record['items']} items were due, {len(new)} were new")
    return full, later


def resume(job: Job, folder: Path) -> tuple[float, float]:
    """Seconds to the first shard of a fresh run, and to the first new one after a kill half way."""
    spec = write_spec(job, folder)
    shards = -(-job.items // job.shard_items)
    fresh_s = _until(spec, job, lambda count: count >= 1, then=lambda count: count >= shards // 2)
    before = len(shard_times_s(job.output))
    again_s = _until(spec, job, lambda count: count > before, then=lambda _: True)
    return fresh_s, again_s


def _until(spec: Path, job: Job, reached: Callable[[int], bool], then: Callable[[int], bool]) -> float:
    """Start the run; the seconds until so many shards are `reached`. It is killed, actors and all, when `then` is so.

    Raises:
        SystemExit: the run ends before.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        [WINNOW, "run", spec, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    took_s: float | None = None
    try:
        while time.monotonic() - start < GIVE_UP_S:
            count = len(shard_times_s(job.output))
            if took_s is None and reached(count):
                took_s = time.monotonic() - start
            if took_s is not None and then(count):
                os.kill(process.pid, signal.SIGKILL)
                return took_s
            if process.poll() is not None:
                raise SystemExit(f"the run ended with {process.returncode} after {count} shards: take more images")
            time.sleep(POLL_S)
        raise SystemExit(f"no shard within {GIVE_UP_S:.0f} s")
    finally:
        end_session(process.pid)
        process.wait()


def measure(images: int, shard_items: int, repeats: int) -> None:
    """Three lines."""
    shares, whole, first, times = [], [], [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            jpegs(folder / "photos", images)
            job = Job(MODEL, images, shard_items, str(folder / "photos"), str(folder / "out"))
            full, later = night(job, folder)
            shares.append(later.actor_s / full.actor_s)
            whole.append([round(full.seconds, 1), round(later.seconds, 1)])
            fresh_s, again_s = resume(replace(job, output=str(folder / "killed")), folder)
            first.append(again_s / fresh_s)
            times.append([round(fresh_s, 1), round(again_s, 1)])
    setup = f"{images} JPEGs of 800 x 600, then 1 % new ones, shards of {shard_items}, folder"
    say(
        "7, actor seconds of a 1 %-new night / of the full run", shares, at_most=0.012, setup=setup, whole_seconds=whole
    )
    commands = [later_s / full_s for full_s, later_s in whole]
    say("7, seconds of the whole command of a 1 %-new night / of the full run", commands, setup=setup)
    say("7, seconds to the first shard after a kill half way / of a fresh run", first, at_most=1.2, setup=setup,
        seconds=times)  # fmt: skip


def main() -> int:
    """Measure; 0 whether it holds or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--shard-items", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    measure(options.images, options.shard_items, options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
