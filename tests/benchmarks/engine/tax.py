"""What does the engine cost beside a bare loop of the same decoder and model on the same cores?

The bare loop: as many processes as cores, each with its share of the files, decode, preprocess, predict in batches;
no Ray, no digest, no rows, nothing written. The engine: `winnow run`. Both over the same files, by turns. "Steady"
leaves out start and end: the first and last shards of the engine (by when their objects appeared), the first and last
batches of the loop. Prints one JSON line per point.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.engine.images import jpegs

SPEC = """\
name: tax
corpus: {corpus}
output: {output}
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: kind, operator: classify, model: torchvision/{model}, weights: {{random: 1}}, labels: {labels}}}
run: {{shard_items: {shard_items}}}
"""
LABELS = [f"l{number}" for number in range(1000)]


@dataclass(frozen=True, slots=True)
class Point:
    """One comparison."""

    name: str
    model: str
    items: int
    shard_items: int
    target: float


POINTS = (
    Point("engine tax, decode-bound (MobileNetV3-small)", "mobilenet_v3_small", 3000, 64, 0.90),
    Point("engine tax, model-bound (ResNet-50)", "resnet50", 300, 16, 0.95),
)


def engine_rate(point: Point, folder: Path) -> tuple[float, float]:
    """(steady images/s, images/s of the whole job from process start) of `winnow run`."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    spec = folder / "job.yaml"
    spec.write_text(
        SPEC.format(
            corpus=folder / "photos", output=output, folder=folder, model=point.model, labels=LABELS,
            shard_items=point.shard_items,
        ),
        encoding="utf-8",
    )  # fmt: skip
    start = time.monotonic()
    command = [Path(sys.executable).parent / "winnow", "run", spec, "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole = point.items / (time.monotonic() - start)
    ended = sorted(path.stat().st_mtime for path in (output / "runs/0001/results").glob("*.parquet"))
    actors = len(os.sched_getaffinity(0))
    inner = ended[actors - 1 : -actors]  # every actor's first shard is over; nobody has run out of shards
    return (len(inner) - 1) * point.shard_items / (inner[-1] - inner[0]), whole


def bare_rate(point: Point, paths: Sequence[Path]) -> tuple[float, float]:
    """(steady images/s, images/s from process start) of the loop, over all cores."""
    cores = len(os.sched_getaffinity(0))
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores) as pool:
        ended = pool.starmap(_loop, [(point.model, [str(path) for path in paths[n::cores]]) for n in range(cores)])
    whole = len(paths) / (time.monotonic() - start)
    begun, over = max(times[0][0] for times in ended), min(times[-2][0] for times in ended)
    done = sum(size for times in ended for at, size in times if begun < at <= over)
    return done / (over - begun), whole


def _loop(model: str, paths: Sequence[str]) -> list[tuple[float, int]]:
    """When each batch was over (monotonic seconds), and how many images it had."""
    import torch
    import torchvision

    from winnow_workers.decode import DecodeLimits, decode
    from winnow_workers.models.architectures import default_preprocessing
    from winnow_workers.models.fixed_batch import CPU_BATCH
    from winnow_workers.models.fold import fold_batch_norms
    from winnow_workers.models.preprocess import needed_side_px, to_tensor

    torch.set_num_threads(1)
    module = getattr(torchvision.models, model)().eval().to(memory_format=torch.channels_last)
    fold_batch_norms(module)  # as the engine does: the comparison is of the engine, not of the model
    preprocessing, limits = default_preprocessing(f"torchvision/{model}"), DecodeLimits()
    side_px = needed_side_px(preprocessing)
    times = []
    for start in range(0, len(paths), CPU_BATCH):
        part = paths[start : start + CPU_BATCH]
        decoded = [decode(Path(path).read_bytes(), needed_side_px=side_px, limits=limits) for path in part]
        batch = torch.stack([to_tensor(one.pixels, preprocessing) for one in decoded])
        with torch.inference_mode():
            module(batch.contiguous(memory_format=torch.channels_last)).argmax(1).tolist()
        times.append((time.monotonic(), len(part)))
    return times


def measure(point: Point, repeats: int) -> dict[str, object]:
    """Both sides by turns; medians and spreads."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = jpegs(folder / "photos", point.items)
        engine, bare = [], []
        for _ in range(repeats):
            bare.append(bare_rate(point, paths))
            engine.append(engine_rate(point, folder))
    ratios = [ours[0] / theirs[0] for ours, theirs in zip(engine, bare, strict=True)]
    figure = statistics.median(ratios)
    return {
        "point": point.name,
        "figure": round(figure, 3),
        "target": f">= {point.target} of the bare loop, steady",
        "holds": figure >= point.target,
        "spread": [round(ratio, 3) for ratio in sorted(ratios)],
        "engine_items_per_s": [round(rate, 1) for rate, _ in engine],
        "bare_items_per_s": [round(rate, 1) for rate, _ in bare],
        "whole_job_ratio": round(statistics.median(o[1] / t[1] for o, t in zip(engine, bare, strict=True)), 3),
        "setup": f"{os.cpu_count()} cores, {platform.machine()}, folder, {point.items} JPEGs of 800 x 600, "
        f"{repeats} turns, {datetime.now(UTC):%Y-%m-%d}",
    }


def main() -> int:
    """Measure every point; 0 whether they hold or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", default="", help="points whose name has this text")
    options = parser.parse_args()
    for point in POINTS:
        if options.only in point.name:
            sys.stdout.write(json.dumps(measure(point, options.repeats)) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
