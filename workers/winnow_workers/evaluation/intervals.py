"""How far can a measured number be from the true one? Intervals for proportions, and the bootstrap for the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval at `level`, and how it was made."""

    low: float
    high: float
    method: str
    level: float = LEVEL


def wilson(successes: float, n: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion (1927); it spans [0, 1] without observations."""
    if n == 0:
        return Interval(0.0, 1.0, "wilson", level)
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + level / 2))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # at 0 and n the bound is exact; the sum above leaves a rounding error there
    low = 0.0 if successes == 0 else max(0.0, float(middle - half))
    return Interval(low, 1.0 if successes == n else min(1.0, float(middle + half)), "wilson", level)


def clopper_pearson(successes: int, n: int, *, level: float = LEVEL) -> Interval:
    """The exact interval of a proportion (Clopper and Pearson, 1934): it covers at least `level`, whatever is true."""
    from scipy.stats import beta

    rest = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(rest, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1 - rest, successes + 1, n - successes))
    return Interval(low, high, "clopper-pearson", level)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], n: int, *, draws: int, seed: int, level: float = LEVEL
) -> Interval:
    """The percentile bootstrap (Efron, 1979) over items: `statistic` gets (n,) indices drawn with replacement.

    Draws in which it is NaN are left out; the bounds are NaN if it always is.
    """
    random: Any = np.random.default_rng(seed)
    values = np.array([statistic(random.integers(0, n, n)) for _ in range(draws if n else 0)])
    finite = values[~np.isnan(values)]
    method = f"bootstrap, {draws} draws, seed {seed}"
    if not finite.size:
        return Interval(float("nan"), float("nan"), method, level)
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), method, level)
