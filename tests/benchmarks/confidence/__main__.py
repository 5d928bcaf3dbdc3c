"""Is `p_ok` a true probability on tasks that are hard, and does review by it find the errors?

Each task goes through its operator: classify, detect and segment with networks that are trained here on painted images,
anomaly by PatchCore and by PaDiM fitted here, ocr by rapidocr on printed lines. How much the images are spoiled is
chosen on the calibration images alone, so that the model errs on 10 to 20 % (for ocr it is fixed: reading takes long).
Every image is painted once, from its own seed: those that trained, calibrated and test are others. Without Ray. Under
corruption (other contrast, which nothing was fitted on) the figures are only reported, and the drift warning must fire.

Where there are vectors, each point is told twice: by the operator's scores alone, and with `--neighbours`; the
calibrator of the second is the one that won, by held-out log loss, whether it heeds neighbours or not.

    python -m tests.benchmarks.confidence [TASK ...]
"""

import sys
from typing import Any

import numpy as np

from tests.benchmarks.confidence import pages, painted, single
from tests.benchmarks.confidence.hard import Answers, Hard
from tests.benchmarks.engine.line import say
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.drift import Watch
from winnow_workers.confidence.features import Features
from winnow_workers.confidence.neighbours import Neighbours, gather
from winnow_workers.confidence.parts import Bools, Floats
from winnow_workers.evaluation.calibration_error import expected_calibration_error
from winnow_workers.evaluation.intervals import bootstrap
from winnow_workers.evaluation.risk_coverage import risk_coverage

WANTED_ERROR = 0.14
MOST_ECE, LEAST_FOUND, REVIEWED = 0.03, 0.7, 0.1
RESAMPLES = 200
SUBJECT = {"task": "benchmark", "model": "benchmark", "task_digest": "benchmark"}


def main() -> None:
    """Print a line per point."""
    asked = sys.argv[1:]
    for task in (*single.tasks(), *painted.tasks(), *pages.tasks()):
        if not asked or task.operator in asked:
            _tell(task)


def _tell(task: Hard) -> None:
    strength, seen = _hard_enough(task)
    held, bad = task.answers("held out", strength), task.answers("corrupted", strength)
    setup = (
        f"{task.setup.format(f'{strength:g}')}, {len(seen.ok)} labels, {len(held.ok)} held out, 15 fixed bins, no Ray"
    )
    _tell_error(task.name, held, setup)
    calibrator, near = _fit(task.operator, seen, None), _near(seen)
    if near is not None:
        _tell_truth(f"{task.name}, by its own scores alone", calibrator, held, None, setup, bounded=True)
        calibrator = _fit(task.operator, seen, near)
    _tell_truth(task.name, calibrator, held, near, setup, bounded=True)
    _tell_others(task, held, setup)
    _tell_drift(task.name, calibrator, (held, bad), near, setup)
    say(f"confidence: {task.name}: corrupted: error", [_error(bad.ok)], setup=setup)
    _tell_truth(f"{task.name}: corrupted", calibrator, bad, near, setup, bounded=False)


def _hard_enough(task: Hard) -> tuple[float, Answers]:
    """The strength whose error on the calibration images is nearest to the wanted one; errors grow along the ladder."""
    best: tuple[float, Answers] | None = None
    for strength in task.ladder:
        found = task.answers("calibrate", strength)
        if best is None or abs(_error(found.ok) - WANTED_ERROR) < abs(_error(best[1].ok) - WANTED_ERROR):
            best = (strength, found)
        if _error(found.ok) > WANTED_ERROR:
            break
    if best is None:
        raise ValueError(f"{task.name}: no strength to choose from")
    return best


def _error(ok: Bools) -> float:
    return 1.0 - float(ok.mean())


def _near(seen: Answers) -> Neighbours | None:
    alike = seen.alike
    return None if alike is None else gather("vectors", "benchmark", alike.vectors, seen.ok, alike.truths.tolist())


def _fit(operator: str, seen: Answers, near: Neighbours | None) -> Calibrator:
    looked_at = _with(seen, near, fitting=True)
    calibrator = fit_calibrator(
        Subject(operator=operator, **SUBJECT),
        looked_at,
        seen.ok,
        population=seen.found.score,
        fitted_on=FittedOn(labels=0, right=0, runs=(), source="truth"),
        neighbours=near,
    )
    return calibrator.watching(calibrator.p_ok(looked_at))


def _with(some: Answers, near: Neighbours | None, *, fitting: bool) -> Features:
    """With what neighbours say; a labelled item is no witness of itself."""
    if near is None or some.alike is None:
        return some.found
    own = np.arange(len(some.ok)) if fitting else None
    return some.found.beside(near.columns(some.alike.vectors, some.alike.said, groups=own))


