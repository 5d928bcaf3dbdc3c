"""What do five tasks cost over one decode? One fused job beside decoding and models alone, and beside five jobs.

Everything on one core, without Ray, so that nothing hides behind something else: the fused job may take a tenth more
than decoding (D) and the five models (M) take alone. Random weights, photographs, so few lines of text.

    python -m tests.benchmarks.engine.five_tasks --images 300 --repeats 5
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
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


def job_s(paths: Sequence[Path], tasks: Sequence[TaskConfig]) -> float:
    """Seconds of a job from the first byte to the last commit, its models loaded and warm."""
    with tempfile.TemporaryDirectory() as scratch:
        pipeline, shards = open_pipeline(Path(scratch), paths, tasks, shard_items=SHARD_ITEMS, device="cpu")
        _warm(pipeline, paths[0])
        seconds = run_shards(pipeline, shards)
        pipeline.close()
    return seconds


def parts_s(paths: Sequence[Path], tasks: Sequence[TaskConfig]) -> tuple[float, dict[str, float]]:
    """Seconds of reading and decoding every image once, and of each task's operator over all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        pipeline, _ = open_pipeline(Path(scratch), paths, tasks, shard_items=SHARD_ITEMS, device="cpu")
        _warm(pipeline, paths[0])
        side_px = needed_side_px(list(pipeline.operators.values()))
        start = time.perf_counter()
        decoded = [_decoded(path, side_px) for path in paths]
        decode_s = time.perf_counter() - start
        views = [View(one.pixels, one.width_px, one.height_px) for one in decoded]
        models_s = {}
        for name, operator in pipeline.operators.items():
            start = time.perf_counter()
            for first in range(0, len(views), operator.batch_size):
                operator.run(views[first : first + operator.batch_size])
            models_s[name] = time.perf_counter() - start
        pipeline.close()
    return decode_s, models_s


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
    fused, saved, seconds = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        paths = jpegs(Path(scratch) / "photos", images)
        for _ in range(repeats):
            decode_s, models_s = parts_s(paths, FIVE_TASKS)
            fused_s = job_s(paths, FIVE_TASKS)
            separate_s = sum(job_s(paths, [task]) for task in FIVE_TASKS)
            fused.append(fused_s / (decode_s + sum(models_s.values())))
            saved.append(separate_s / fused_s)
            times = {"fused": fused_s, "separate": separate_s, "decode": decode_s, **models_s}
            seconds.append({name: round(value, 2) for name, value in times.items()})
    setup = f"one core, one thread, {images} JPEGs of 800 x 600, random weights, no Ray"
    say("3, five tasks in one job / (D + sum of M)", fused, at_most=TARGET, setup=setup, seconds=seconds)
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
