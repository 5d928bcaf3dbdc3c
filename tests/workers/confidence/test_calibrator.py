"""Calibrators on outcomes whose true probability is known."""

import numpy as np
import pyarrow as pa
import pytest

from winnow_storage.errors import UsageError
from winnow_workers.confidence.calibrator import Calibrator, FittedOn, Subject, fit_calibrator
from winnow_workers.confidence.curves import Form, fit, forms
from winnow_workers.confidence.drift import ALPHA, Counted, Watch, sketch
from winnow_workers.confidence.features import Features, Floats, features

SUBJECT = Subject(task="kind", operator="segment", model="m", task_digest="t")
DRAW = FittedOn(labels=0, right=0, runs=("0001",), source="truth")


def scored(scores: Floats, operator: str = "segment") -> Features:
    return features(operator, pa.array([{"score": float(one)} for one in scores]))


def drawn(n: int, seed: int) -> tuple[Floats, Floats, np.ndarray]:
    """Overconfident scores, P(right) = score squared, and outcomes."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.3, 1.0, n)
    return scores, scores**2, rng.uniform(size=n) < scores**2


def fitted(n: int = 2000, seed: int = 1) -> Calibrator:
    scores, _, ok = drawn(n, seed)
    return fit_calibrator(SUBJECT, scored(scores), ok, population=scores, fitted_on=DRAW)


def test_p_ok__is_near_the_true_probability_on_new_items_and_monotone() -> None:
    scores, true, _ = drawn(4000, 2)
    calibrator = fitted()
    p_ok = calibrator.p_ok(scored(scores))
    assert np.abs(p_ok - true).mean() < 0.03 < np.abs(scores - true).mean()
    assert (np.diff(p_ok[np.argsort(scores)]) >= -1e-12).all()
    assert p_ok.min() > 0
    assert p_ok.max() < 1
    assert calibrator.log_losses[calibrator.form] == min(calibrator.log_losses.values())


def test_calibrator__same_labels_same_digest_and_json_keeps_it() -> None:
    calibrator = fitted()
    assert calibrator.digest == fitted().digest != fitted(seed=3).digest
    again = Calibrator.model_validate_json(calibrator.model_dump_json())
    assert again.digest == calibrator.digest
    assert again.id == f"{calibrator.kind}:{calibrator.digest[:12]}"


@pytest.mark.parametrize("form", forms(scored(np.array([0.5]))), ids=lambda form: form.name)
def test_fit__every_form_is_monotone(form: Form) -> None:
    scores, _, ok = drawn(500, 4)
    found = fit(form, scored(scores), ok)(scored(np.linspace(0, 1, 200)))
    assert (np.diff(found) >= -1e-12).all()


@pytest.mark.parametrize(("right", "at_most"), [(40, 41 / 42), (3, 0.8)])
def test_fit__the_ends_of_an_isotonic_form_are_no_surer_than_their_own_labels(right: int, at_most: float) -> None:
    rng = np.random.default_rng(6)
    scores = np.concatenate([rng.uniform(0.3, 0.6, 100 - right), rng.uniform(0.7, 1.0, right)])
    ok = np.concatenate([rng.uniform(size=100 - right) < 0.5, np.ones(right, bool)])
    ok[np.argmin(scores)] = False
    ok[np.argmax(np.where(scores < 0.65, scores, 0))] = False
    found = fit(Form("isotonic on score", "isotonic", ("score",)), scored(scores), ok)(scored(np.linspace(0, 1, 200)))
    assert found.max() == pytest.approx(at_most)
    assert found.min() >= 1 / 102
    assert (np.diff(found) >= -1e-12).all()


def test_p_ok__nothing_where_the_score_is_missing() -> None:
    found = fitted().p_ok(features("segment", pa.array([{"score": None}, {"score": 0.5}])))
    assert np.isnan(found[0])
    assert 0 < found[1] < 1


@pytest.mark.parametrize(("labels", "wrong"), [(99, 30), (400, 9), (400, 0)])
def test_fit_calibrator__too_few_says_how_many_are_needed(labels: int, wrong: int) -> None:
    scores = np.linspace(0.1, 0.9, labels)
    ok = np.arange(labels) >= wrong
    with pytest.raises(UsageError, match=r"needs at least 100, with 10 right and 10 wrong"):
        fit_calibrator(SUBJECT, scored(scores), ok, population=scores, fitted_on=DRAW)


def test_features__of_classify_temperature_one_is_the_score() -> None:
    rows = pa.array([{"score": 0.7, "margin": 0.5, "entropy": 0.8, "top": [{"score": 0.7}, {"score": 0.2}]}])
    found = features("classify", rows)
    assert found.tops is not None
    assert found.tops[0] == pytest.approx([0.7, 0.2, 0.1])
    names = [form.name for form in forms(found)]
    assert "temperature" in names
    assert "logistic on all" in names


def test_features__of_anomaly_the_threshold_is_least_sure() -> None:
    found = scored(np.array([0.5, 1.0, 2.0]), "anomaly").columns["far"]
    assert found[1] == 0
    assert found[0] == pytest.approx(found[2])


def test_fit_calibrator__of_anomaly_a_step_at_the_threshold_where_defects_are_missed_below_it() -> None:
    """Just below it most images are missed anomalies; just above hardly any is a false alarm."""
    rng = np.random.default_rng(9)
    scores = rng.uniform(0.5, 1.5, 3000)
    true = np.where(scores > 1, 0.97, 1 / (1 + np.exp(20 * (scores - 0.95))))
    ok = rng.uniform(size=3000) < true
    subject = SUBJECT.model_copy(update={"operator": "anomaly"})
    found = fit_calibrator(subject, scored(scores, "anomaly"), ok, population=scores, fitted_on=DRAW)
    assert found.form == "logistic on each side"
    below, above = found.p_ok(scored(np.array([0.999, 1.001]), "anomaly"))
    assert below < 0.4
    assert above > 0.9
    assert np.abs(found.p_ok(scored(scores, "anomaly")) - true).mean() < 0.03


def test_drift__alarms_on_a_shift_and_hardly_ever_without() -> None:
    rng = np.random.default_rng(5)
    kept, alarms = sketch(rng.beta(5, 2, 2000)), 0
    for _ in range(300):
        counted = Counted(kept)
        for part in np.array_split(rng.beta(5, 2, 1500), 4):
            counted.add(part)
        alarms += counted.drift().has_drifted
    assert alarms <= 3  # expected: at most 300 * ALPHA
    assert ALPHA == 0.001
    shifted = Counted(kept)
    shifted.add(rng.beta(4, 3, 1500))
    assert shifted.drift().has_drifted


def test_drift__a_score_that_most_share_is_no_drift() -> None:
    counted = Counted(sketch(np.array([1.0] * 900 + [0.5] * 100)))
    counted.add(np.array([1.0] * 450 + [0.5] * 50))
    assert counted.drift().distance == pytest.approx(0)
    assert counted.drift().n == 500


def test_drift__more_predictions_without_a_score_are_drift() -> None:
    scores = np.random.default_rng(6).uniform(size=1000)
    kept = sketch(np.where(np.arange(1000) < 50, np.nan, scores))
    for silent, has_drifted in ((50, False), (250, True)):
        counted = Counted(kept)
        for part in np.array_split(np.where(np.arange(1000) < silent, np.nan, scores), 3):
            counted.add(part)
        assert counted.drift().n == 1000
        assert counted.drift().has_drifted is has_drifted
    before = Counted(kept.model_copy(update={"silent": None}))  # it does not know how many had none
    before.add(np.array([np.nan, 0.5]))
    assert before.drift().n == 1


def test_watch__p_ok_tells_of_drift_that_the_score_does_not() -> None:
    rng = np.random.default_rng(7)
    scores = rng.uniform(size=2000)
    calibrator = fitted().watching(scores)
    assert calibrator.sketches.keys() == {"score", "p_ok"}
    assert Calibrator.model_validate_json(calibrator.model_dump_json()).digest == calibrator.digest != fitted().digest
    same = drawn(2000, 8)[0]
    for p_ok, of, has_drifted in ((rng.uniform(size=2000), None, False), (scores * 0.8, "p_ok", True)):
        watch = Watch(calibrator.sketches)
        watch.add({"score": same, "p_ok": p_ok.astype(np.float32)})
        assert watch.drift().has_drifted is has_drifted
        assert of in (None, watch.drift().of)
    assert fitted().watching(np.full(3, np.nan)).sketches.keys() == {"score"}
