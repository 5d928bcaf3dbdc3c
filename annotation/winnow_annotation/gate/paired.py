"""By how much can one model be worse than another, seen from the same items? Exact, from the items where they differ.

The gain is P(only the candidate is right) - P(only the current is right). The test statistic, and its estimate of the
rest under the null hypothesis, are those of Tango (1998), "Equivalence test and confidence interval for the difference
in proportions for the paired-sample design"; its p-value is not taken from the normal distribution but counted out over
all that could have been seen: Hsueh, Liu and Chen (2001), "Unconditional exact tests for equivalence or noninferiority
for paired binary endpoints". What else is unknown, how often the two differ at all, is the worst of a confidence
interval of it: Berger and Boos (1994), "P values maximized over a confidence set for the nuisance parameter".
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow_annotation.guarantees import binomial

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SLACK = 0.001  # of the nuisance's interval: added to every p-value
_GRID = 60  # places in that interval; the p-value is smooth in it
_HALVINGS = 14  # of a bound's bisection: to 1e-4
_ROUNDING = 1e-9
MOST_ITEMS = 10_000_000


@dataclass(frozen=True, slots=True)
class Pairs:
    """Of `items` on which both models answered: those that only the candidate, or only the current one, has right."""

    items: int
    wins: int
    losses: int

    @property
    def gain(self) -> float:
        """The candidate's accuracy less the current one's, on these items; 0 without any."""
        return (self.wins - self.losses) / self.items if self.items else 0.0

    @property
    def differing(self) -> float:
        """How often just one of them is right, drawn a little to one half: of no items nothing is known."""
        return (self.wins + self.losses + 1) / (self.items + 2)

    def turned(self) -> "Pairs":
        """As the current one sees it."""
        return Pairs(self.items, self.losses, self.wins)


def pairs_of(candidate: NDArray[np.bool_], current: NDArray[np.bool_]) -> Pairs:
    """From (n,) whether each is right."""
    return Pairs(len(candidate), int((candidate & ~current).sum()), int((current & ~candidate).sum()))


def p_value(pairs: Pairs, gain: float) -> float:
    """How likely a result that speaks so much for the candidate is if its true gain were `gain` or less; at most.

    `gain` is above -1 and below 1.
    """
    n = pairs.items
    if n == 0:
        return 1.0
    losses = np.arange(n + 1)
    seen = _statistic(np.array([pairs.wins]), np.array([pairs.losses]), n, gain)[0]
    least = _least_wins(losses, n, gain, float(seen))
    low, high = binomial.interval(pairs.wins + pairs.losses, n, 1 - _SLACK)
    grid = np.linspace(max(low, abs(gain)), max(high, abs(gain)), _GRID)
    return min(1.0, _SLACK + max(_chance(losses, least, n, (share + gain) / 2, (share - gain) / 2) for share in grid))


def lower(pairs: Pairs, certainty: float) -> float:
    """The true gain is below it with probability at most 1 - `certainty`."""
    low, high = -1.0, pairs.gain
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(pairs, middle) <= 1 - certainty else (low, middle)
    return low


def upper(pairs: Pairs, certainty: float) -> float:
    """The true gain is above it with probability at most 1 - `certainty`."""
    return -lower(pairs.turned(), certainty)


def p_worse(pairs: Pairs) -> float:
    """How likely so many losses among the differing items are if the candidate is not worse: the exact sign test.

    McNemar (1947), exact by the binomial distribution.
    """
    differing = pairs.wins + pairs.losses
    return 1.0 if pairs.losses == 0 else binomial.p_value(pairs.wins, differing, 0.5)


def items_needed(gain: float, differing: float, margin: float, certainty: float, power: float) -> int | None:
    """How many items show, with this power, that a gain is above -`margin`; None if none would.

    `gain` and `differing` are what is supposed to be true. By the normal distribution: Nam (1997), "Establishing
    equivalence of two treatments and sample size requirements in matched-pairs design".
    """
    if gain <= -margin:
        return None
    normal = NormalDist()
    under_null = math.sqrt(max(differing, margin) - margin**2)
    in_truth = math.sqrt(max(0.0, max(differing, abs(gain)) - gain**2))
    needed = (normal.inv_cdf(certainty) * under_null + normal.inv_cdf(power) * in_truth) / (gain + margin)
    # and one that never differs must be able to show it at all
    least = binomial.labels_needed(margin, certainty - _SLACK) if margin > 0 else 1
    found = max(least, math.ceil(needed**2))
    return found if found <= MOST_ITEMS else None


def _statistic(wins: Ints, losses: Ints, n: int, gain: float) -> Floats:
    """(k,) Tango's score: higher the more they speak for a gain above `gain`.

    P(win) under the null hypothesis is the greater root of 2n w^2 - (l + w' + (2n + w' - l) g) w + w' g (1 + g).
    """
    middle = wins + losses + gain * (2 * n + wins - losses)
    inside = np.maximum(0.0, middle**2 - 8 * n * wins * gain * (1 + gain))
    won = (middle + np.sqrt(inside)) / (4 * n)
    spread = np.maximum(0.0, n * (2 * won - gain * (1 + gain)))
    distance = wins - losses - n * gain
    with np.errstate(divide="ignore", invalid="ignore"):
        found = distance / np.sqrt(spread)
    return np.where(spread > 0, found, np.where(distance > 0, np.inf, np.where(distance < 0, -np.inf, 0.0)))


def _least_wins(losses: Ints, n: int, gain: float, seen: float) -> Ints:
    """(k,) for each number of losses the least number of wins that speaks as much as `seen`; one too many if none."""
    low, high = np.zeros_like(losses), n - losses + 1
    while (low < high).any():
        middle = (low + high) // 2
        enough = _statistic(np.minimum(middle, n - losses), losses, n, gain) >= seen - _ROUNDING
        high = np.where(enough, middle, high)
        low = np.where(enough, low, np.minimum(middle + 1, high))
    return low


def _chance(losses: Ints, least: Ints, n: int, win: float, loss: float) -> float:
    """P(wins >= least[losses]) of a multinomial with these shares."""
    special = _special()
    rest = n - losses
    choose = special.gammaln(n + 1) - special.gammaln(losses + 1) - special.gammaln(rest + 1)
    of_losses = np.exp(choose + special.xlogy(losses, loss) + special.xlog1py(rest, -loss))
    share = 1.0 if loss >= 1 else min(1.0, win / (1 - loss))
    possible = (least <= rest) & (of_losses > 0)
    many = np.zeros(len(losses))
    many[possible] = special.bdtrc(least[possible] - 1, rest[possible], share)
    many[possible & (least == 0)] = 1.0
    return float((of_losses * many).sum())


def _special() -> Any:
    import scipy.special  # late: it costs a quarter of a second, and most commands never ask

    return scipy.special
