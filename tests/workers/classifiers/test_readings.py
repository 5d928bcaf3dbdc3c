"""The highest values are found without sorting all of them, and ties go to the first."""

import numpy as np
import pytest

from winnow_workers.classifiers.readings import highest


@pytest.mark.parametrize("count", [1, 2, 5, 40, 41])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_highest__as_a_stable_sort_of_all(count: int, levels: int) -> None:
    draw = np.random.default_rng(count * levels)
    for _ in range(50):
        values = draw.integers(0, levels, 40) / 7.0
        assert highest(values, count).tolist() == np.argsort(-values, kind="stable")[:count].tolist()
