"""Whether two samples are of one distribution: what the tests say, and how often they say it of nothing."""

import numpy as np
import pytest

from winnow_workers.confidence import two_samples
from winnow_workers.confidence.two_samples import MOST_CLASSES, SHUFFLES, compare_classes, compare_vectors, shuffles


def test_compare_vectors__false_alarms_are_as_seldom_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_samples, "SHUFFLES", 199)
    rng, alarms = np.random.default_rng(1), 0
    for turn in range(200):
        before, now = rng.normal(size=(60, 5)), rng.normal(size=(50, 5))
        alarms += compare_vectors(before, now, limit=0.1, seed=turn).p_value <= 0.1
    assert 8 <= alarms <= 34  # 20 expected, three standard deviations


@pytest.mark.parametrize("change", ["mean", "spread", "some"])
def test_compare_vectors__sees_a_change(change: str) -> None:
    rng = np.random.default_rng(2)
    before, now = rng.normal(size=(300, 16)), rng.normal(size=(200, 16))
    if change == "mean":
        now += 0.4
    elif change == "spread":
        now *= 1.5
    else:
        now[:30] += 2.5
    found = compare_vectors(before, now, limit=0.003, seed=0)
    assert found.p_value == 1 / (1 + SHUFFLES)
    assert found.distance > found.threshold
    if change == "some":
        assert np.mean(np.argsort(-found.unlike)[:20] < 30) > 0.9


def test_compare_vectors__p_and_threshold_say_the_same_and_far_from_zero_nothing_cancels() -> None:
    rng = np.random.default_rng(3)
    before, now = rng.normal(size=(80, 4)), rng.normal(size=(60, 4)) + 0.3
    near, far = (compare_vectors(before + at, now + at, limit=0.05, seed=7) for at in (0.0, 1000.0))
    assert far.p_value == pytest.approx(near.p_value, abs=0.01)
    assert (near.p_value <= 0.05) == (near.distance > near.threshold)
    assert compare_vectors(before, now, limit=0.05, seed=7).p_value == near.p_value


def test_compare_vectors__rows_that_are_all_the_same_part_in_nothing() -> None:
    rows = np.ones((50, 3))
    assert compare_vectors(rows, rows, limit=0.01, seed=0).p_value == 1


def test_compare_classes__is_exact_for_few_and_sees_a_new_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_samples, "CLASS_SHUFFLES", 999)
    rng, alarms = np.random.default_rng(4), 0
    for turn in range(200):
        before, now = (np.bincount(rng.choice(4, n, p=[0.7, 0.2, 0.08, 0.02]), minlength=4) for n in (60, 25))
        counts = [{str(name): int(count) for name, count in enumerate(some)} for some in (before, now)]
        alarms += compare_classes(*counts, limit=0.1, seed=turn).p_value <= 0.1
    assert alarms <= 34
    found = compare_classes({"a": 80, "b": 20}, {"a": 30, "b": 10, "new": 10}, limit=0.01, seed=0)
    assert found.p_value == 0.001  # the least there is
    assert found.distance == pytest.approx(0.3814, abs=1e-4)  # chi-square 21.82 of 150
    assert found.distance > found.threshold
    assert compare_classes({"a": 50}, {"a": 40}, limit=0.01, seed=0).p_value == 1


def test_compare_classes__many_classes_are_some_and_the_rest() -> None:
    before = {f"{place:04d}": 1 for place in range(10 * MOST_CLASSES)}
    now = {f"{place + 5 * MOST_CLASSES:04d}": 1 for place in range(10 * MOST_CLASSES)}
    assert compare_classes(before, now, limit=0.01, seed=0).p_value > 0.01  # each was seen once or twice: who knows


def test_shuffles__are_enough_for_the_limit() -> None:
    assert shuffles(1999, 0.01) == 1999
    assert 1 / (1 + shuffles(1999, 0.0001)) < 0.0001
