"""What did the gate decide, and why? Frozen records, which are also what is stored beside the candidate."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from winnow_annotation.gate.paired import Pairs


class Reason(StrEnum):
    """Why a candidate passes (the first two), or does not."""

    NOT_WORSE = "not_worse"
    FIRST = "first"  # there is no current model
    SAME = "same"  # it is the current model
    WORSE = "worse"
    NO_BETTER = "no_better"  # not shown to be worse than allowed, but not better either
    TOO_FEW_GOLD = "too_few_gold"  # it may be as good as it looks; so few items do not show it
    CLASS_WORSE = "class_worse"
    CLASS_NOT_SHOWN = "class_not_shown"
    CALIBRATION_WORSE = "calibration_worse"
    CALIBRATION_NOT_SHOWN = "calibration_not_shown"
    PROMISE_LOST = "promise_lost"


@dataclass(frozen=True, slots=True)
class Compared:
    """The candidate beside the current model on some gold items: the gain, and its two bounds."""

    pairs: Pairs
    low: float
    high: float
    p_value: float  # of "the gain is -margin or less"


@dataclass(frozen=True, slots=True)
class ClassCompared:
    """One true class; `needed`: so many gold items would show that it is not worse than allowed, if it is not."""

    label: str
    pairs: Pairs
    p_value: float
    p_worse: float  # of "it is not worse"
    needed: int

    @property
    def has_enough(self) -> bool:
        """Whether it has those."""
        return self.pairs.items >= self.needed


@dataclass(frozen=True, slots=True)
class Calibration:
    """Brier scores of the top label's score, their mean difference (above 0: worse), and its upper bound."""

    candidate: float
    current: float
    worse_by: float
    at_most: float
    needed: int | None


@dataclass(frozen=True, slots=True)
class PromiseCheck:
    """Whether gold supports a promise of the task's policy with each model. `coverage`: of gold that is accepted then.

    `testable` is False where gold is too few for the promise whatever the answers.
    """

    rule: str
    text: str
    testable: bool
    candidate: bool
    current: bool
    candidate_coverage: float
    current_coverage: float


@dataclass(frozen=True, slots=True)
class Why:
    """A reason in words."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`missing`: so many more gold items would let a candidate pass that is as good as this one looks; None where it
    lacks something else.
    """

    promote: bool
    why: tuple[Why, ...]
    gold: int
    accuracy: float | None
    current_accuracy: float | None
    overall: Compared | None = None
    classes: tuple[ClassCompared, ...] = ()
    calibration: Calibration | None = None
    promises: tuple[PromiseCheck, ...] = ()
    missing: int | None = None

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Without words."""
        return tuple(one.reason for one in self.why)

    @property
    def too_few(self) -> tuple[ClassCompared, ...]:
        """Classes with too little gold to show that they are not worse; only what is seen to be worse stops those."""
        return tuple(one for one in self.classes if not one.has_enough)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"why": [{"reason": str(one.reason), "text": one.text} for one in self.why]}


def sentence(verdict: Verdict) -> str:
    """The verdict for people, in one line."""
    return ("promote: " if verdict.promote else "keep the current model: ") + "; ".join(one.text for one in verdict.why)


def notes(verdict: Verdict) -> Sequence[str]:
    """What else people have to know: classes and promises on which so little gold says nothing."""
    found = []
    if verdict.too_few:
        named = ", ".join(f"{one.label} ({one.pairs.items:,} of {one.needed:,})" for one in verdict.too_few[:_SHOWN])
        more = f" and {len(verdict.too_few) - _SHOWN} more" if len(verdict.too_few) > _SHOWN else ""
        found.append(f"too few gold items to show that single classes are not worse, only that they are: {named}{more}")
    found += [f"too few gold items to look at the promise {one.text}" for one in verdict.promises if not one.testable]
    return found


_SHOWN = 5
