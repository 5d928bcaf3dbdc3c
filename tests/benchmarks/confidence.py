"""Is `p_ok` a true probability on tasks that are hard, and does review by it find the errors?

scikit-learn's handwritten digits, under noise whose strength differs from image to image and is chosen on the
calibration images alone, so that the model errs on 10 to 20 %. Images that trained, calibrated and test are disjoint;
a test image appears under several draws of noise. The models run in this process, without Ray. Under corruption (half
the contrast, which nothing was fitted on) the figures are only reported, and the drift warning must fire.

    python -m tests.benchmarks.confidence
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier

from tests.benchmarks.engine.line import say
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.curves import Outcomes
from winnow_workers.confidence.drift import Counted
from winnow_workers.confidence.features import Features, Floats, features
from winnow_workers.evaluation.calibration_error import expected_calibration_error
from winnow_workers.evaluation.risk_coverage import risk_coverage

LABELS, HELD_OUT = 2000, 4200
LADDER = (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0)  # of the strongest noise; pixels are 0 to 16
WANTED_ERROR = 0.13
ODD_DIGITS = (8, 9)  # the anomalies
NOT_BUILT = ("detect", "segment", "ocr")

Predict = Callable[[Floats, np.ndarray], tuple[Features, Outcomes]]  # (n, 64) pixels and digits -> features, outcomes


@dataclass(frozen=True, slots=True)
class Split:
    """Images (n, 64) and their digits."""

    pixels: Floats
    digits: np.ndarray

    def noisy(self, count: int, strongest: float, seed: int, *, contrast: float = 1.0) -> tuple[Floats, np.ndarray]:
        """`count` draws: every image in turn, each with noise of its own strength from 0 to `strongest`."""
        rng = np.random.default_rng(seed)
        places = np.arange(count) % len(self.digits)
        strength = rng.uniform(0.0, strongest, (count, 1))
        noise = rng.normal(size=(count, self.pixels.shape[1])) * strength
        return contrast * self.pixels[places] + noise, self.digits[places]


def splits() -> tuple[Split, Split, Split]:
    """To train, to calibrate, held out."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    parts = np.split(order, [700, 1100])
    train, calibrate, held_out = (Split(data.data[part], data.target[part]) for part in parts)
    return train, calibrate, held_out


def classifier(train: Split) -> Predict:
    """A network of one hidden layer, trained on clean images alone."""
    model = MLPClassifier((128,), max_iter=300, random_state=0).fit(train.pixels / 16, train.digits)

    def predict(pixels: Floats, digits: np.ndarray) -> tuple[Features, Outcomes]:
        scores = model.predict_proba(pixels / 16)
        ranked = -np.sort(-scores, axis=1)
        rows = [
            {
                "score": float(top[0]),
                "margin": float(top[0] - top[1]),
                "entropy": float(-(top * np.log(np.clip(top, 1e-300, None))).sum()),
                "top": [{"score": float(one)} for one in top[:5]],
            }
            for top in ranked
        ]
        return features("classify", pa.array(rows)), scores.argmax(axis=1) == digits

    return predict


def detector(train: Split) -> Predict:
    """The distance to the nearest normal image, over the distance that 5 % of the normal ones exceed."""
    normal = train.pixels[~np.isin(train.digits, ODD_DIGITS)]
    known, others = normal[: len(normal) // 2], normal[len(normal) // 2 :]
    index = NearestNeighbors(n_neighbors=1).fit(known)
    threshold = float(np.quantile(index.kneighbors(others)[0][:, 0], 0.95))

    def predict(pixels: Floats, digits: np.ndarray) -> tuple[Features, Outcomes]:
        scores = index.kneighbors(pixels)[0][:, 0] / threshold
        rows = pa.array([{"score": float(one)} for one in scores])
        return features("anomaly", rows), (scores > 1.0) == np.isin(digits, ODD_DIGITS)

    return predict


def main() -> None:
    """Print a line per point."""
    train, calibrate, held_out = splits()
    for task, predict in (("classify", classifier(train)), ("anomaly", detector(train))):
        strongest = min(LADDER, key=lambda one: abs(_error(predict, calibrate, one) - WANTED_ERROR))
        seen, ok = predict(*calibrate.noisy(LABELS, strongest, 1))
        calibrator = fit_calibrator(
            Subject(task=task, operator=task, model="benchmark", task_digest="benchmark"),
            seen,
            ok,
            population=seen.score,
            fitted_on=FittedOn(labels=0, right=0, runs=(), source="truth"),
        )
        _tell(task, predict, held_out, strongest, calibrator)
    for task in NOT_BUILT:
        for point, bound in (("ece", {"at_most": 0.03}), ("found by review", {"at_least": 0.7})):
            say(f"confidence: {task}: {point}", [], setup="not built yet", **bound)


def _error(predict: Predict, split: Split, strongest: float) -> float:
    return 1.0 - float(predict(*split.noisy(LABELS, strongest, 1))[1].mean())


def _tell(task: str, predict: Predict, held_out: Split, strongest: float, calibrator: Calibrator) -> None:
    found, ok = predict(*held_out.noisy(HELD_OUT, strongest, 2))
    bad, bad_ok = predict(*held_out.noisy(HELD_OUT, strongest, 2, contrast=0.5))
    p_ok, bad_p_ok = calibrator.p_ok(found), calibrator.p_ok(bad)
    draws = f"{LABELS} labels, {HELD_OUT} held-out draws of {len(held_out.digits)} images"
    setup = f"digits, noise up to {strongest:g}, {draws}, 15 fixed bins, no Ray"
    losses: dict[str, Any] = {"won": calibrator.form, "log_losses": dict(calibrator.log_losses)}
    error = 1.0 - float(ok.mean())
    say(f"confidence: {task}: error on held-out items, within 0.1 to 0.2", [error], at_most=0.2, setup=setup)
    if error < 0.1:
        say(f"confidence: {task}: error is under 0.1, easier than wanted", [error], at_least=0.1, setup=setup)
    ece = expected_calibration_error(p_ok, ok)
    say(f"confidence: {task}: ece", [ece], at_most=0.03, setup=setup, **losses)
    if task == "classify":
        raw = expected_calibration_error(np.clip(found.score, 0, 1), ok)
        say(f"confidence: {task}: ece of the raw score", [raw], setup=setup)
    by_review = risk_coverage(p_ok, ok).found_by_review(0.1)
    say(f"confidence: {task}: found by review", [by_review], at_least=0.7, setup=setup)
    _tell_drift(task, calibrator, found, bad, setup)
    say(f"confidence: {task}: corrupted: error", [1.0 - float(bad_ok.mean())], setup=setup)
    say(f"confidence: {task}: corrupted: ece", [expected_calibration_error(bad_p_ok, bad_ok)], setup=setup)
    found_there = risk_coverage(bad_p_ok, bad_ok).found_by_review(0.1)
    say(f"confidence: {task}: corrupted: found by review", [found_there], setup=setup)


def _tell_drift(task: str, calibrator: Calibrator, found: Features, bad: Features, setup: str) -> None:
    for name, some, bound in (("", found, {"at_most": 0.0}), ("corrupted: ", bad, {"at_least": 1.0})):
        counted = Counted(calibrator.sketch)
        counted.add(some.score)
        drift = counted.drift()
        more = {"distance": round(drift.distance, 3), "threshold": round(drift.threshold, 3)}
        say(f"confidence: {task}: {name}drift warned", [float(drift.has_drifted)], setup=setup, **bound, **more)


if __name__ == "__main__":
    main()
