"""Does an actor's memory stay flat and bounded? The most that is resident in any of them while shards are worked on.

`winnow run` with as many actors as cores, images of 200 px with 50-megapixel ones among them, every pixel of which is
asked for. The actors are looked at from outside, whenever a shard's object has appeared. Flat: the peaks of the last
quarter of the run have a median within a tenth of the first quarter's; the first shards warm the allocator up, which a
few hundred images show as growth. The bound follows from the limits of the pipeline, with P for the decoded bytes of
the largest image:

    what stands before the first shard
    + CHUNK_BYTES + P                      a chunk is closed by the image that reaches its limit
    + SHARDS_AT_ONCE x (ENCODED_BYTES + PIXEL_BYTES + 2 x D x P)
                                           of each shard that is under way: files on their way, pixels that wait, and
                                           what is being decoded, with the decoder's own copy; D is the decoders, and
                                           the one whose turn it is

    python -m tests.benchmarks.engine.memory --images 20000
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.rates import quartile_change
from tests.benchmarks.engine.whole_pixels import NOTE
from tests.benchmarks.engine.winnow_side import WINNOW, shard_times_s
from tests.faults.processes import actors_of, end_session
from winnow_workers.actor import SHARDS_AT_ONCE
from winnow_workers.ahead import ENCODED_BYTES, EXTRA_DECODERS, PIXEL_BYTES
from winnow_workers.pipeline import CHUNK_BYTES

ROOT = Path(__file__).parents[3]
HUGE_PX = (8660, 5774)  # 50 megapixels
HUGE_EVERY = 25
SHARDS_MIN, SHARD_ITEMS_MAX = 16, 200
FLAT = 0.10
POLL_S = 0.01
SPEC = """\
name: memory
corpus: {folder}/photos
output: {folder}/out
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: vector, operator: "tests.benchmarks.engine.whole_pixels:WholePixelsOperator", model: builtin/fingerprint}}
run: {{actors: {actors}, device: cpu, shard_items: {shard_items}}}
"""


def bound_bytes(base_bytes: int, largest_bytes: int) -> int:
    """The most that may be resident: see above."""
    chunk = CHUNK_BYTES + largest_bytes
    decoding = 2 * (1 + EXTRA_DECODERS + 1) * largest_bytes  # of one thread
    return base_bytes + chunk + SHARDS_AT_ONCE * (ENCODED_BYTES + PIXEL_BYTES + decoding)


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


def take_peak_bytes(pid: int) -> int:
    """The most that was resident in a process since this was asked last (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def run(folder: Path, images: int) -> tuple[int, list[int]]:
    """What an actor of a `winnow run` has resident before its first image, at most, and then from shard to shard.

    Raises:
        SystemExit: it does not end `done`, or an actor has to be replaced.
    """
    actors = len(os.sched_getaffinity(0))
    shard_items = max(1, min(SHARD_ITEMS_MAX, images // SHARDS_MIN))
    spec, note = folder / "job.yaml", folder / "opened"
    spec.write_text(SPEC.format(folder=folder, actors=actors, shard_items=shard_items), encoding="utf-8")
    environ = os.environ | {NOTE: str(note), "PYTHONPATH": str(ROOT)}
    peaks: list[int] = []
    seen = 0
    with (folder / "said").open("wb") as said:
        driver = subprocess.Popen(
            [WINNOW, "run", spec, "--json"], env=environ, stdout=said, stderr=said, start_new_session=True
        )
        try:
            while driver.poll() is None:
                if (count := len(shard_times_s(str(folder / "out")))) > seen:
                    seen = count
                    peaks += _highest(actors_of(driver.pid))
                time.sleep(POLL_S)
        finally:
            end_session(driver.pid)
            driver.wait()
    opened = note.read_text(encoding="ascii").split() if note.exists() else []
    if driver.returncode != 0 or len(opened) != actors:
        raise SystemExit(f"ended with {driver.returncode} after {len(opened)} actors: {(folder / 'said').read_text()}")
    return max(map(int, opened)), peaks


def _highest(pids: Sequence[int]) -> list[int]:
    """The highest peak of these processes since they were asked last; none if all have ended."""
    peaks = []
    for pid in pids:
        with contextlib.suppress(OSError):
            peaks.append(take_peak_bytes(pid))
    return [max(peaks)] if peaks else []


def measure(images: int) -> None:
    """Two lines."""
    with tempfile.TemporaryDirectory() as scratch:
        mixed_images(Path(scratch) / "photos", images)
        base, peaks = run(Path(scratch), images)
    bound = bound_bytes(base, HUGE_PX[0] * HUGE_PX[1] * 3)
    setup = f"{images} images of 200 px, every {HUGE_EVERY}th of 50 megapixels, all pixels asked for, the largest actor"
    mib = {name: round(value / 2**20) for name, value in (("base", base), ("peak", max(peaks)), ("bound", bound))}
    change = quartile_change(peaks)
    say("8, peak memory of an actor, the last quarter of the run beside the first, change either way", [abs(change)],
        at_most=FLAT, setup=setup, change=round(change, 3), samples=len(peaks))  # fmt: skip
    say("8, peak memory of an actor / its bound", [max(peaks) / bound], at_most=1.0, setup=setup, mib=mib)


def main() -> int:
    """Measure; 0 whether it holds or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    measure(parser.parse_args().images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
