"""What does the engine cost beside a bare loop of the same decoder and model on the same cores?

The bare loop is that of `bare`, the engine `winnow run`, both over the same files, in a folder and on S3, by turns.
"Steady" leaves out start and end. The loop itself is checked: an image in it must take what decoding and model take
alone. Prints one JSON line per point.

    python -m tests.benchmarks.engine.tax --repeats 5
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.benchmarks.engine.bare import bare_rate
from tests.benchmarks.engine.batch import batch_size, settle_batch
from tests.benchmarks.engine.corpora import Corpus, Where, corpus_in
from tests.benchmarks.engine.line import say
from tests.benchmarks.engine.rates import Rate
from tests.benchmarks.engine.winnow_side import Job, shard_items, winnow_rate


@dataclass(frozen=True, slots=True)
class Point:
    """One comparison."""

    name: str
    model: str
    items: int
    shard_items: int  # at most
    target: float


POINTS = (
    Point("decode-bound (MobileNetV3-small)", "mobilenet_v3_small", 6000, 256, 0.90),
    Point("model-bound (ResNet-50)", "resnet50", 800, 64, 0.95),
)
PLACES: tuple[Where, ...] = ("folder", "s3")


def measure(point: Point, where: Where, repeats: int, items: int) -> None:
    """Both sides by turns; one line."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settle_batch(point.model)
        try:
            with corpus_in(folder, items, where) as corpus:
                sides = [_turn(point, corpus, folder, turn) for turn in range(repeats)]
                if where == "folder":
                    _check_loop(point, corpus, repeats)
        except pytest.skip.Exception as reason:
            say(f"1, engine tax, {point.name}, {where}", [], at_least=point.target, setup=str(reason))
            return
    say(
        f"1, engine tax, {point.name}, {where}",
        [ours.steady / bare.steady for ours, bare in sides],
        at_least=point.target,
        setup=f"{items} JPEGs of 800 x 600, batches of {batch_size()}, steady, engine / bare loop",
        engine_items_per_s=[round(ours.steady, 1) for ours, _ in sides],
        bare_items_per_s=[round(bare.steady, 1) for _, bare in sides],
        whole_job_ratios=[round(ours.whole / bare.whole, 3) for ours, bare in sides],
    )


def _turn(point: Point, corpus: Corpus, folder: Path, turn: int) -> tuple[Rate, Rate]:
    bare = bare_rate(point.model, corpus.uris)
    size = shard_items(len(corpus.uris), point.shard_items)
    job = Job(point.model, len(corpus.uris), size, corpus.uri, corpus.output_of(turn))
    return winnow_rate(job, folder), bare


def _check_loop(point: Point, corpus: Corpus, repeats: int) -> None:
    ratios, parts = [], []
    for _ in range(repeats):
        both, decode, model = (bare_rate(point.model, corpus.uris, part).steady for part in ("both", "decode", "model"))
        ratios.append((1 / both) / (1 / decode + 1 / model))
        parts.append({"both": round(both, 1), "decode": round(decode, 1), "model": round(model, 1)})
    say(
        f"1, the bare loop's time an image / that of decoding and model alone, {point.name}",
        ratios,
        at_most=1.05,
        setup=f"{len(corpus.uris)} JPEGs of 800 x 600, folder",
        items_per_s=parts,
    )


def main() -> int:
    """Measure every point; 0 whether they hold or not: the lines say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--only", default="", help="points whose name, or place, has this text")
    parser.add_argument("--share", type=float, default=1.0, help="of the images, to try the script itself")
    options = parser.parse_args()
    for point in POINTS:
        for where in PLACES:
            if options.only in f"{point.name}, {where}":
                measure(point, where, options.repeats, round(point.items * options.share))
    return 0


if __name__ == "__main__":
    sys.exit(main())
