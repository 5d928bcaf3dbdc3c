"""Are p-values those of the definition, and as rare as they say?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from winnow_workers.models import conformal

NUMBERS = st.floats(-1e6, 1e6)


@settings(max_examples=80, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=40), NUMBERS)
def test_p_value__as_defined(held_out: list[float], score: float) -> None:
    expected = (1 + sum(one >= score for one in held_out)) / (len(held_out) + 1)
    assert conformal.p_value(score, np.sort(held_out)) == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=300, unique=True), st.floats(0.001, 0.5))
def test_threshold__above_it_the_p_value_is_at_most_the_rate(held_out: list[float], rate: float) -> None:
    scores = np.sort(held_out)
    limit = conformal.threshold(scores, rate)
    above = conformal.p_value(float(np.nextafter(limit, np.inf)), scores)
    assert above <= max(rate, conformal.least_false_alarms(len(scores))) + 1e-9
    if limit < scores[-1]:  # and it is the lowest such score
        assert conformal.p_value(limit, scores) > rate - 1e-9


def test_threshold__ninety_nine_images_promise_one_in_a_hundred() -> None:
    scores = np.arange(1.0, 100.0)
    assert conformal.threshold(scores, 0.01) == 99.0
    assert conformal.threshold(scores, 0.05) == 95.0
    assert conformal.threshold(np.array([3.0, 1.0]), 0.01) == 3.0
    assert conformal.least_false_alarms(99) == 0.01


def test_p_value__uniform_for_new_normal_scores() -> None:
    """Over held-out draws too, as the promise says: each p-value has 99 of its own, and so is k / 100 equally often."""
    rng = np.random.default_rng(0)
    drawn = [conformal.p_value(rng.gamma(2.0), np.sort(rng.gamma(2.0, size=99))) for _ in range(5000)]
    counts = np.histogram(drawn, bins=np.arange(11) / 10 + 0.005)[0]
    assert chisquare(counts).pvalue > 0.001
    for rate in (0.01, 0.05, 0.2):
        assert np.mean([p <= rate for p in drawn]) == pytest.approx(rate, abs=4 * (rate * (1 - rate) / 5000) ** 0.5)
