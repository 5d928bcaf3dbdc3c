"""What does a task's policy alone say of its predictions, before audit and budget? Pure, over columns of numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow_annotation.item_lists import ItemList, are_listed
from winnow_annotation.policies import DEFAULT_RULE, Policy, Rule, ScoreBelow, ScoreBetween
from winnow_annotation.ranks import flagged, names_any, names_only, ranks
from winnow_storage.schemas import Route

Numbers = NDArray[np.float64]
Codes = NDArray[np.int8]
Mask = NDArray[np.bool_]


class Reason(StrEnum):
    """Why a prediction went where it did."""

    NO_POLICY = "no_policy"
    P_OK_HIGH = "p_ok_high"
    P_OK_LOW = "p_ok_low"
    UNCALIBRATED = "uncalibrated"
    SCORE_LOW = "score_low"
    SCORE_HIGH = "score_high"
    SCORE_UNSURE = "score_unsure"
    NO_SCORE = "no_score"
    PROMISE_UNSUPPORTED = "promise_unsupported"  # max_error without the random labels that would show it
    PROMISED = "promised"  # at or above the threshold of a promise that labels support
    BELOW_PROMISE = "below_promise"
    ALWAYS_REVIEW = "always_review"  # its class is listed
    NEVER_REVIEW = "never_review"
    ALWAYS_REVIEW_ITEM = "always_review_item"  # it is listed itself
    NEVER_REVIEW_ITEM = "never_review_item"
    FLAGGED = "flagged"  # predicted to be harmful
    AUDIT_DRAW = "audit_draw"
    CALIBRATE_DRAW = "calibrate_draw"
    OVER_BUDGET = "over_budget"
    SAME_CONTENT = "same_content"  # a person is asked about another item of the same bytes
    ASKED_BEFORE = "asked_before"  # a person was asked about it because of an earlier run


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of one task without an error, as columns of equal length; scores and p_ok may be null.

    `is_repeated` says that the run has the same prediction of the same bytes before, `is_asked` that an earlier run
    sent the item to a person: nobody is asked a second time. `details` has the task's structs, with what
    `ranks.fields_read` names; without it only scores and p_ok are known. `keys` are needed where a policy lists items.
    `disagreement` (n,) is that of the task's committee, NaN where there is none.
    """

    item_ids: pa.StringArray
    versions: pa.StringArray
    scores: pa.FloatArray
    p_ok: pa.FloatArray
    is_repeated: pa.BooleanArray | None = None
    operator: str = ""
    details: pa.StructArray | None = None
    keys: pa.StringArray | None = None
    is_asked: pa.BooleanArray | None = None
    disagreement: Numbers | None = None

    def listed(self, items: ItemList) -> Mask:
        """(n,) which of them are of listed items."""
        if items.is_empty:
            return np.zeros(len(self.item_ids), np.bool_)
        if self.keys is None:
            raise ValueError("a policy lists items, and the keys were not read")
        return are_listed(items, self.keys, self.item_ids)

    @property
    def rows(self) -> pa.StructArray:
        """The structs, or as much of them as is known."""
        if self.details is not None:
            return self.details
        return pa.StructArray.from_arrays([self.scores, self.p_ok], names=["score", "p_ok"])

    def field(self, name: str) -> Numbers | None:
        """(n,) a number of the structs, NaN where it is null; None where they have none of that name."""
        place = -1 if self.details is None else self.details.type.get_field_index(name)
        return None if self.details is None or place < 0 else numbers(pc.struct_field(self.details, place))


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a prediction would go, and why; and why it does not, should the budget refuse it."""

    route: Route
    reason: Reason
    when_refused: Reason = Reason.OVER_BUDGET


class Code(IntEnum):
    """A wish as it stands in a column."""

    NO_POLICY = 0
    PROMISE = 1
    PROMISE_HELD = 2
    P_OK_HIGH = 3
    P_OK_LOW = 4
    UNCALIBRATED = 5
    UNCALIBRATED_HELD = 6
    NO_SCORE = 7
    SCORE_LOW = 8
    SCORE_LOW_IS_FINE = 9
    SCORE_HIGH = 10
    SCORE_UNSURE = 11
    SAME_CONTENT = 12
    PROMISED = 13
    BELOW_PROMISE = 14
    ALWAYS_REVIEW = 15
    NEVER_REVIEW = 16
    FLAGGED = 17
    FLAGGED_IS_FINE = 18
    ALWAYS_REVIEW_ITEM = 19
    NEVER_REVIEW_ITEM = 20
    ASKED_BEFORE = 21
    UNCALIBRATED_ACCEPTED = 22


_PROMISE = Reason.PROMISE_UNSUPPORTED
WISHES = MappingProxyType(
    {
        Code.NO_POLICY: Wish(Route.ACCEPT, Reason.NO_POLICY),
        Code.PROMISE: Wish(Route.REVIEW, _PROMISE, when_refused=_PROMISE),
        Code.PROMISE_HELD: Wish(Route.HOLD, _PROMISE),
        Code.P_OK_HIGH: Wish(Route.ACCEPT, Reason.P_OK_HIGH),
        Code.P_OK_LOW: Wish(Route.REVIEW, Reason.P_OK_LOW),
        Code.UNCALIBRATED: Wish(Route.REVIEW, Reason.UNCALIBRATED),
        Code.UNCALIBRATED_HELD: Wish(Route.HOLD, Reason.UNCALIBRATED),
        Code.NO_SCORE: Wish(Route.HOLD, Reason.NO_SCORE),
        Code.SCORE_LOW: Wish(Route.REVIEW, Reason.SCORE_LOW),
        Code.SCORE_LOW_IS_FINE: Wish(Route.ACCEPT, Reason.SCORE_LOW),
        Code.SCORE_HIGH: Wish(Route.ACCEPT, Reason.SCORE_HIGH),
        Code.SCORE_UNSURE: Wish(Route.REVIEW, Reason.SCORE_UNSURE),
        Code.SAME_CONTENT: Wish(Route.HOLD, Reason.SAME_CONTENT),
        Code.PROMISED: Wish(Route.ACCEPT, Reason.PROMISED),
        Code.BELOW_PROMISE: Wish(Route.REVIEW, Reason.BELOW_PROMISE),
        Code.ALWAYS_REVIEW: Wish(Route.REVIEW, Reason.ALWAYS_REVIEW),
        Code.NEVER_REVIEW: Wish(Route.ACCEPT, Reason.NEVER_REVIEW),
        Code.FLAGGED: Wish(Route.REVIEW, Reason.FLAGGED),
        Code.FLAGGED_IS_FINE: Wish(Route.ACCEPT, Reason.FLAGGED),
        Code.ALWAYS_REVIEW_ITEM: Wish(Route.REVIEW, Reason.ALWAYS_REVIEW_ITEM),
        Code.NEVER_REVIEW_ITEM: Wish(Route.ACCEPT, Reason.NEVER_REVIEW_ITEM),
        Code.ASKED_BEFORE: Wish(Route.HOLD, Reason.ASKED_BEFORE),
        Code.UNCALIBRATED_ACCEPTED: Wish(Route.ACCEPT, Reason.UNCALIBRATED),
    }
)
REVIEWED = np.array([WISHES[code].route is Route.REVIEW for code in Code])  # by code


Thresholds = Mapping[str, float]  # by the name of a rule: the rank from which its promise accepts
NO_THRESHOLDS: Thresholds = MappingProxyType({})
UNRULED = -1  # no rule decides: the class or the item is listed, or the prediction is flagged


def wishes(predictions: Predictions, policy: Policy | None, thresholds: Thresholds = NO_THRESHOLDS) -> Codes:
    """The code of each prediction's wish; a promise without a threshold is one that labels do not support."""
    codes = _by_policy(predictions, policy, thresholds)
    if predictions.is_asked is not None:
        asked = REVIEWED[codes] & predictions.is_asked.to_numpy(zero_copy_only=False)
        codes = np.where(asked, np.int8(Code.ASKED_BEFORE), codes)
    # the one before it has the same prediction, and would be asked about as well; unless it is listed, itself or not
    if predictions.is_repeated is None or (policy is not None and not policy.never_review_items.is_empty):
        return codes
    again = REVIEWED[codes] & predictions.is_repeated.to_numpy(zero_copy_only=False)
    again &= codes != Code.ALWAYS_REVIEW_ITEM
    return np.where(again, np.int8(Code.SAME_CONTENT), codes)


