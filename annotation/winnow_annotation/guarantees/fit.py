"""Which threshold does a rule's promise get from labelled draws, and what is missing if none? Pure.

`max_error`, and `max_loss` with a confidence, are tested as a fixed sequence (`sequence`): of the accepted at most the
promised share is wrong, or the mean loss at most that, with the stated certainty. `max_loss` without a confidence is
conformal risk control (`bounded.risk_control`). `min_recall` tests, over the labelled harmful items alone, that at most
the rest of it is let through.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow_annotation.guarantees import binomial, bounded, sequence
from winnow_annotation.guarantees.rank_counts import RankCounts
from winnow_annotation.guarantees.sequence import Step, Walk
from winnow_annotation.policies import Rule

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

_RECALL_SHARES = [
    number / 100 for number in range(1, 101)
]  # every test is of the same harmful items: no start to choose


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled uniform random draws that a rule decides: (n,) their ranks and their losses in [0, 1].

    For `min_recall`: the ranks of the (m,) harmful ones of all draws; NaN of those that are caught anyway, infinite of
    those that something else lets through. `draws` is then how many draws there are in all.
    """

    ranks: Numbers
    losses: Numbers
    draws: int = 0

    def __len__(self) -> int:
        return len(self.ranks)


@dataclass(frozen=True, slots=True)
class Fitted:
    """`threshold` None: not supported, `missing` more labels would do (None: no number would), and `why`.

    Of the `labels` the threshold (or the first one that failed) accepts `accepted`, with a total loss of `loss`.
    `bound` is the upper bound of what is promised, at the stated certainty.
    """

    threshold: float | None
    labels: int
    accepted: int
    loss: float
    bound: float | None
    tested: int
    method: str
    missing: int | None = 0
    why: str = ""


