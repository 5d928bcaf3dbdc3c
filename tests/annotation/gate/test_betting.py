"""The bound of a mean by betting: never wrong oftener than it says, and close where numbers vary little."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_annotation.gate import betting


@pytest.mark.parametrize("kind", ["narrow", "two-sided", "rare"])
def test_bounds__cover_the_mean(kind: str) -> None:
    random = np.random.default_rng(3)
    draw = {
        "narrow": lambda: np.clip(random.normal(0.5, 0.05, 120), 0, 1),
        "two-sided": lambda: random.integers(0, 2, 120).astype(float),
        "rare": lambda: (random.uniform(size=120) < 0.03).astype(float),
    }[kind]
    mean = {"narrow": 0.5, "two-sided": 0.5, "rare": 0.03}[kind]
    missed = {"low": 0, "high": 0}
    for _ in range(400):
        values = draw()
        missed["low"] += betting.lower(values, 0.9) > mean
        missed["high"] += betting.upper(values, 0.9) < mean
    assert max(missed.values()) <= 400 * 0.1 + 18  # three standard deviations


def test_upper__is_closer_the_less_the_numbers_vary() -> None:
    random = np.random.default_rng(0)
    wide, narrow = (np.clip(random.normal(0.5, spread, 400), 0, 1) for spread in (0.3, 0.05))
    assert betting.upper(narrow, 0.95) - narrow.mean() < 0.01
    assert betting.upper(wide, 0.95) - wide.mean() < 0.05


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_bounds__hold_the_mean_of_the_sample(values: list[float]) -> None:
    numbers = np.array(values)
    assert 0 <= betting.lower(numbers, 0.9) <= numbers.mean() + 1e-6
    assert numbers.mean() - 1e-6 <= betting.upper(numbers, 0.9) <= 1


def test_bounds__of_nothing() -> None:
    assert betting.lower(np.zeros(0), 0.9) == 0.0
    assert betting.upper(np.zeros(0), 0.9) == 1.0
