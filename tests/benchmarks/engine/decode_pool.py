"""Do threads or processes make pixels of JPEGs faster? As many of either as cores, files in memory on both sides.

Threads, because the decoder drops the interpreter's lock; a process shares nothing, but has to hand its pixels over:
through a pipe, as an executor does it. What is timed is 800 x 600 JPEGs to the pixels that a model of 224 px needs, and
the pixels being there, in the process that would run the models. Processes are started, and have decoded, before.

    python -m tests.benchmarks.engine.decode_pool --images 2000 --repeats 5
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.benchmarks.engine.images import jpegs
from tests.benchmarks.engine.line import say
from winnow_workers.decode import DecodeLimits, decode
from winnow_workers.operator import PixelsHWC

SIDE_PX = 224
LIMITS = DecodeLimits()
AT_ONCE = 8  # files that a process is handed at once: fewer, larger messages


def pixels_of(files: Sequence[bytes]) -> list[PixelsHWC]:
    """(height, width, 3) uint8 of each, scaled down as far as a model of SIDE_PX allows."""
    return [decode(file, needed_side_px=SIDE_PX, limits=LIMITS).pixels for file in files]


def rate(pool: Executor, files: Sequence[bytes]) -> float:
    """Images per second until the pixels of all are here."""
    parts = [files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE)]
    list(pool.map(pixels_of, parts[: 2 * (os.cpu_count() or 1)]))
    start = time.perf_counter()
    count = sum(len(pixels) for pixels in pool.map(pixels_of, parts))
    return count / (time.perf_counter() - start)


def main() -> int:
    """Measure; 0 whether it holds or not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    pools: tuple[Callable[[], Executor], ...] = (
        lambda: ThreadPoolExecutor(cores),
        lambda: ProcessPoolExecutor(cores, mp_context=get_context("forkserver")),
    )
    rates: list[list[float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        files = [path.read_bytes() for path in jpegs(Path(scratch) / "photos", options.images)]
    for _ in range(options.repeats):
        turn = []
        for make in pools:
            with make() as pool:
                turn.append(rate(pool, files))
        rates.append(turn)
    say(
        "4, images decoded a second of a pool of threads / of processes",
        [threads / processes for threads, processes in rates],
        at_least=1.0,
        setup=f"{options.images} JPEGs of 800 x 600 to the pixels of a 224 px model, {cores} of either",
        items_per_s=[[round(one, 1) for one in turn] for turn in rates],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