def ruled_by(predictions: Predictions, policy: Policy) -> Codes:
    """(n,) which of the policy's rules decides each prediction, by its place in `policy.rules()`, or UNRULED."""
    operator, rows = predictions.operator, predictions.rows
    found = np.zeros(len(rows), np.int8)
    if not (policy.names_classes or policy.names_items):
        return found
    if policy.min_recall is not None:
        found[flagged(operator, rows, policy.harmful)] = UNRULED
    for place, name in reversed(list(enumerate(policy.classes, start=1))):  # the first one has the last word
        found[names_any(operator, rows, [name])] = place
    found[names_only(operator, rows, policy.never_review)] = UNRULED
    found[names_any(operator, rows, policy.always_review)] = UNRULED
    for items in (policy.never_review_items, policy.always_review_items):
        found[predictions.listed(items)] = UNRULED
    return found


def _by_policy(predictions: Predictions, policy: Policy | None, thresholds: Thresholds) -> Codes:
    count = len(predictions.item_ids)
    if policy is None:
        return _all(count, Code.NO_POLICY)
    if not (policy.names_classes or policy.names_items):
        return _by_rule(predictions, policy, policy, thresholds.get(DEFAULT_RULE))
    rules = ruled_by(predictions, policy)
    codes = _unruled(predictions, policy)
    for place, (name, rule) in enumerate(policy.rules().items()):
        of_it = rules == place
        if of_it.any():
            codes = np.where(of_it, _by_rule(predictions, policy, rule, thresholds.get(name)), codes)
    return codes


