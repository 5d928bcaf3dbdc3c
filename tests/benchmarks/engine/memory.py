"""Does an actor's memory stay flat and bounded? The most that is resident in every shard.

One process, the pipeline as an actor runs it, images of 200 px with 50-megapixel ones among them, every pixel of which
is asked for. Flat: the shards' peaks in the last quarter have a median within a tenth of the first quarter's; the first
shards warm the allocator up, which a few hundred images show as growth. The bound follows from the limits of the
pipeline, with P for the decoded bytes of the largest image:

    what stands before the first shard
    + CHUNK_BYTES + P                      a chunk is closed by the image that reaches its limit
    + SHARDS_AT_ONCE x FETCH_AHEAD x P     decoded ahead, of each shard that is under way
    + FETCH_AHEAD x P                      the decoder's own copy, of as many as are decoded at the same time

    python -m tests.benchmarks.engine.memory --images 20000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.pipeline_side import open_pipeline, run_shards
from tests.benchmarks.engine.rates import quartile_change
from winnow_storage.shards import Receipt
from winnow_workers.actor import SHARDS_AT_ONCE
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import CHUNK_BYTES, FETCH_AHEAD

ROOT = Path(__file__).parents[3]
HUGE_PX = (8660, 5774)  # 50 megapixels
HUGE_EVERY = 25
SHARDS_MIN, SHARD_ITEMS_MAX = 16, 200
FLAT = 0.10
TASK = TaskConfig(
    "vector", "tests.benchmarks.engine.whole_pixels:WholePixelsOperator", resolve_model("builtin/fingerprint")
)


def bound_bytes(base_bytes: int, largest_bytes: int) -> int:
    """The most that may be resident: see above."""
    chunk = CHUNK_BYTES + largest_bytes
    ahead = SHARDS_AT_ONCE * FETCH_AHEAD * largest_bytes
    return base_bytes + chunk + ahead + FETCH_AHEAD * largest_bytes


def mixed_images(folder: Path, count: int) -> list[Path]:
    """`count` names of a few files: every HUGE_EVERYth has 50 megapixels, JPEG and PNG by turns."""
    folder.mkdir()
    photograph = Image.fromarray(data.astronaut())
    huge = [folder.parent / "huge.jpg", folder.parent / "huge.png"]
    enlarged = photograph.resize(HUGE_PX, Image.Resampling.BILINEAR)
    enlarged.save(huge[0], quality=85)
    enlarged.save(huge[1], compress_level=1)
    small = [folder.parent / f"small-{number}.jpg" for number in range(20)]
    rng = np.random.default_rng(0)
    for path in small:
        left, top = rng.integers(0, 312, 2)
        photograph.crop((left, top, left + 200, top + 200)).save(path, quality=90)
    made = []
    for number in range(count):
        turn, rest = divmod(number, HUGE_EVERY)
        source = huge[turn % 2] if rest == 0 else small[number % len(small)]
        path = folder / f"{number:06d}{source.suffix}"
        os.link(source, path)
        made.append(path)
    return made


def resident_bytes() -> int:
    """Of this process, now (Linux)."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def take_peak_bytes() -> int:
    """The most that was resident in this process since this was asked last (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def worker(folder: Path, images: int) -> dict[str, object]:
    """In a process of its own: what is resident before, and at most while each shard is worked on."""
    paths = sorted((folder / "photos").iterdir())
    shard_items = max(1, min(SHARD_ITEMS_MAX, images // SHARDS_MIN))
    pipeline, shards = open_pipeline(folder / "run", paths, [TASK], shard_items=shard_items, device="cpu")
    base, peaks = resident_bytes(), list[int]()
    take_peak_bytes()

    def sample(_: Receipt) -> None:
        peaks.append(take_peak_bytes())

    run_shards(pipeline, shards, after=sample)
    return {"base": base, "peaks": peaks}


def measure(images: int) -> None:
    """Two lines."""
    with tempfile.TemporaryDirectory() as scratch:
        mixed_images(Path(scratch) / "photos", images)
        command = [sys.executable, "-m", "tests.benchmarks.engine.memory", "--worker", scratch]
        command += ["--images", str(images)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    seen = json.loads(done.stdout)
    bound = bound_bytes(seen["base"], HUGE_PX[0] * HUGE_PX[1] * 3)
    setup = f"{images} images of 200 px, every {HUGE_EVERY}th of 50 megapixels, all pixels asked for, one process"
    peak = max(seen["peaks"])
    mib = {name: round(value / 2**20) for name, value in (("base", seen["base"]), ("peak", peak), ("bound", bound))}
    change = quartile_change(seen["peaks"])
    say("8, peak memory of a shard, the last quarter of the shards beside the first, change either way", [abs(change)],
        at_most=FLAT, setup=setup, change=round(change, 3), shards=len(seen["peaks"]))  # fmt: skip
    say("8, peak memory / its bound", [peak / bound], at_most=1.0, setup=setup, mib=mib)


def main() -> int:
    """Measure; 0 whether it holds or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        sys.stdout.write(json.dumps(worker(options.worker, options.images)) + "\n")
    else:
        measure(options.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
