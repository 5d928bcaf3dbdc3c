"""Do more labels still help? From what the last doubling of them gained on gold; pure.

Learning curves follow an inverse power law: error = a + b * labels^-c (Figueroa, Zeng-Treitler, Kandula and Ngo 2012,
"Predicting sample size required for classification performance"). On it each doubling gains less than the one before,
by the factor 2^-c. So a bound on what the last doubling gained (a head of all labels beside one of a random half of
them, on gold that taught neither) bounds what the next one can gain, without fitting a curve to a few noisy rounds.
"""

from dataclasses import dataclass
from enum import StrEnum

from winnow_annotation.gate import paired
from winnow_annotation.gate.paired import Pairs


class Advice(StrEnum):
    """What to do about more labels."""

    GO_ON = "go_on"  # the last doubling gained what is worthwhile
    ENOUGH = "enough"  # the next one gains less than that
    OPEN = "open"  # so little gold does not tell


@dataclass(frozen=True, slots=True)
class Stopping:
    """The advice, and what it stands on: the gain of the last doubling, to `labels`, with its interval."""

    advice: Advice
    labels: int
    gold: int
    gain: float
    low: float
    high: float
    worthwhile: float


def advise(pairs: Pairs, labels: int, *, worthwhile: float, certainty: float) -> Stopping:
    """`pairs` are of a head of all `labels` (the candidate) and one of half of them."""
    low, high = paired.lower(pairs, certainty), paired.upper(pairs, certainty)
    if high < worthwhile:
        advice = Advice.ENOUGH
    elif pairs.gain >= worthwhile and low > 0:
        advice = Advice.GO_ON
    else:
        advice = Advice.OPEN
    return Stopping(advice, labels, pairs.items, pairs.gain, low, high, worthwhile)


def advice_text(one: Stopping) -> str:
    """The advice in a sentence."""
    seen = (
        f"doubling the labels to {one.labels:,} gained {one.gain:+.2%} on {one.gold:,} gold items "
        f"({one.low:+.2%} to {one.high:+.2%})"
    )
    if one.advice is Advice.ENOUGH:
        return f"{seen}: another {one.labels:,} labels will gain less than {one.worthwhile:.1%}, so more hardly help"
    if one.advice is Advice.GO_ON:
        return f"{seen}: more labels still help"
    return f"{seen}: whether more labels help by {one.worthwhile:.1%} cannot be told from so little gold"
