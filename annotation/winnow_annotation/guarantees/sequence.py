"""Which threshold may be promised? Learn-then-test: a fixed sequence of thresholds, each tested, up to the first doubt.

Source: Angelopoulos, Bates, Candes, Jordan and Lei, "Learn then Test: Calibrating Predictive Algorithms to Achieve Risk
Control" (2021), fixed-sequence testing. For a threshold that was fixed before the labels were seen, the p-value of "the
loss of what it accepts is more than promised" is valid. Thresholds are tested from the strictest on; the first that
cannot be shown ends it, so that a wrong one is chosen with probability at most 1 - certainty, however many are tried.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
PValue = Callable[[float, int], float]  # of (total loss, labels)

LEAST_START = 0.4  # of all labels: the surest ones among which the first test is made
SLACK = 1.2  # that test should have room for chance in how many labels it gets
STEP = 0.01  # of coverage, from one threshold to the next


@dataclass(frozen=True, slots=True)
class Step:
    """What one threshold accepts of the labelled draws, and with which loss."""

    threshold: float
    accepted: int
    total: float


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a sequence got: the last threshold that was shown, and the first that was not."""

    chosen: Step | None
    stopped: Step | None
    tested: int


def shares(labels: int, needed: int) -> list[float]:
    """The coverages to test, ascending; none if even all labels are too few.

    The first threshold must accept `needed` labels at least, or it could not be shown were all of them right; and from
    a strict one with few labels one chance error would end the sequence. Both follow from counts alone.
    """
    if labels < needed:
        return []
    start = min(1.0, max(LEAST_START, SLACK * needed / labels))
    count = round((1.0 - start) / STEP)
    return [min(1.0, start + number * STEP) for number in range(count)] + [1.0]


def walk(thresholds: Numbers, ranks: Numbers, losses: Numbers, *, p_value: PValue, certainty: float) -> Walk:
    """Test `thresholds`, descending, on labelled draws with these ranks and losses; NaN is never accepted."""
    chosen: Step | None = None
    for number, threshold in enumerate(thresholds.tolist(), start=1):
        step = step_of(threshold, ranks, losses)
        if p_value(step.total, step.accepted) > 1 - certainty:
            return Walk(chosen, step, number)
        chosen = step
    return Walk(chosen, None, len(thresholds))


def step_of(threshold: float, ranks: Numbers, losses: Numbers) -> Step:
    """What a threshold accepts."""
    accepted = ranks >= threshold
    return Step(threshold, int(accepted.sum()), float(losses[accepted].sum()))
