"""What do five tasks cost over one decode? One fused job beside decoding and models alone, and beside five jobs.

Everything on one core, without Ray, so that nothing hides behind something else: the fused job may take a tenth more
than decoding (D) and the five models (M) take alone. Random weights, photographs, so few lines of text. The same ratio
of this process's CPU is told beside that of the wall: it says more where other work is running.

    python -m tests.benchmarks.engine.five_tasks --images 300 --repeats 5
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.benchmarks.engine.images import jpegs
from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.pipeline_side import FIVE_TASKS, open_pipeline, run_shards
from winnow_workers.decode import Decoded, DecodeLimits, decode
from winnow_workers.operator import Operator, OperatorParams, TaskConfig, View
from winnow_workers.pipeline import Pipeline

SHARD_ITEMS = 16
TARGET = 1.10


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds on the wall, and of this process's CPU."""

    wall_s: float
    cpu_s: float

    @staticmethod
    def now() -> "Spent":
        """Both clocks."""
        return Spent(time.perf_counter(), time.process_time())

    def since(self, start: "Spent") -> "Spent":
        """What passed on both."""
        return Spent(self.wall_s - start.wall_s, self.cpu_s - start.cpu_s)


def job(paths: Sequence[Path], tasks: Sequence[TaskConfig]) -> Spent:
    """What a job takes from the first byte to the last commit, its models loaded and warm."""
    with tempfile.TemporaryDirectory() as scratch:
        pipeline, shards = open_pipeline(Path(scratch), paths, tasks, shard_items=SHARD_ITEMS, device="cpu")
        _warm(pipeline, paths[0])
        start = Spent.now()
        run_shards(pipeline, shards)
        spent = Spent.now().since(start)
        pipeline.close()
    return spent


def parts(paths: Sequence[Path], tasks: Sequence[TaskConfig]) -> dict[str, Spent]:
    """What reading and decoding every image once takes, and each task's operator over all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        pipeline, _ = open_pipeline(Path(scratch), paths, tasks, shard_items=SHARD_ITEMS, device="cpu")
        _warm(pipeline, paths[0])
        side_px = needed_side_px(list(pipeline.operators.values()))
        start = Spent.now()
        decoded = [_decoded(path, side_px) for path in paths]
        spent = {"decode": Spent.now().since(start)}
        views = [View(one.pixels, one.width_px, one.height_px) for one in decoded]
        for name, operator in pipeline.operators.items():
            start = Spent.now()
            for first in range(0, len(views), operator.batch_size):
                operator.run(views[first : first + operator.batch_size])
            spent[name] = Spent.now().since(start)
        pipeline.close()
    return spent


def needed_side_px(operators: Sequence[Operator[OperatorParams]]) -> int | None:
    """The size at which a job of these operators decodes."""
    sides = [operator.needed_side_px for operator in operators]
    return None if None in sides else max(side for side in sides if side is not None)


def _decoded(path: Path, side_px: int | None) -> Decoded:
    return decode(path.read_bytes(), needed_side_px=side_px, limits=DecodeLimits())


def _warm(pipeline: Pipeline, path: Path) -> None:
    one = _decoded(path, None)
    for operator in pipeline.operators.values():
        operator.run([View(one.pixels, one.width_px, one.height_px)])


def measure(images: int, repeats: int) -> None:
    """By turns; two lines."""
    ratios, cpu_ratios, saved, seconds = [], [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        paths = jpegs(Path(scratch) / "photos", images)
        for _ in range(repeats):
            alone = parts(paths, FIVE_TASKS)
            fused = job(paths, FIVE_TASKS)
            separate_s = sum(job(paths, [task]).wall_s for task in FIVE_TASKS)
            ratios.append(fused.wall_s / sum(one.wall_s for one in alone.values()))
            cpu_ratios.append(round(fused.cpu_s / sum(one.cpu_s for one in alone.values()), 3))
            saved.append(separate_s / fused.wall_s)
            times = {"fused": fused.wall_s, "separate": separate_s} | {name: one.wall_s for name, one in alone.items()}
            seconds.append({name: round(value, 2) for name, value in times.items()})
    setup = f"one core, one thread, {images} JPEGs of 800 x 600, random weights, no Ray"
    say("3, five tasks in one job / (D + sum of M)", ratios, at_most=TARGET, setup=setup, cpu_ratios=cpu_ratios,
        seconds=seconds)  # fmt: skip
    say("3, five separate jobs / one job of five tasks", saved, setup=setup)


def main() -> int:
    """Measure; 0 whether it holds or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    measure(options.images, options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
