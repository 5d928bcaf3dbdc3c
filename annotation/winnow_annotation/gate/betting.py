"""How large can the mean of numbers in [0, 1] truly be, where they vary little? A bound that adapts to their variance.

Source: Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting". Against each mean
that could be true somebody bets, at stakes that look only at the numbers before; if it is true, the wealth reaches 1 /
(1 - certainty) with probability at most 1 - certainty, whatever the distribution. Means at which it did are refused.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MOST_STAKE = 0.75  # of the wealth: a single number never takes all of it
_HALVINGS = 30


def lower(values: Floats, certainty: float) -> float:
    """The true mean is below it with probability at most 1 - `certainty`; 0 without numbers.

    `values` (n,) in [0, 1], in an order that does not depend on them.
    """
    if not len(values):
        return 0.0
    stakes = _stakes(values, certainty)
    low, high = 0.0, float(values.mean())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        refused = _most_wealth(values, stakes, middle) >= math.log(1 / (1 - certainty))
        low, high = (middle, high) if refused else (low, middle)
    return low


def upper(values: Floats, certainty: float) -> float:
    """The true mean is above it with probability at most 1 - `certainty`; 1 without numbers."""
    return 1.0 - lower(1.0 - values, certainty)


def _stakes(values: Floats, certainty: float) -> Floats:
    """(n,) what is best for a variance as it looked before each number (their equation for a fixed n)."""
    seen = np.arange(1, len(values) + 1)
    means = (0.5 + np.cumsum(values)) / (seen + 1)
    variances = (0.25 + np.cumsum((values - means) ** 2)) / (seen + 1)
    before = np.concatenate([[0.25], variances[:-1]])
    found: Floats = np.sqrt(2 * math.log(1 / (1 - certainty)) / (len(values) * before))
    return found


def _most_wealth(values: Floats, stakes: Floats, mean: float) -> float:
    """The logarithm of the most that the bets against this mean ever made."""
    at_most = np.minimum(stakes, _MOST_STAKE / max(mean, 1e-12))
    return float(np.cumsum(np.log1p(at_most * (values - mean))).max())
