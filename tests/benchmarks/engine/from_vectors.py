"""How much faster does a new head decide from committed vectors than from pixels? One process, no Ray.

    python -m tests.benchmarks.engine.from_vectors [IMAGES]

JPEGs of 640 x 480 px (seed 0), `builtin/fingerprint` as the task of vectors, a drawn linear head of three classes.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.jobs.heads import head_task, job
from tests.jobs.whole_nights import begin, runs_of, work_through
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.run import finish


def save_jpegs(folder: Path, count: int) -> None:
    """Smooth noise, each its own."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        small = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{number:06d}.jpg")


def timed(resolved: ResolvedSpec) -> tuple[float, dict[str, object]]:
    """Seconds from the plan to the last commit, and the summary."""
    start = time.perf_counter()
    plan = begin(resolved)
    if plan is None:
        raise SystemExit("nothing is due")
    tally = work_through(runs_of(resolved), plan)
    seconds = time.perf_counter() - start
    return seconds, finish(runs_of(resolved), plan, tally, seconds)


def main(count: int) -> None:
    """Print one line of JSON."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save_jpegs(folder / "corpus", count)
        options = {"include": ("*.jpg",)}
        found = {}
        for name, seed in (("from_pixels_s", 1), ("from_vectors_s", 2)):
            resolved = job(folder, head_task(folder, seed))
            corpus = resolved.corpus.model_copy(update=options)
            shards = resolved.run.model_copy(update={"shard_items": "auto"})
            seconds, summary = timed(resolved.model_copy(update={"corpus": corpus, "run": shards}))
            found[name] = round(seconds, 3)
        if summary["from_vectors"] != count:
            raise SystemExit(f"only {summary['from_vectors']} of {count} came from vectors")
        ratio = found["from_pixels_s"] / found["from_vectors_s"]
        print(json.dumps({"images": count, **found, "ratio": round(ratio, 2), "seed": 0}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
