"""How fast are Ray Data, Daft and a DataLoader at the same job as `winnow run`? By turns, timed from process start.

All sides: the same images in a folder, the same model, decoder, batch and cores, one row per image in Parquet. The
peers' "steady" leaves out as many images at both ends as ours does: one shard of each actor. Daft has an environment
of its own (`make bench-peers-setup`), for it wants another pyarrow; without it its figure is null.

    python -m tests.benchmarks.engine.peers.compare --images 6000 --repeats 5
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq

from tests.benchmarks.engine.batch import batch_size, settle_batch
from tests.benchmarks.engine.images import jpegs
from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.peers.task import Task
from tests.benchmarks.engine.rates import Rate, steady_rate
from tests.benchmarks.engine.winnow_side import Job, shard_items, winnow_rate

ROOT = Path(__file__).parents[4]
DAFT_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
GIVE_UP_S = 3600.0


@dataclass(frozen=True, slots=True)
class Peer:
    """One side, and how much faster than it ours must be; None: reported only."""

    name: str
    side: str
    whole: float | None
    steady: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One workload."""

    name: str
    model: str
    shard_items: int  # at most
    peers: tuple[Peer, ...]


POINTS = (
    Point(
        "decode-bound (MobileNetV3-small)",
        "mobilenet_v3_small",
        256,
        (
            Peer("Ray Data, its documented pattern", "ray-documented", 1.5, None),
            Peer("Ray Data, tuned", "ray-tuned", 1.15, 1.0),
            Peer("Daft", "daft", 1.0, None),
            Peer("DataLoader and a loop", "loader", None, None),
        ),
    ),
    Point(
        "model-bound (ResNet-50)",
        "resnet50",
        64,
        (
            Peer("Ray Data, its documented pattern", "ray-documented", 1.0, None),
            Peer("Ray Data, tuned", "ray-tuned", 1.0, None),
            Peer("Daft", "daft", 1.0, None),
            Peer("DataLoader and a loop, all threads in the model", "loader-threads", 1.0, None),
        ),
    ),
)


def peer_rate(peer: Peer, task: Task) -> Rate | None:
    """Run a peer's job once; None if its environment is not there.

    Raises:
        SystemExit: it failed, or not every image has a row.
    """
    python = str(DAFT_PYTHON) if peer.side == "daft" else sys.executable
    if not Path(python).exists():
        return None
    shutil.rmtree(task.output, ignore_errors=True)
    command = [python, "-m", "tests.benchmarks.engine.peers", peer.side, json.dumps(asdict(task))]
    start = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=GIVE_UP_S, check=False)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        raise SystemExit(f"{peer.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    files = sorted(Path(task.output).rglob("*.parquet"))
    times = [at for file in files for at in pq.read_table(file, columns=["at_s"])["at_s"].to_pylist()]
    if len(times) != len(task.paths()):
        raise SystemExit(f"{peer.name} wrote {len(times)} rows for {len(task.paths())} images")
    return Rate(steady_rate(times, leave_out=task.workers * task.shard_items), len(times) / seconds)


def measure(point: Point, images: int, repeats: int) -> None:
    """All sides by turns; two lines for each peer."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settle_batch(point.model)
        jpegs(folder / "photos", images)
        workers = len(os.sched_getaffinity(0))
        size = shard_items(images, point.shard_items)
        ours: list[Rate] = []
        theirs: dict[str, list[Rate | None]] = {peer.name: [] for peer in point.peers}
        for turn in range(repeats):
            job = Job(point.model, images, size, str(folder / "photos"), str(folder / f"out-{turn}"))
            ours.append(winnow_rate(job, folder))
            task = Task(point.model, str(folder / "photos"), str(folder / "peer"), size, workers)
            for peer in point.peers:
                theirs[peer.name].append(peer_rate(peer, task))
            beside = {name: rates[-1] and round(rates[-1].whole, 1) for name, rates in theirs.items()}
            told = f"turn {turn + 1} of {repeats}, images/s whole: winnow {ours[-1].whole:.1f}, {beside}"
            sys.stderr.write(f"{told}\n")  # a cut-off in the last turn loses no other
    for peer in point.peers:
        _tell(point, peer, ours, theirs[peer.name], images)


def _tell(point: Point, peer: Peer, ours: Sequence[Rate], theirs: Sequence[Rate | None], images: int) -> None:
    pairs = [(our, their) for our, their in zip(ours, theirs, strict=True) if their is not None]
    setup = f"{images} JPEGs of 800 x 600, batches of {batch_size()}, folder, from process start"
    if not pairs:
        setup = "not installed here: make bench-peers-setup"
    for what, target in (("whole", peer.whole), ("steady", peer.steady)):
        say(
            f"2, {point.name}, {what}: winnow / {peer.name}",
            [getattr(our, what) / getattr(their, what) for our, their in pairs],
            at_least=target,
            setup=setup,
            items_per_s=[[round(getattr(our, what), 1), round(getattr(their, what), 1)] for our, their in pairs],
        )


def main() -> int:
    """Measure every point; 0 whether they hold or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1200, help="of the decode-bound point")
    parser.add_argument("--heavy-images", type=int, default=320, help="of the model-bound point")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", default="", help="points whose name has this text")
    parser.add_argument("--beside", default="", help="peers whose name has this text")
    options = parser.parse_args()
    for point, images in zip(POINTS, (options.images, options.heavy_images), strict=True):
        if options.only in point.name:
            beside = tuple(peer for peer in point.peers if options.beside in peer.name)
            measure(replace(point, peers=beside), images, options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
