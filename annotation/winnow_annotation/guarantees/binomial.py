"""What do k errors among n uniform random labels say of the true share? Exact, by the binomial distribution.

Sources: Clopper and Pearson (1934), "The use of confidence or fiducial limits illustrated in the case of the binomial".
A sample without replacement from a finite run is less spread than the binomial, so these stay on the safe side there.
"""

import math
from typing import Any

_MOST_LABELS = 10_000_000  # nobody labels more; a search for how many are needed ends here


def p_value(errors: int, labels: int, share: float) -> float:
    """P(Bin(labels, share) <= errors): how likely so few errors are if the true share were `share` or more.

    1 where there are no labels: they speak against nothing.
    """
    if labels == 0:
        return 1.0
    return float(_special().bdtr(errors, labels, share))


def upper(errors: int, labels: int, certainty: float) -> float:
    """The one-sided upper bound: the true share is above it with probability at most 1 - `certainty`."""
    if errors >= labels:
        return 1.0
    return float(_special().betaincinv(errors + 1, labels - errors, certainty))


def lower(errors: int, labels: int, certainty: float) -> float:
    """The one-sided lower bound: the true share is below it with probability at most 1 - `certainty`."""
    if errors == 0:
        return 0.0
    return float(_special().betaincinv(errors, labels - errors + 1, 1 - certainty))


def interval(errors: int, labels: int, level: float = 0.95) -> tuple[float, float]:
    """Both bounds, each of half of what `level` leaves over; (0, 1) without labels."""
    certainty = 0.5 + level / 2
    return lower(errors, labels, certainty), upper(errors, labels, certainty)


def labels_needed(max_error: float, certainty: float) -> int:
    """How many uniform random labels, all of them right, show an error below `max_error` with that certainty.

    The zero-failure case of the binomial bound: (1 - max_error)^n <= 1 - certainty.
    """
    return math.ceil(math.log(1 - certainty) / math.log(1 - max_error))


def labels_for_rate(errors: int, labels: int, max_error: float, certainty: float) -> int | None:
    """How many labels would show the promise if errors stayed as frequent as they are; None if none would.

    The binomial of a number of errors that is no integer is the incomplete beta function, which is smooth in it.
    """
    rate = errors / labels if labels else 0.0
    if rate >= max_error:
        return None
    low, high = labels_needed(max_error, certainty), 1
    while not _shows(high, rate, max_error, certainty):
        high *= 2
        if high > _MOST_LABELS:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(middle, rate, max_error, certainty) else (middle + 1, high)
    return low


def _shows(labels: int, rate: float, max_error: float, certainty: float) -> bool:
    errors = rate * labels
    return float(_special().betainc(labels - errors, errors + 1, 1 - max_error)) <= 1 - certainty


def _special() -> Any:
    import scipy.special  # late: it costs a quarter of a second, and most commands never ask

    return scipy.special
