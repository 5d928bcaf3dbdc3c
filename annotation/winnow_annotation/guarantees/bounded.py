"""What does the mean of n losses in [0, 1] say of the true mean? For boxes, masks and text, whose loss is a degree.

Sources: Hoeffding (1963) and Bentkus (2004), joined as in Bates, Angelopoulos, Lei, Malik and Jordan,
"Distribution-Free, Risk-Controlling Prediction Sets" (2021); Angelopoulos, Bates, Fisch, Lei and Schuster, "Conformal
Risk Control" (2022).
"""

import math

import numpy as np
from numpy.typing import NDArray

from winnow_annotation.guarantees import binomial

Numbers = NDArray[np.float64]

_STEPS = 60  # of the bisection: past double precision
_ROUNDING = 1e-9  # a sum of losses that is an integer but for rounding is that integer


def p_value(total: float, labels: int, mean: float) -> float:
    """How likely losses that add up to `total` or less are if the true mean were `mean` or more; at most."""
    if labels == 0:
        return 1.0
    seen = min(total / labels, mean)
    hoeffding = math.exp(-labels * _divergence(seen, mean))
    bentkus = math.e * binomial.p_value(min(labels, math.ceil(total - _ROUNDING)), labels, mean)
    return min(1.0, hoeffding, bentkus)


def upper(total: float, labels: int, certainty: float) -> float:
    """The true mean is above it with probability at most 1 - `certainty`."""
    low, high = (total / labels if labels else 1.0), 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if p_value(total, labels, middle) <= 1 - certainty else (middle, high)
    return high


def interval(total: float, labels: int, level: float = 0.95) -> tuple[float, float]:
    """Both bounds; the lower one is the upper one of 1 - loss, turned round."""
    if labels == 0:
        return 0.0, 1.0
    certainty = 0.5 + level / 2
    return 1.0 - upper(labels - total, labels, certainty), upper(total, labels, certainty)


def labels_needed(max_loss: float, certainty: float) -> int:
    """How many labels without any loss show a mean below `max_loss` with that certainty (Hoeffding)."""
    return math.ceil(math.log(1 - certainty) / math.log(1 - max_loss))


def labels_needed_in_expectation(max_loss: float) -> int:
    """How many labels conformal risk control needs at least: one more, of the greatest loss, must still fit."""
    return math.ceil(1 / max_loss) - 1


def risk_control(ranks: Numbers, losses: Numbers, max_loss: float) -> float | None:
    """The least rank to accept from, so that the expected loss let through is at most `max_loss` an item.

    Conformal risk control: the loss of an item is its loss if accepted, else 0; that falls as the threshold rises. The
    threshold is the lowest of the given ranks at which (total loss of those at or above + 1) / (n + 1) <= `max_loss`.
    None if there is none. The expectation is over the labels and the next item of the same distribution.
    """
    found: float | None = None
    order = np.argsort(-ranks, kind="stable")
    ranks, totals = ranks[order], np.cumsum(losses[order])
    allowed = max_loss * (len(ranks) + 1) - 1
    last_of_its_rank = np.append(ranks[1:] != ranks[:-1], True) if len(ranks) else np.empty(0, np.bool_)
    for place in np.flatnonzero(last_of_its_rank & ~np.isnan(ranks)):
        if totals[place] > allowed:
            break
        found = float(ranks[place])
    return found


def _divergence(one: float, other: float) -> float:
    """Kullback-Leibler, of Bernoulli variables; `other` is above 0 and at least `one`."""
    if other >= 1:
        return math.inf if one < 1 else 0.0
    first = 0.0 if one == 0 else one * math.log(one / other)
    second = 0.0 if one == 1 else (1 - one) * math.log((1 - one) / (1 - other))
    return first + second
