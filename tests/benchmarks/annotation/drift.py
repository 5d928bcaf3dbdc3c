"""Is drift seen in the run where it begins, and how often is it seen where there is none? By the product's own routing.

scikit-learn's digits as nights of 200 images each, drawn anew with replacement; a logistic regression that learned from
200 others predicts them, and their pixels are the vectors; 40 of each night are drawn and answered. 50 jobs of four
nights: three without drift, of which two are compared with what came before, then one with a change to its images or
classes. Then one job of 40 nights without drift, whose runs share what they are compared with.

    python -m tests.benchmarks.annotation.drift --jobs 50
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.benchmarks.engine.line import say
from tests.jobs.drawn_runs import TASK, answer, commit_run, job
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.runs import Runs

NIGHT, TAUGHT, CALM, DRAWN = 200, 200, 3, 40
CLASSES = tuple("0123456789")
LONG = 40

Floats = np.ndarray
Change = Callable[[Floats, np.random.Generator], Floats]  # (n, 8, 8) images


def noise(images: Floats, rng: np.random.Generator) -> Floats:
    """Sensor noise, a fifth of the range."""
    return np.clip(images + rng.normal(0, 0.2, images.shape), 0, 1)


def blur(images: Floats, _: np.random.Generator) -> Floats:
    """Out of focus: a mean over three by three."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    return sum(padded[:, dy : dy + 8, dx : dx + 8] for dy in range(3) for dx in range(3)) / 9


def darker(images: Floats, _: np.random.Generator) -> Floats:
    """Less light."""
    return images * 0.7


def inverted_tenth(images: Floats, _: np.random.Generator) -> Floats:
    """A tenth of the images are of another kind: dark on light."""
    changed = images.copy()
    changed[: len(images) // 10] = 1 - changed[: len(images) // 10]
    return changed


def unchanged(images: Floats, _: np.random.Generator) -> Floats:
    """Only the classes change."""
    return images


CHANGES: Mapping[str, tuple[Change, float]] = {  # with the share of nights' images that are of class 8 beside its own
    "noise": (noise, 0.0),
    "blur": (blur, 0.0),
    "less light": (darker, 0.0),
    "a tenth of another kind": (inverted_tenth, 0.0),
    "a quarter more of one class": (unchanged, 0.25),
}


class Job:
    """Nights of one job."""

    def __init__(self, folder: Path, seed: int) -> None:
        data = load_digits()
        self._rng = np.random.default_rng(seed)
        order = self._rng.permutation(len(data.target))
        self._images, self._digits = data.images / 16, data.target
        taught, self._pool = order[:TAUGHT], order[TAUGHT:]
        self._model = LogisticRegression(C=10, max_iter=300).fit(
            self._pixels(self._images[taught]), self._digits[taught]
        )
        review = ReviewSpec(policies={TASK: Policy()}, budget=DRAWN, calibrate=DRAWN)
        self._resolved: ResolvedSpec
        self._runs: Runs
        self._resolved, self._runs = job(folder, review, with_vectors=True)

    def night(self, change: Change = unchanged, more: float = 0.0) -> dict[str, Any]:
        """Commit, route and answer a run; its record."""
        places = self._rng.choice(self._pool, NIGHT)
        eights = self._pool[self._digits[self._pool] == 8]
        of_one = self._rng.uniform(size=NIGHT) < more
        places[of_one] = self._rng.choice(eights, int(of_one.sum()))
        pixels = self._pixels(change(self._images[places], self._rng))
        number = len(self._runs.ids()) + 1
        keys = [f"{number:04d}/{place:04d}.png" for place in range(NIGHT)]
        plan = commit_run(self._runs, self._resolved, keys, self._model.predict_proba(pixels), CLASSES, pixels)
        record = route_run(self._runs.store, plan)
        truth = dict(zip(keys, map(str, self._digits[places].tolist()), strict=True))
        answer(self._runs, plan.run_id, truth, ["calibrate"])
        return record

    @staticmethod
    def _pixels(images: Floats) -> Floats:
        return images.reshape(len(images), -1)


def main() -> None:
    """Print a line per point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=50)
    jobs: int = parser.parse_args().jobs
    calm: list[dict[str, Any]] = []
    seen: dict[str, list[bool]] = {name: [] for name in CHANGES}
    inputs: list[bool] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a regression that did not quite converge is a classifier all the same
        for seed in range(jobs):
            name = list(CHANGES)[seed % len(CHANGES)]
            with tempfile.TemporaryDirectory() as folder:
                one = Job(Path(folder), seed)
                calm += [one.night() for _ in range(CALM)][1:]
                alarm = one.night(*CHANGES[name])["drift_alarm"]
            seen[name].append(alarm is not None)
            inputs.append(alarm is not None and "inputs" in alarm["moved"])
        with tempfile.TemporaryDirectory() as folder:
            one = Job(Path(folder), jobs)
            long = [one.night() for _ in range(LONG)][1:]
    setup = (
        f"digits, nights of {NIGHT} images, seeds 0 to {jobs - 1}, {DRAWN} answered draws a night, default review.drift"
    )
    raised = [record["drift_alarm"] is not None for record in calm]
    tests = sorted({one["kind"] for record in calm for one in record["drift"]})
    point = f"drift: runs without drift that raise an alarm, of {len(raised)}"
    say(point, [float(np.mean(raised))], at_most=0.05, setup=setup, tests=tests)
    every = [one for some in seen.values() for one in some]
    shares = {name: float(np.mean(some)) for name, some in seen.items() if some}
    point = f"drift: runs with injected drift that raise an alarm, of {len(every)}"
    say(point, [float(np.mean(every))], at_least=0.95, setup=setup, by_change=shares, inputs=float(np.mean(inputs)))
    raised = [record["drift_alarm"] is not None for record in long]
    point = f"drift: runs of one job without drift that raise an alarm, of {len(raised)}"
    say(point, [float(np.mean(raised))], at_most=0.05, setup=f"{setup}; seed {jobs}")


if __name__ == "__main__":
    main()