def fit(rule: Rule, labelled: Labelled, counts: RankCounts) -> Fitted:
    """The threshold of the rule's promise; `counts` are of the predictions that the draws were made from.

    Raises:
        ValueError: the rule makes no promise.
    """
    if rule.max_error is not None:
        return _tested(labelled, counts, rule.max_error, rule.certainty, exact=True)
    if rule.max_loss is not None and rule.confidence is not None:
        return _tested(labelled, counts, rule.max_loss, rule.certainty, exact=False)
    if rule.max_loss is not None:
        return _controlled(labelled, rule.max_loss)
    if rule.min_recall is not None:
        return _recalled(labelled, counts, 1 - rule.min_recall, rule.certainty)
    raise ValueError("the rule makes no promise")


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether `labels` draws show a promise at one threshold; if not, so many more of them are needed at the least."""

    is_shown: bool
    labels: int
    missing: int


def shown(rule: Rule, labelled: Labelled, threshold: float) -> Shown:
    """Whether these labelled draws by themselves show the rule's promise at a threshold that others chose.

    Raises:
        ValueError: the rule makes no promise.
    """
    one = sequence.step_of(threshold, labelled.ranks, labelled.losses)
    allowed = 1 - rule.certainty
    if rule.max_error is not None:
        is_shown = binomial.p_value(round(one.total), one.accepted, rule.max_error) <= allowed
        needed = binomial.labels_needed(rule.max_error, rule.certainty)
    elif rule.max_loss is not None and rule.confidence is not None:
        is_shown = bounded.p_value(one.total, one.accepted, rule.max_loss) <= allowed
        needed = bounded.labels_needed(rule.max_loss, rule.certainty)
    elif rule.max_loss is not None:
        is_shown = (one.total + 1) / (len(labelled) + 1) <= rule.max_loss
        needed = bounded.labels_needed_in_expectation(rule.max_loss)
    elif rule.min_recall is not None:  # of the harmful draws those are missed that are let through
        missed = int((labelled.ranks >= threshold).sum())
        is_shown = binomial.p_value(missed, len(labelled), 1 - rule.min_recall) <= allowed
        needed = binomial.labels_needed(1 - rule.min_recall, rule.certainty)
    else:
        raise ValueError("the rule makes no promise")
    return Shown(is_shown, len(labelled), 0 if is_shown else max(1, needed - len(labelled)))


def _tested(labelled: Labelled, counts: RankCounts, most: float, certainty: float, *, exact: bool) -> Fitted:
    method = "learn-then-test, " + ("exact binomial" if exact else "Hoeffding-Bentkus")
    needed = binomial.labels_needed(most, certainty)
    if len(labelled) < needed:
        why = f"{len(labelled)} labels of uniform random draws, at least {needed} are needed"
        return Fitted(None, len(labelled), 0, 0.0, None, 0, method, needed - len(labelled), why)
    shares = sequence.shares(len(labelled), needed)
    thresholds = counts.thresholds(shares)
    p_value: Callable[[float, int], float] = (
        (lambda total, n: binomial.p_value(round(total), n, most)) if exact
        else (lambda total, n: bounded.p_value(total, n, most))
    )  # fmt: skip
    found = sequence.walk(thresholds, labelled.ranks, labelled.losses, p_value=p_value, certainty=certainty)
    if found.chosen is not None:
        one = found.chosen
        bound = (
            binomial.upper(round(one.total), one.accepted, certainty)
            if exact
            else bounded.upper(one.total, one.accepted, certainty)
        )
        return Fitted(one.threshold, len(labelled), one.accepted, one.total, bound, found.tested, method)
    return _not_shown(labelled, found, most, certainty, method)


def _not_shown(labelled: Labelled, found: Walk, most: float, certainty: float, method: str) -> Fitted:
    first = found.stopped or Step(math.inf, 0, 0.0)
    needed = _needed(first, most, certainty, exact="binomial" in method)
    wrong = f"{first.total:g}" if "binomial" in method else f"a loss of {first.total:.3g}"
    said = f"of the {first.accepted} surest of {len(labelled)} labelled draws {wrong} " + (
        "are wrong" if "binomial" in method else "in all"
    )
    if needed is None:
        why = f"{said}: not fewer than promised, so more labels will not help, a better model or a weaker promise would"
        missing = None
    else:
        share = max(first.accepted, 1) / len(labelled)
        missing = max(1, math.ceil((needed - first.accepted) / share))
        why = f"{said}: too many for so few labels"
    return Fitted(None, len(labelled), first.accepted, first.total, None, found.tested, method, missing, why)


def _needed(first: Step, most: float, certainty: float, *, exact: bool) -> int | None:
    if exact:
        return binomial.labels_for_rate(round(first.total), first.accepted, most, certainty)
    mean = first.total / first.accepted if first.accepted else 0.0
    labels = max(first.accepted, binomial.labels_needed(most, certainty))
    while mean < most and labels < 10_000_000:
        if bounded.p_value(mean * labels, labels, most) <= 1 - certainty:
            return labels
        labels = math.ceil(labels * 1.05)
    return None


def _controlled(labelled: Labelled, most: float) -> Fitted:
    method = "conformal risk control"
    needed = bounded.labels_needed_in_expectation(most)
    if len(labelled) < needed:
        why = f"{len(labelled)} labels of uniform random draws, at least {needed} are needed"
        return Fitted(None, len(labelled), 0, 0.0, None, 0, method, needed - len(labelled), why)
    threshold = bounded.risk_control(labelled.ranks, labelled.losses, most)
    if threshold is None:
        why = f"the surest of {len(labelled)} labelled draws has too much loss for so few labels"
        return Fitted(None, len(labelled), 0, 0.0, None, 1, method, len(labelled), why)
    one = sequence.step_of(threshold, labelled.ranks, labelled.losses)
    bound = (one.total + 1) / (len(labelled) + 1)
    return Fitted(threshold, len(labelled), one.accepted, one.total, bound, 1, method)


def _recalled(labelled: Labelled, counts: RankCounts, most: float, certainty: float) -> Fitted:
    method = "learn-then-test, exact binomial, over harmful items"
    needed, harmful = binomial.labels_needed(most, certainty), len(labelled)
    if harmful < needed:
        rate = harmful / labelled.draws if labelled.draws else 0.0
        missing = math.ceil((needed - harmful) / rate) if rate else None
        why = f"{harmful} harmful items among {labelled.draws} labelled draws, at least {needed} are needed"
        return Fitted(None, labelled.draws, harmful, 0.0, None, 0, method, missing, why)
    chosen: Step | None = None
    tested = 0
    for threshold in counts.thresholds(_RECALL_SHARES).tolist():
        tested += 1
        missed = int((labelled.ranks >= threshold).sum())
        if binomial.p_value(missed, harmful, most) > 1 - certainty:
            break
        chosen = Step(threshold, harmful, float(missed))
    if chosen is None:
        why = f"of {harmful} harmful items too many would be let through even at the strictest threshold"
        return Fitted(None, labelled.draws, harmful, 0.0, None, tested, method, None, why)
    bound = binomial.upper(round(chosen.total), harmful, certainty)
    return Fitted(chosen.threshold, labelled.draws, harmful, chosen.total, bound, tested, method)
