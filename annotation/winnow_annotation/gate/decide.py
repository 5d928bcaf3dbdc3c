"""May a candidate take the current model's place? Pure: what both said of the same gold items in, a verdict out.

It passes if it is shown, each at the certainty of the spec, that its accuracy is not worse than allowed, nor that on
any true class with enough gold, nor its calibration; if nothing speaks against a class with less gold; if no promise is
lost; and if it is not worse to look at: of candidates that only are no worse each could take a little away.

Several tests need no correction where all must be passed: whatever is truly worse than allowed passes its own test with
probability at most 1 - certainty (Berger 1982, "Multiparameter hypothesis testing and acceptance sampling"). What many
tests do is keep good candidates out. So a class must pass only if it has enough gold to do so all but surely when
nothing is wrong with it, and the tests for classes that became worse share 1 - certainty among them (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow_annotation.gate import betting, paired
from winnow_annotation.gate.paired import Pairs, pairs_of
from winnow_annotation.gate.verdict import Calibration, ClassCompared, Compared, PromiseCheck, Reason, Verdict, Why
from winnow_annotation.learn_spec import GateSpec

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

POWER = 0.8  # with which a candidate as good as supposed should pass


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model says of the gold items: (n,) whether its label is right, and its score in [0, 1]."""

    right: Mask
    scores: Floats

    @property
    def accuracy(self) -> float | None:
        """The share that is right."""
        return float(self.right.mean()) if len(self.right) else None


def decide(
    truths: Sequence[str],
    candidate: Answers,
    current: Answers | None,
    rules: GateSpec,
    promises: Sequence[PromiseCheck] = (),
    *,
    alone: str = "there is no current model to compare it with",
) -> Verdict:
    """The verdict on gold items of these true classes, in an order that does not depend on what is said of them.

    `alone` says why `current` is None, where it is.
    """
    count = len(truths)
    if current is None:
        first = Why(Reason.FIRST, alone)
        return Verdict(promote=True, why=(first,), gold=count, accuracy=candidate.accuracy, current_accuracy=None)
    pairs = pairs_of(candidate.right, current.right)
    overall = _compared(pairs, rules)
    classes = _classes(truths, candidate, current, pairs, rules)
    calibration = _calibration(candidate, current, rules)
    against = [
        *_of_accuracy(overall, rules),
        *_of_classes(classes, rules),
        *_of_calibration(calibration, rules),
        *[_lost(one) for one in promises if one.testable and one.current and not one.candidate],
    ]
    why = against or [Why(Reason.NOT_WORSE, _gain_text(overall, rules))]
    return Verdict(
        promote=not against,
        why=tuple(why),
        gold=count,
        accuracy=candidate.accuracy,
        current_accuracy=current.accuracy,
        overall=overall,
        classes=classes,
        calibration=calibration,
        promises=tuple(promises),
        missing=_missing(count, pairs, calibration, rules) if _is_gold_short(against) else None,
    )


def same(truths: Sequence[str], current: Answers) -> Verdict:
    """The verdict on a candidate that is the current model itself."""
    why = Why(Reason.SAME, "it is the current model")
    accuracy = current.accuracy
    return Verdict(promote=False, why=(why,), gold=len(truths), accuracy=accuracy, current_accuracy=accuracy)


def _compared(pairs: Pairs, rules: GateSpec) -> Compared:
    low, high = paired.lower(pairs, rules.certainty), paired.upper(pairs, rules.certainty)
    return Compared(pairs, low, high, paired.p_value(pairs, -rules.margin))


def _classes(
    truths: Sequence[str], candidate: Answers, current: Answers, overall: Pairs, rules: GateSpec
) -> tuple[ClassCompared, ...]:
    names = np.asarray(truths, dtype=object)
    labels = sorted(set(truths))
    power = 1 - (1 - POWER) / max(1, len(labels))  # that all of them pass has POWER then
    possible = paired.items_needed(0.0, overall.differing, rules.class_margin, rules.certainty, power)
    needed = paired.MOST_ITEMS if possible is None else possible
    found = []
    for label in labels:
        of_it = names == label
        pairs = pairs_of(candidate.right[of_it], current.right[of_it])
        chance = paired.p_value(pairs, -rules.class_margin)
        found.append(ClassCompared(label, pairs, chance, paired.p_worse(pairs), needed))
    return tuple(found)


