"""Tests of what the mean of bounded losses says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_annotation.guarantees import binomial, bounded

TOTALS = st.integers(1, 300).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n)))


@given(TOTALS, st.floats(0.01, 0.9))
def test_p_value__never_below_the_exact_one_of_the_losses_rounded_down(one: tuple[float, int], mean: float) -> None:
    total, labels = one
    assert bounded.p_value(total, labels, mean) >= binomial.p_value(int(total), labels, mean) - 1e-9 or total % 1 > 0


@settings(deadline=None)
@given(TOTALS, st.floats(0.6, 0.99))
def test_upper__is_above_the_mean_and_where_the_test_turns(one: tuple[float, int], certainty: float) -> None:
    total, labels = one
    bound = bounded.upper(total, labels, certainty)
    assert bound >= total / labels - 1e-12
    assert bounded.p_value(total, labels, min(1.0, bound + 1e-9)) <= 1 - certainty + 1e-6 or bound == 1.0


def test_upper__covers_the_true_mean() -> None:
    rng = np.random.default_rng(0)
    below = [bounded.upper(float(rng.beta(1, 9, 200).sum()), 200, 0.9) < 0.1 for _ in range(300)]
    assert np.mean(below) <= 0.1


def test_risk_control__keeps_the_expected_loss_that_passes() -> None:
    """Over many draws, the loss of the next item, if accepted, is at most what was asked for in the mean."""
    rng = np.random.default_rng(1)
    passed, accepted = [], []
    for _ in range(400):
        ranks = rng.uniform(0, 1, 201)
        losses = rng.uniform(0, 1, 201) * (1 - ranks)
        threshold = bounded.risk_control(ranks[:-1], losses[:-1], 0.1)
        assert threshold is not None
        passed.append(losses[-1] * (ranks[-1] >= threshold))
        accepted.append(ranks[-1] >= threshold)
    assert np.mean(passed) <= 0.1 + 2 * np.std(passed) / 20
    assert np.mean(accepted) > 0.4


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9, float("nan")]), st.floats(0, 1)), max_size=30))
def test_risk_control__takes_all_of_a_rank_or_none(pairs: list[tuple[float, float]]) -> None:
    ranks, losses = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    found = bounded.risk_control(ranks, losses, 0.2)
    if found is not None:
        assert (losses[ranks >= found].sum() + 1) / (len(pairs) + 1) <= 0.2 + 1e-9


def test_risk_control__needs_a_label_for_the_next_item() -> None:
    assert bounded.labels_needed_in_expectation(0.1) == 9
    assert bounded.risk_control(np.ones(8), np.zeros(8), 0.1) is None
    assert bounded.risk_control(np.ones(9), np.zeros(9), 0.1) == 1.0


@pytest.mark.parametrize(("total", "labels"), [(0.0, 50), (5.5, 50), (50.0, 50)])
def test_interval__is_symmetric_and_around_the_mean(total: float, labels: int) -> None:
    low, high = bounded.interval(total, labels)
    assert low <= total / labels <= high
    other_low, other_high = bounded.interval(labels - total, labels)
    assert (1 - other_high, 1 - other_low) == pytest.approx((low, high))
