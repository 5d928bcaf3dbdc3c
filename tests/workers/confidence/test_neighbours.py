"""Do labelled items that look alike speak against a sure model that is wrong?"""

import numpy as np
import pytest

from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.features import Features, Floats
from winnow_workers.confidence.neighbours import COUNT, gather
from winnow_workers.evaluation.risk_coverage import risk_coverage

CENTRES = np.eye(3, 20) * 8


def drawn(n: int, seed: int) -> tuple[Features, Floats, np.ndarray, np.ndarray]:
    """Items of three kinds, a tenth said wrongly, which no score tells: features, vectors, what is said, and true."""
    rng = np.random.default_rng(seed)
    true = rng.integers(3, size=n)
    said = np.where(rng.uniform(size=n) < 0.1, (true + 1) % 3, true)
    score = rng.uniform(0.5, 1.0, n)
    features = Features(score, {"score": score})
    return features, CENTRES[true] + rng.normal(size=(n, 20)), said.astype(str), true.astype(str)


def learned(n: int = 500) -> Calibrator:
    features, vectors, said, true = drawn(n, 1)
    known = gather("vector", "d", vectors, said == true, true.tolist())
    found = features.beside(known.columns(vectors, said, groups=np.arange(n)))
    subject = Subject(task="kind", operator="classify", model="m", task_digest="t")
    draw = FittedOn(labels=0, right=0, runs=(), source="truth")
    ok = said == true
    return fit_calibrator(subject, found, ok, population=features.score, fitted_on=draw, neighbours=known)


def test_neighbours__find_the_errors_that_the_score_does_not() -> None:
    calibrator = learned()
    assert calibrator.neighbours is not None
    assert "label" in calibrator.fields
    features, vectors, said, true = drawn(2000, 2)
    p_ok = calibrator.p_ok(features.beside(calibrator.neighbours.columns(vectors, said)))
    ok = said == true
    assert risk_coverage(features.score, ok).found_by_review(0.1) < 0.3
    assert risk_coverage(p_ok, ok).found_by_review(0.1) > 0.9
    again = Calibrator.model_validate_json(calibrator.model_dump_json())
    assert again.digest == calibrator.digest == learned().digest


def test_columns__are_the_nearest_ones_by_brute_force() -> None:
    _, vectors, said, true = drawn(60, 3)
    known = gather("vector", "d", vectors, said == true, true.tolist())
    _, others, says, _ = drawn(7, 4)
    found = known.columns(others, says)
    for row, vector in enumerate(others):
        far = np.linalg.norm(vectors - vector, axis=1)
        nearest = np.argsort(far)[:COUNT]
        agree = (true[nearest] == says[row]).sum()
        assert found["near_agree"][row] == pytest.approx(np.log((agree + 0.5) / (COUNT - agree + 0.5)))
        right = (said == true)[nearest].sum()
        assert found["near_right"][row] == pytest.approx(np.log((right + 0.5) / (COUNT - right + 0.5)))
    assert len(known.axes) < len(known.points)


def test_columns__no_item_is_its_own_witness_and_without_a_vector_nothing_is_known() -> None:
    _, vectors, said, true = drawn(40, 5)
    known = gather("vector", "d", vectors, said == true, true.tolist())
    alone = known.columns(vectors, said, groups=np.arange(40))
    assert (alone["near"] < known.columns(vectors, said)["near"]).all()
    missing = known.columns(np.full((1, 20), np.nan), np.array(["1"]))
    assert all(np.isnan(column).all() for column in missing.values())
    with pytest.raises(ValueError, match="length 3"):
        known.columns(np.zeros((1, 3)), np.array(["1"]))


def test_fit_calibrator__neighbours_that_tell_nothing_are_not_kept() -> None:
    rng = np.random.default_rng(6)
    score = rng.uniform(0.5, 1.0, 500)
    ok = rng.uniform(size=500) < score
    known = gather("vector", "d", rng.normal(size=(500, 4)), ok, ["1"] * 500)
    flat = {name: np.zeros(500) for name in ("near_agree", "near_right", "near")}
    subject = Subject(task="kind", operator="classify", model="m", task_digest="t")
    draw = FittedOn(labels=0, right=0, runs=(), source="truth")
    found = Features(score, {"score": score, **flat})
    assert fit_calibrator(subject, found, ok, population=score, fitted_on=draw, neighbours=known).neighbours is None