def _calibration(candidate: Answers, current: Answers, rules: GateSpec) -> Calibration | None:
    ours, theirs = ((one.scores - one.right) ** 2 for one in (candidate, current))
    if not len(ours):
        return None
    differences = ours - theirs
    worse_by, at_most = float(differences.mean()), 2 * betting.upper((differences + 1) / 2, rules.certainty) - 1
    room, taken = rules.calibration_margin - worse_by, at_most - worse_by
    # the bound's distance shrinks with the root of their number
    needed = math.ceil(len(ours) * (taken / room) ** 2) if room > 0 else None
    return Calibration(float(ours.mean()), float(theirs.mean()), worse_by, at_most, needed)


def _of_accuracy(overall: Compared, rules: GateSpec) -> list[Why]:
    pairs = overall.pairs
    if pairs.items == 0:
        return [Why(Reason.TOO_FEW_GOLD, "there is no gold: nothing can be compared")]
    if pairs.gain <= -rules.margin:
        return [Why(Reason.WORSE, _gain_text(overall, rules))]
    if overall.p_value > 1 - rules.certainty:
        return [Why(Reason.TOO_FEW_GOLD, _gain_text(overall, rules))]
    if pairs.losses >= pairs.wins:
        return [Why(Reason.NO_BETTER, _gain_text(overall, rules))]
    return []


def _of_classes(classes: Sequence[ClassCompared], rules: GateSpec) -> list[Why]:
    level = (1 - rules.certainty) / max(1, len(classes))
    found = []
    for one in classes:
        pairs = one.pairs
        said = f"of {pairs.items:,} gold items of {one.label} it loses {pairs.losses:,} and wins {pairs.wins:,}"
        if one.p_worse <= level:
            found.append(Why(Reason.CLASS_WORSE, f"{said}: that class became worse"))
        elif one.has_enough and one.p_value > 1 - rules.certainty:
            text = f"{said}: not shown to be at most {rules.class_margin:.1%} worse on that class"
            found.append(Why(Reason.CLASS_NOT_SHOWN, text))
    return found


def _of_calibration(found: Calibration | None, rules: GateSpec) -> list[Why]:
    if found is None or found.at_most <= rules.calibration_margin:
        return []
    said = f"its Brier score is {found.candidate:.4f} beside {found.current:.4f}"
    if found.worse_by >= rules.calibration_margin:
        return [Why(Reason.CALIBRATION_WORSE, f"{said}: its scores are less true")]
    text = f"{said}, and may be {found.at_most:.4f} worse, where {rules.calibration_margin:g} is allowed"
    return [Why(Reason.CALIBRATION_NOT_SHOWN, text)]


def _lost(one: PromiseCheck) -> Why:
    return Why(Reason.PROMISE_LOST, f"gold supports the promise {one.text} with the current model, and not with it")


def _gain_text(overall: Compared, rules: GateSpec) -> str:
    pairs = overall.pairs
    return (
        f"of {pairs.items:,} gold items it wins {pairs.wins:,} and loses {pairs.losses:,}, a gain of {pairs.gain:+.2%}"
        f", of at least {overall.low:+.2%} with {rules.certainty:.0%} certainty, where {-rules.margin:+.2%} is allowed"
    )


def _is_gold_short(against: Sequence[Why]) -> bool:
    """Whether more gold could change the verdict: nothing is worse, but something is not shown."""
    not_shown = (Reason.TOO_FEW_GOLD, Reason.CLASS_NOT_SHOWN, Reason.CALIBRATION_NOT_SHOWN)
    return bool(against) and all(one.reason in not_shown for one in against)


def _missing(count: int, pairs: Pairs, calibration: Calibration | None, rules: GateSpec) -> int | None:
    """How many more gold items a candidate needs that is as good as this one looks; 0 if that is not what it lacks."""
    needed = paired.items_needed(pairs.gain, pairs.differing, rules.margin, rules.certainty, POWER)
    if needed is None or (calibration is not None and calibration.needed is None):
        return None
    return max(0, max(needed, (calibration and calibration.needed) or 0) - count)
