"""How many images a second, once start and end are left out? Pure, over the times at which images were done."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """Images per second: in the steady part, and of the whole job from the start of its process to its end."""

    steady: float
    whole: float


def steady_rate(done_at_s: Sequence[float], leave_out: int) -> float:
    """Images per second between the image number `leave_out` and the one as far from the end; times in any order.

    The slope of the least squares line through how many were done by when. Counting between the first and the last
    time instead takes for one interval too few: two workers that finish their batches together would be a quarter
    faster over five batches each.

    Raises:
        ValueError: nothing is left between the two.
    """
    times = sorted(done_at_s)
    first, last = leave_out, len(times) - 1 - leave_out
    if last <= first or times[last] <= times[first]:
        raise ValueError(
            f"{len(times)} images with {leave_out} left out at both ends leave nothing to measure: take more images"
        )
    kept = times[first : last + 1]
    return statistics.linear_regression([at - kept[0] for at in kept], range(len(kept))).slope


def quartile_change(samples: Sequence[float]) -> float:
    """By which share the median of the last quarter lies above that of the first one.

    Raises:
        ValueError: fewer than four samples.
    """
    quarter = len(samples) // 4
    if quarter == 0:
        raise ValueError(f"{len(samples)} samples have no quarters: take more shards")
    return statistics.median(samples[-quarter:]) / statistics.median(samples[:quarter]) - 1.0