def _unruled(predictions: Predictions, policy: Policy) -> Codes:
    """Of those that no rule decides; of the others nothing."""
    rows, operator = predictions.rows, predictions.operator
    codes = _all(len(rows), Code.FLAGGED_IS_FINE if policy.flagged == "accept" else Code.FLAGGED)
    codes[names_only(operator, rows, policy.never_review)] = Code.NEVER_REVIEW
    codes[predictions.listed(policy.never_review_items)] = Code.NEVER_REVIEW_ITEM
    codes[names_any(operator, rows, policy.always_review)] = Code.ALWAYS_REVIEW
    codes[predictions.listed(policy.always_review_items)] = Code.ALWAYS_REVIEW_ITEM
    return codes


def _by_rule(predictions: Predictions, policy: Policy, rule: Rule, threshold: float | None) -> Codes:
    count = len(predictions.item_ids)
    if rule.is_promise:
        if threshold is None:
            return _all(count, Code.PROMISE_HELD if rule.uncalibrated == "hold" else Code.PROMISE)
        is_sure = ranks(predictions.operator, predictions.rows, rule, policy.harmful) >= threshold
        return np.where(is_sure, np.int8(Code.PROMISED), np.int8(Code.BELOW_PROMISE))
    by_score = _by_score(numbers(predictions.scores), rule)
    if rule.min_p_ok is None:
        return by_score
    is_high = numbers(predictions.p_ok) >= rule.min_p_ok
    by_p_ok = np.where(is_high, np.int8(Code.P_OK_HIGH), np.int8(Code.P_OK_LOW))
    return np.where(pc.is_valid(predictions.p_ok).to_numpy(zero_copy_only=False), by_p_ok, by_score)


def numbers(column: pa.FloatArray) -> Numbers:
    """As Python compares them: in double precision; null becomes NaN."""
    found: Numbers = pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()
    return found


def _by_score(score: Numbers, decided_by: Rule) -> Codes:
    rule = decided_by.uncalibrated
    if rule == "review":
        return _all(len(score), Code.UNCALIBRATED)
    if rule == "hold":
        return _all(len(score), Code.UNCALIBRATED_HELD)
    if rule == "accept":
        return _all(len(score), Code.UNCALIBRATED_ACCEPTED)
    codes = _below(score, rule) if isinstance(rule, ScoreBelow) else _outside(score, rule)
    return np.where(np.isnan(score), np.int8(Code.NO_SCORE), codes)


def _below(score: Numbers, rule: ScoreBelow) -> Codes:
    return np.where(score < rule.score_below, np.int8(Code.SCORE_LOW), np.int8(Code.SCORE_HIGH))


def _outside(score: Numbers, rule: ScoreBetween) -> Codes:
    low, high = rule.score_between
    inside = np.where(score > high, np.int8(Code.SCORE_HIGH), np.int8(Code.SCORE_UNSURE))
    return np.where(score < low, np.int8(Code.SCORE_LOW_IS_FINE), inside)


def _all(count: int, code: Code) -> Codes:
    return np.full(count, code, np.int8)
