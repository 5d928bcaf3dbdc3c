import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_workers.evaluation.risk_coverage import risk_coverage

ITEMS = st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9, float("nan")]), st.booleans()), min_size=1, max_size=6)


def in_order(ok: tuple[bool, ...]) -> list[float]:
    """The risks of items that are sorted already."""
    return [sum(not one for one in ok[:k]) / k for k in range(1, len(ok) + 1)]


@settings(max_examples=60, deadline=None)
@given(ITEMS)
def test_risk_coverage__is_the_mean_over_every_order_of_equal_confidences(items: list[tuple[float, bool]]) -> None:
    rank = {0.9: 0, 0.5: 1, 0.1: 2}
    orders = [
        in_order(tuple(ok for _, ok in order))
        for order in itertools.permutations(items)
        if all(rank.get(a, 3) <= rank.get(b, 3) for (a, _), (b, _) in itertools.pairwise(order))
    ]
    found = risk_coverage(np.array([one for one, _ in items]), np.array([ok for _, ok in items]))
    assert found.risks == pytest.approx(np.mean(orders, axis=0), abs=1e-12)
    assert found.aurc == pytest.approx(np.mean(orders), abs=1e-12)
    best = in_order(tuple(sorted((ok for _, ok in items), reverse=True)))
    assert found.best_aurc == pytest.approx(np.mean(best), abs=1e-12)
    assert found.excess_aurc >= -1e-12


def test_risk_coverage__points_and_reviews_by_hand() -> None:
    # ten items, confidences 0.9 down to 0.0; wrong are the three least confident and the fifth
    found = risk_coverage(np.arange(9, -1, -1) / 10, np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0]))
    assert found.risk_at(0.5) == pytest.approx(0.2)
    assert found.risk_at(1.0) == pytest.approx(0.4)
    assert found.coverage_at(0.0) == pytest.approx(0.4)
    assert found.coverage_at(0.15) == pytest.approx(0.7)  # one of seven
    assert found.found_by_review(0.3) == 1.0
    assert found.found_by_review(0.5) == pytest.approx(3 / 4)
    assert found.points(3)[-1] == (1.0, 0.4)


def test_risk_coverage__nothing_at_all() -> None:
    nothing = risk_coverage(np.empty(0), np.empty(0))
    assert np.isnan([nothing.aurc, nothing.best_aurc, nothing.risk_at(0.5), nothing.found_by_review(0.1)]).all()
    assert (nothing.points(), nothing.coverage_at(0.1)) == ([], 0.0)
    all_right = risk_coverage(np.array([0.5, 0.7]), np.array([1, 1]))
    assert np.isnan(all_right.found_by_review(0.5))
    with pytest.raises(ValueError, match="shape"):
        risk_coverage(np.array([0.5]), np.array([1, 0]))
