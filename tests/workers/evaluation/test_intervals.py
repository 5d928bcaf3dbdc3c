import numpy as np
import pytest
from scipy.stats import binomtest

from winnow_workers.evaluation.intervals import bootstrap, clopper_pearson, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (3, 10), (180, 200), (1, 10_000)])
def test_proportions__agree_with_scipy(successes: int, n: int) -> None:
    test = binomtest(successes, n)
    for found, method in ((wilson(successes, n), "wilson"), (clopper_pearson(successes, n), "exact")):
        theirs = test.proportion_ci(0.95, method=method)
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_proportions__know_nothing_without_observations() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    assert (clopper_pearson(0, 0).low, clopper_pearson(0, 0).high) == (0.0, 1.0)


def test_bootstrap__of_a_mean_is_near_the_normal_interval_and_repeats() -> None:
    values = np.random.default_rng(1).normal(size=400)

    def mean(chosen: np.ndarray) -> float:
        return float(values[chosen].mean())

    found = bootstrap(mean, 400, draws=500, seed=7)
    assert found == bootstrap(mean, 400, draws=500, seed=7)
    half = 1.96 * values.std() / 20
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
    assert np.isnan(bootstrap(mean, 0, draws=5, seed=0).low)
