"""How many labels does a model need if the product chooses them, beside random ones? And how long does choosing take?

scikit-learn's digits: 540 test images, two labels of each class to begin with, then ten a round, a logistic regression
on pixels after each, until 400 labels. What is labelled next is chosen by the routing of a run (`Choice`) with its
default selection, from the present model's margins and the pixels as vectors; in each seed's first round a whole run is
committed and routed besides, which must send the same. Then 100,000 candidates of 256 numbers under a budget of 1,000.

    python -m tests.benchmarks.annotation.selection --seeds 10
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.benchmarks.engine.line import say
from tests.jobs.drawn_runs import TASK, commit_run, job
from winnow_annotation.policies import Policy, ReviewSpec, SelectSpec
from winnow_annotation.routing import Choice
from winnow_annotation.wishes import Predictions
from winnow_jobs.review import route_run, seed_of
from winnow_jobs.routes import iter_sent
from winnow_storage.ids import item_id

FIRST_OF_CLASS, BATCH, MOST, TESTED = 2, 10, 400, 540
LEVELS = (0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96)
CLASSES = tuple("0123456789")
CANDIDATES, WIDTH, BUDGET = 100_000, 256, 1000
SELECTIONS = {"product": SelectSpec(), "random": SelectSpec(by="random", diverse=False)}

Floats = np.ndarray


def curve(by: SelectSpec, seed: int) -> list[tuple[int, float]]:
    """(labels, accuracy on the test images) of each round."""
    data = load_digits()
    pixels, digits = (data.data / 16).astype(np.float32), data.target
    order = np.random.default_rng(seed).permutation(len(digits))
    test, pool = order[:TESTED], order[TESTED:]
    labelled = [place for digit in range(10) for place in pool[digits[pool] == digit][:FIRST_OF_CLASS].tolist()]
    found = []
    while True:
        model = LogisticRegression(C=10, max_iter=300).fit(pixels[labelled], digits[labelled])
        found.append((len(labelled), float(model.score(pixels[test], digits[test]))))
        if len(labelled) >= MOST:
            return found
        left = np.setdiff1d(pool, labelled)
        scores = model.predict_proba(pixels[left])
        review = ReviewSpec(policies={TASK: Policy()}, budget=BATCH, select=by)
        if len(found) == 1:
            check(review, left, scores, pixels)
        labelled += choose(review, left, scores, pixels, seed=f"{seed} {len(found)}")


def choose(review: ReviewSpec, left: Floats, scores: Floats, pixels: Floats, *, seed: str) -> list[int]:
    """Which of the images that are left people are asked about, as a run's routing chooses it."""
    choice = Choice(review, seed=seed)
    names = {item_id("c", f"{place:04d}.png"): place for place in left.tolist()}
    ranked = np.sort(scores.astype(np.float32), axis=1)
    top, p_ok = pa.array(ranked[:, -1]), pa.nulls(len(left), pa.float32())
    margin = pa.array(ranked[:, -1] - ranked[:, -2])
    details = pa.StructArray.from_arrays([top, p_ok, margin], ["score", "p_ok", "margin"])
    items = pa.array(list(names))
    choice.see(TASK, Predictions(items, items, top, p_ok, None, "classify", details), place=0)
    choice.compare({item: pixels[names[item]] for of in choice.pool().values() for item in of})
    return [names[one.item_id] for one in choice.sent()]


def check(review: ReviewSpec, left: Floats, scores: Floats, pixels: Floats) -> None:
    """A run that is committed and routed sends what `Choice` chooses.

    Raises:
        SystemExit: it does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        resolved, runs = job(Path(folder), review, with_vectors=True)
        keys = [f"{place:04d}.png" for place in left.tolist()]
        plan = commit_run(runs, resolved, keys, scores, CLASSES, pixels[left])
        route_run(runs.store, plan)
        routed = [int(row["key"][:4]) for row in iter_sent(runs.store, plan.run_id, ["key", "route"])]
        if routed != choose(review, left, scores, pixels, seed=seed_of(plan)):
            raise SystemExit("a routed run sends other images than the same choice in memory")


def labels_to(level: float, curves: Sequence[Sequence[tuple[int, float]]]) -> float:
    """The median over seeds of the labels at which the accuracy is first reached; MOST where it never is."""
    reached = [next((labels for labels, accuracy in one if accuracy >= level), MOST) for one in curves]
    return statistics.median(reached)


def digits(seeds: int) -> None:
    """Two lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a regression that did not quite converge is a classifier all the same
        curves = {name: [curve(by, seed) for seed in range(seeds)] for name, by in SELECTIONS.items()}
    medians = {name: [labels_to(level, of) for level in LEVELS] for name, of in curves.items()}
    ratios = dict(zip(LEVELS, (a / b for a, b in zip(medians["product"], medians["random"], strict=True)), strict=True))
    setup = f"digits, seeds 0 to {seeds - 1}, logistic regression on pixels, {BATCH} a round, {TESTED} test images"
    shown = {name: dict(zip(map(str, LEVELS), of, strict=True)) for name, of in medians.items()}
    say("selection: labels to 95 % accuracy / random's", [ratios[0.95]], at_most=0.5, setup=setup, medians=shown)
    worst = max(ratios.values())
    say("selection: labels / random's, at the accuracy where that is worst", [worst], at_most=1.05, setup=setup)


def large() -> None:
    """A line each for time and memory; in a process of its own, whose memory is that of the choice."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, "--large"], capture_output=True, text=True, check=True
    ).stdout.split()
    setup = f"{CANDIDATES} candidates with vectors of {WIDTH} numbers, a budget of {BUDGET}"
    say("selection: seconds to choose", [float(done[0])], at_most=60, setup=setup)
    say("selection: GiB of memory at most, imports and rows included", [float(done[1])], at_most=4, setup=setup)


def measure() -> tuple[float, float]:
    """Seconds, and GiB at the peak."""
    rng = np.random.default_rng(1)
    scores = rng.dirichlet(np.full(4, 0.5), CANDIDATES)
    vectors = rng.normal(size=(CANDIDATES, WIDTH)).astype(np.float32)
    review = ReviewSpec(policies={TASK: Policy()}, budget=BUDGET)
    start = time.perf_counter()
    sent = choose(review, np.arange(CANDIDATES), scores, vectors, seed="s")
    took_s = time.perf_counter() - start
    if len(set(sent)) != BUDGET:
        raise SystemExit(f"{len(set(sent))} images were chosen under a budget of {BUDGET}")
    return took_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Print a line per point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.large:
        sys.stdout.write("{:.2f} {:.3f}\n".format(*measure()))
        return
    digits(options.seeds)
    large()


if __name__ == "__main__":
    main()