def _p_ok(calibrator: Calibrator, some: Answers, near: Neighbours | None) -> Floats:
    """Where there is no score (nothing was read) there is no p_ok; it ranks below all others."""
    return calibrator.p_ok(_with(some, near, fitting=False))


def _tell_error(name: str, held: Answers, setup: str) -> None:
    error = _error(held.ok)
    say(f"confidence: {name}: error on held-out items, within 0.1 to 0.2", [error], at_most=0.2, setup=setup)
    if error < 0.1:
        say(f"confidence: {name}: error is under 0.1, easier than wanted", [error], at_least=0.1, setup=setup)


def _tell_truth(
    name: str, calibrator: Calibrator, held: Answers, near: Neighbours | None, setup: str, *, bounded: bool
) -> None:
    p_ok = _p_ok(calibrator, held, near)
    known = np.isfinite(p_ok)
    more: dict[str, Any] = {"won": calibrator.form, "without_p_ok": int((~known).sum())}
    if bounded:
        more["log_losses"] = dict(calibrator.log_losses)
        if calibrator.parts is not None:
            more["parts_won"], more["parts_log_losses"] = calibrator.parts.form, dict(calibrator.parts.log_losses)
    claims, ok = p_ok[known], held.ok[known]
    ece = expected_calibration_error(claims, ok)
    more["interval"] = _interval(lambda chosen: expected_calibration_error(claims[chosen], ok[chosen]), len(claims))
    say(f"confidence: {name}: ece", [ece], at_most=MOST_ECE if bounded else None, setup=setup, **more)
    found = risk_coverage(p_ok, held.ok).found_by_review(REVIEWED)
    interval = _interval(
        lambda chosen: risk_coverage(p_ok[chosen], held.ok[chosen]).found_by_review(REVIEWED), len(p_ok)
    )
    why = _why_missed(p_ok, held.ok) if bounded and found < LEAST_FOUND else ""
    bound = LEAST_FOUND if bounded else None
    say(f"confidence: {name}: found by review", [found], at_least=bound, setup=f"{setup}{why}", interval=interval)


def _interval(statistic: Any, n: int) -> list[float]:
    """95 %, by drawing the held-out items again."""
    found = bootstrap(statistic, n, draws=RESAMPLES, seed=0)
    return [round(found.low, 3), round(found.high, 3)]


def _why_missed(p_ok: Floats, ok: Bools) -> str:
    ranked = np.argsort(np.where(np.isnan(p_ok), -1.0, p_ok), kind="stable")[: int(REVIEWED * len(ok))]
    said, true = 1.0 - float(np.nanmean(p_ok[ranked])), _error(ok[ranked])
    return (
        f"; missed: in the tenth with the lowest p_ok {true:.2f} are wrong, which p_ok puts at {said:.2f}: it is true, "
        "but what it looks at does not tell the errors from the others any further"
    )


def _tell_others(task: Hard, held: Answers, setup: str) -> None:
    """The engine's score, ranked and, where it lies in [0, 1], as if it were a probability; and what else it gives."""
    score = held.found.score
    known = np.isfinite(score)
    if task.operator != "anomaly":
        raw = expected_calibration_error(np.clip(score[known], 0, 1), held.ok[known])
        say(f"confidence: {task.name}: ece of the raw score", [raw], setup=setup)
    ranked = np.abs(np.log(np.clip(score, 1e-6, None))) if task.operator == "anomaly" else score
    found = risk_coverage(ranked, held.ok).found_by_review(REVIEWED)
    say(f"confidence: {task.name}: found by review by the raw score", [found], setup=setup)
    for what, claims in held.others.items():
        say(f"confidence: {task.name}: ece of {what}", [expected_calibration_error(claims, held.ok)], setup=setup)
        found = risk_coverage(claims, held.ok).found_by_review(REVIEWED)
        say(f"confidence: {task.name}: found by review by {what}", [found], setup=setup)


def _tell_drift(
    name: str, calibrator: Calibrator, parts: tuple[Answers, Answers], near: Neighbours | None, setup: str
) -> None:
    for where, some, bound in (("", parts[0], {"at_most": 0.0}), ("corrupted: ", parts[1], {"at_least": 1.0})):
        watch = Watch(calibrator.sketches)
        watch.add({"score": some.found.score, "p_ok": _p_ok(calibrator, some, near).astype(np.float32)})
        drift = watch.drift()
        more = {"of": drift.of, "distance": round(drift.distance, 3), "threshold": round(drift.threshold, 3)}
        say(f"confidence: {name}: {where}drift warned", [float(drift.has_drifted)], setup=setup, **bound, **more)


if __name__ == "__main__":
    main()
