"""Is a promise kept as often as it says, through the product's own routing over committed rows?

scikit-learn's digits, many seeded splits. In each a logistic regression learns from 200 labels; a first run predicts
the other 1,597 images and draws 600 of them to calibrate; people (the truth) answer; a second run predicts the 997 that
were not drawn. What the second run accepts is compared with the truth. The same with a model that an active-learning
round has taught: half of its 200 labels were chosen for a small margin. The trap there: its labels at hand, all of
which it learned from, taken for the evidence.

    python -m tests.benchmarks.annotation.guarantee --splits 200
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.benchmarks.engine.line import say
from tests.jobs.drawn_runs import TASK, answer, commit_run, job
from winnow_annotation.guarantees.fit import Labelled, fit
from winnow_annotation.guarantees.rank_counts import RankCounts
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.audit import audit_records
from winnow_jobs.review import route_run
from winnow_jobs.routes import iter_routes

MAX_ERROR, CONFIDENCE = 0.02, 0.9
LABELS, CALIBRATE, AUDIT = 200, 600, 0.3
POLICY = Policy(max_error=MAX_ERROR, confidence=CONFIDENCE)
CLASSES = tuple("0123456789")

Floats = np.ndarray
Train = Callable[[Floats, Floats, np.random.Generator], tuple[LogisticRegression, Floats]]  # -> model, labelled places


@dataclass(frozen=True, slots=True)
class Ended:
    """Of one split: whether anything was accepted that breaks the promise, how much was, and what the audit said."""

    is_broken: bool
    coverage: float
    is_covered: bool
    trap_is_broken: bool
    naive_is_broken: bool


def at_random(pixels: Floats, digits: Floats, rng: np.random.Generator) -> tuple[LogisticRegression, Floats]:
    """A model of 200 random labels."""
    chosen = rng.permutation(len(digits))[:LABELS]
    return fitted(pixels, digits, chosen), chosen


def by_margin(pixels: Floats, digits: Floats, rng: np.random.Generator) -> tuple[LogisticRegression, Floats]:
    """A model of 100 random labels, then of 100 more with the smallest margins: an active-learning round."""
    order = rng.permutation(len(digits))
    chosen, pool = order[: LABELS // 2], order[LABELS // 2 :]
    first = np.sort(fitted(pixels, digits, chosen).predict_proba(pixels[pool]), axis=1)
    hardest = pool[np.argsort(first[:, -1] - first[:, -2], kind="stable")[: LABELS // 2]]
    chosen = np.concatenate([chosen, hardest])
    return fitted(pixels, digits, chosen), chosen


def fitted(pixels: Floats, digits: Floats, chosen: Floats) -> LogisticRegression:
    """Logistic regression on pixels."""
    return LogisticRegression(C=10, max_iter=300).fit(pixels[chosen], digits[chosen])


def split(folder: Path, seed: int, train: Train) -> Ended:
    """One split, through two runs of the product."""
    data = load_digits()
    pixels, digits = data.data / 16, data.target
    model, taught = train(pixels, digits, np.random.default_rng(seed))
    rest = np.setdiff1d(np.arange(len(digits)), taught)
    scores = model.predict_proba(pixels)
    names = np.array([f"{place:04d}.png" for place in range(len(digits))])
    truth = {f"{run}/{name}": str(digit) for run in "12" for name, digit in zip(names, digits, strict=True)}
    resolved, runs = job(folder, review(calibrate=CALIBRATE))
    first = commit_run(runs, resolved, [f"1/{name}" for name in names[rest]], scores[rest], CLASSES)
    route_run(runs.store, first)
    assert answer(runs, first.run_id, truth, ["calibrate"]) == CALIBRATE
    drawn = {row["key"][2:] for row in people(runs, first.run_id)}
    new = rest[~np.isin(names[rest], list(drawn))]
    later, _ = job(folder, review(audit=AUDIT))
    second = commit_run(runs, later, [f"2/{name}" for name in names[new]], scores[new], CLASSES)
    route_run(runs.store, second)
    answer(runs, second.run_id, truth, ["audit"])
    routes = [row for batch in iter_routes(runs.store, second.run_id, ["key", "route"]) for row in batch.to_pylist()]
    accepted = [row["key"][2:] for row in routes if row["route"] in ("accept", "audit")]
    wrong = scores.argmax(axis=1) != digits
    places = np.isin(names, accepted)
    error = float(wrong[places].mean()) if places.any() else 0.0
    audits = audit_records(later, runs)
    low, high = audits[0]["all"]["error_interval"] if audits else (0.0, 1.0)
    calibrated = np.isin(names, list(drawn))
    return Ended(
        is_broken=error > MAX_ERROR,
        coverage=len(accepted) / len(new),
        is_covered=low <= error <= high,
        trap_is_broken=broken_by(trapped(scores, wrong, taught, rest), scores, wrong, new),
        naive_is_broken=broken_by(naive(scores[calibrated], wrong[calibrated]), scores, wrong, new),
    )


def review(*, calibrate: int = 0, audit: float = 0.0) -> ReviewSpec:
    """The spec's section of one of the two runs."""
    return ReviewSpec(policies={TASK: POLICY}, calibrate=calibrate, audit=audit, budget=CALIBRATE)


