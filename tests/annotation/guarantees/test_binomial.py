"""Tests of the exact bounds, against scipy's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from winnow_annotation.guarantees import binomial

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SHARES = st.floats(0.001, 0.999)


@given(COUNTS)
def test_interval__is_scipys_exact_one(counts: tuple[int, int]) -> None:
    errors, labels = counts
    wanted = binomtest(errors, labels).proportion_ci(0.95, "exact")
    assert binomial.interval(errors, labels) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@given(COUNTS, SHARES)
def test_p_value__is_the_lower_tail(counts: tuple[int, int], share: float) -> None:
    errors, labels = counts
    assert binomial.p_value(errors, labels, share) == pytest.approx(float(binom.cdf(errors, labels, share)), abs=1e-12)


@given(COUNTS, st.floats(0.5, 0.99))
def test_upper__is_where_the_test_turns(counts: tuple[int, int], certainty: float) -> None:
    errors, labels = counts
    bound = binomial.upper(errors, labels, certainty)
    if errors < labels:
        assert binomial.p_value(errors, labels, bound) == pytest.approx(1 - certainty, rel=1e-6)


@given(st.floats(0.005, 0.2), st.floats(0.6, 0.99))
def test_labels_needed__is_the_least_number_that_shows_it(max_error: float, certainty: float) -> None:
    needed = binomial.labels_needed(max_error, certainty)
    assert binomial.p_value(0, needed, max_error) <= (1 - certainty) * (1 + 1e-9)
    assert binomial.p_value(0, needed - 1, max_error) > 1 - certainty or needed == 1


def test_labels_for_rate__grows_with_the_rate_and_ends_at_the_promise() -> None:
    few, more = (binomial.labels_for_rate(errors, 200, 0.02, 0.9) for errors in (1, 2))
    assert few is not None
    assert more is not None
    assert 114 < few < more
    assert binomial.p_value(round(few * 0.005), few, 0.02) == pytest.approx(0.1, abs=0.03)
    assert binomial.labels_for_rate(4, 200, 0.02, 0.9) is None


def test_no_labels__say_nothing() -> None:
    assert binomial.p_value(0, 0, 0.02) == 1.0
    assert binomial.interval(0, 0) == (0.0, 1.0)
