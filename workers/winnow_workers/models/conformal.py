"""How surprising is a score beside those of held-out normal images? Split-conformal p-values, and the threshold.

After Vovk et al., Algorithmic Learning in a Random World (2005), and for anomalies Laxhammar (2014): where the new
image and the held-out ones are exchangeable (all normal, taken alike), P(p <= alpha) <= alpha, whatever the model is.
That holds over all images and held-out draws together, not for every single set of held-out images.
"""

import math

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


def p_value(score: float, held_out: Scores) -> float:
    """(1 + how many held-out scores are at least `score`) / (n + 1), in (0, 1]; `held_out` (n,) is sorted, upwards."""
    at_least = len(held_out) - int(np.searchsorted(held_out, score, side="left"))
    return (1 + at_least) / (len(held_out) + 1)


def threshold(held_out: Scores, false_alarms: float) -> float:
    """The score above which the p-value is at most `false_alarms`: the ceil((n + 1)(1 - false_alarms))-th smallest.

    Fewer held-out images than 1 / false_alarms - 1 cannot promise that rate: then it is the greatest score, which
    promises 1 / (n + 1).
    """
    count = len(held_out)
    place = math.ceil(round((count + 1) * (1.0 - false_alarms), 9))
    return float(np.sort(held_out)[min(place, count) - 1])


def least_false_alarms(count: int) -> float:
    """The smallest rate that so many held-out images can promise."""
    return 1.0 / (count + 1)
