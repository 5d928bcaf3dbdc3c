"""The exact paired bound: how often it is wrong is counted out over everything that could be seen, not simulated."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_annotation.gate import paired
from winnow_annotation.gate.paired import Pairs

PAIRS = st.integers(1, 60).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, n)).flatmap(
        lambda nw: st.builds(Pairs, st.just(nw[0]), st.just(nw[1]), st.integers(0, nw[0] - nw[1]))
    )
)


def chance(pairs: Pairs, win: float, loss: float) -> float:
    """Of just this result."""
    rest = pairs.items - pairs.wins - pairs.losses
    ways = math.factorial(pairs.items) / (
        math.factorial(pairs.wins) * math.factorial(pairs.losses) * math.factorial(rest)
    )
    return float(ways * win**pairs.wins * loss**pairs.losses * (1 - win - loss) ** rest)


def results(n: int) -> list[Pairs]:
    return [Pairs(n, wins, losses) for wins in range(n + 1) for losses in range(n + 1 - wins)]


@pytest.mark.parametrize("n", [8, 21])
@pytest.mark.parametrize("margin", [0.02, 0.1, 0.0])
def test_p_value__is_small_no_oftener_than_it_says(n: int, margin: float) -> None:
    """Of a candidate that is worse by just the margin, or by more, however often the two differ."""
    said = {pairs: paired.p_value(pairs, -margin) for pairs in results(n)}
    for worse_by in (margin, margin + 0.05, margin + 0.3):
        for differing in (worse_by, worse_by + 0.01, 0.2 + worse_by, 0.6):
            if differing < worse_by:
                continue
            win, loss = (differing - worse_by) / 2, (differing + worse_by) / 2
            for level in (0.01, 0.05, 0.1, 0.3):
                often = sum(chance(pairs, win, loss) for pairs, p in said.items() if p <= level)
                assert often <= level + 1e-9, (worse_by, differing, level)


def test_bounds__cover_the_true_gain_as_often_as_they_say() -> None:
    n, certainty = 11, 0.9
    low = {pairs: paired.lower(pairs, certainty) for pairs in results(n)}
    high = {pairs: paired.upper(pairs, certainty) for pairs in results(n)}
    for win, loss in [(0.05, 0.05), (0.2, 0.1), (0.0, 0.15), (0.3, 0.0), (0.02, 0.3), (0.5, 0.5)]:
        below = sum(chance(pairs, win, loss) for pairs in low if low[pairs] > win - loss + 1e-9)
        above = sum(chance(pairs, win, loss) for pairs in high if high[pairs] < win - loss - 1e-9)
        assert below <= 1 - certainty + 1e-9
        assert above <= 1 - certainty + 1e-9


@settings(deadline=None, max_examples=60)
@given(PAIRS, st.floats(0.001, 0.3))
def test_p_value__falls_with_every_win_and_rises_with_every_loss(pairs: Pairs, margin: float) -> None:
    p = paired.p_value(pairs, -margin)
    assert 0 < p <= 1
    if pairs.wins + pairs.losses < pairs.items:
        assert paired._statistic(np.array([pairs.wins + 1]), np.array([pairs.losses]), pairs.items, -margin) >= (
            paired._statistic(np.array([pairs.wins]), np.array([pairs.losses]), pairs.items, -margin)
        )
        assert paired._statistic(np.array([pairs.wins]), np.array([pairs.losses + 1]), pairs.items, -margin) <= (
            paired._statistic(np.array([pairs.wins]), np.array([pairs.losses]), pairs.items, -margin)
        )


@settings(deadline=None, max_examples=20)
@given(PAIRS)
def test_bounds__hold_the_gain_between_them_and_turn_round(pairs: Pairs) -> None:
    low, high = paired.lower(pairs, 0.9), paired.upper(pairs, 0.9)
    assert -1 <= low <= pairs.gain <= high <= 1
    assert paired.lower(pairs.turned(), 0.9) == pytest.approx(-high)


def test_p_value__of_nothing_shows_nothing() -> None:
    assert paired.p_value(Pairs(0, 0, 0), -0.01) == 1.0
    assert paired.p_value(Pairs(400, 0, 0), -0.01) == pytest.approx(0.99**400 + 0.001, rel=0.05)


def test_p_worse__is_the_sign_test() -> None:
    assert paired.p_worse(Pairs(50, 0, 5)) == pytest.approx(0.5**5)
    assert paired.p_worse(Pairs(50, 5, 0)) == 1.0
    assert paired.p_worse(Pairs(50, 4, 4)) > 0.5


@pytest.mark.parametrize(("gain", "differing"), [(0.02, 0.05), (0.0, 0.03), (0.05, 0.1)])
def test_items_needed__gives_about_the_power_that_it_says(gain: float, differing: float) -> None:
    needed = paired.items_needed(gain, differing, 0.02, 0.95, 0.8)
    assert needed is not None
    random = np.random.default_rng(1)
    shares = [(differing + gain) / 2, (differing - gain) / 2, 1 - differing]
    seen = random.multinomial(needed, shares, size=300)
    passed = [paired.p_value(Pairs(needed, int(win), int(loss)), -0.02) <= 0.05 for win, loss, _ in seen]
    assert 0.7 <= np.mean(passed) <= 0.92


def test_items_needed__of_a_worse_candidate_is_no_number() -> None:
    assert paired.items_needed(-0.02, 0.05, 0.02, 0.95, 0.8) is None
    few, more = (paired.items_needed(gain, 0.05, 0.01, 0.95, 0.8) for gain in (0.03, 0.0))
    assert few is not None
    assert more is not None
    assert few < more