def people(runs: object, run_id: str) -> list[dict[str, str]]:
    """What was drawn to calibrate."""
    rows = iter_routes(runs.store, run_id, ["key", "route"])  # type: ignore[attr-defined]
    return [row for batch in rows for row in batch.to_pylist() if row["route"] == "calibrate"]


def trapped(scores: Floats, wrong: Floats, taught: Floats, rest: Floats) -> float:
    """The score to accept from, by the same method on the labels that the model learned from."""
    counts = RankCounts()
    counts.add(ranked(scores[rest]))
    found = fit(POLICY, Labelled(ranked(scores[taught]), wrong[taught].astype(float)), counts).threshold
    return 2.0 if found is None else 1 - float(np.exp(-found))


def naive(scores: Floats, wrong: Floats) -> float:
    """The lowest score from which on at most 2 % of the calibration labels are wrong, without any bound."""
    top = scores.max(axis=1)
    order = np.argsort(-top)
    rates = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    allowed = np.flatnonzero(rates <= MAX_ERROR)
    return float(top[order][allowed[-1]]) if len(allowed) else 2.0


def broken_by(threshold: float, scores: Floats, wrong: Floats, new: Floats) -> bool:
    """Whether accepting from this score on breaks the promise."""
    accepted = new[scores[new].max(axis=1) >= threshold]
    return bool(len(accepted)) and float(wrong[accepted].mean()) > MAX_ERROR


def ranked(scores: Floats) -> Floats:
    """The rank of the top score, as `winnow_annotation.ranks` has it."""
    return np.abs(-np.log(np.clip(1 - scores.max(axis=1).astype(np.float32).astype(float), 0, 1)))


MODELS: dict[str, Train] = {"random labels": at_random, "after active learning": by_margin}


def main() -> None:
    """Print a line per point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--only", choices=MODELS, help="one of the two models")
    options = parser.parse_args()
    splits: int = options.splits
    for name, train in MODELS.items():
        if options.only not in (None, name):
            continue
        ended = []
        with warnings.catch_warnings(), np.errstate(divide="ignore"):
            warnings.simplefilter("ignore")  # a regression that did not quite converge is a classifier all the same
            for seed in range(splits):
                with tempfile.TemporaryDirectory() as folder:
                    ended.append(split(Path(folder), seed, train))
        setup = (
            f"digits, seeds 0 to {splits - 1}, logistic regression on {LABELS} labels, {CALIBRATE} uniform draws, "
            f"max_error {MAX_ERROR}, confidence {CONFIDENCE}, two runs of the product a split"
        )

        def share(of: str, ended: list[Ended] = ended) -> list[float]:
            return [float(np.mean([getattr(one, of) for one in ended]))]

        say(f"guarantee: {name}: splits in which it breaks", share("is_broken"), at_most=0.1, setup=setup)
        say(f"guarantee: {name}: accepted without review", share("coverage"), at_least=0.6, setup=setup)
        say(f"guarantee: {name}: 95 % interval of the audit covers", share("is_covered"), at_least=0.93, setup=setup)
        say(f"guarantee: {name}: naive threshold breaks", share("naive_is_broken"), setup=setup)
        if train is by_margin:
            point = f"guarantee: {name}: fitted on the labels that it learned from, it breaks"
            say(point, share("trap_is_broken"), at_least=0.5, setup=setup)


if __name__ == "__main__":
    main()
