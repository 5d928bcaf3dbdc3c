"""What is done with each prediction? Accept, review, audit or hold, within one budget of review tasks."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from winnow_annotation.policies import Policy, ScoreBelow, ScoreBetween
from winnow_annotation.sampling import drawn, position
from winnow_storage.schemas import Route


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
    AUDIT_DRAW = "audit_draw"
    OVER_BUDGET = "over_budget"
    SAME_CONTENT = "same_content"  # a person is asked about another item of the same bytes


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prediction without an error, to be routed.

    `is_repeated` says that the run has the same prediction of the same bytes before: nobody is asked a second time.
    """

    item_id: str
    task: str
    version: str
    score: float | None = None
    p_ok: float | None = None
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a candidate goes. `order` counts from 0 through those that go to a person, most urgent first."""

    candidate: Candidate
    route: Route
    reason: Reason
    order: int | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the policy alone says, before audit and budget."""

    route: Route
    reason: Reason
    when_refused: Reason = Reason.OVER_BUDGET


def labels_needed(max_error: float, confidence: float) -> int:
    """How many uniform random labels, all of them right, show an error below `max_error` with that certainty.

    The zero-failure case of the binomial bound: (1 - max_error)^n <= 1 - confidence.
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - max_error))


def route(
    predictions: Sequence[Candidate], policies: Mapping[str, Policy], *, budget: int, audit: float, seed: str
) -> list[Decision]:
    """One decision per candidate, sorted by task and item: the same for every order of `predictions`.

    Audit draws come first inside the budget; a draw that no longer fits stays accepted (those that fit are the ones
    with the lowest draw, so they are random too). Reviews follow by turns: the most urgent of each task (lowest p_ok,
    then lowest score) before the second of any, since scores do not compare between tasks. The rest is held, and so is
    what would be reviewed a second time.
    """
    wishes = {candidate: _wish_once(candidate, policies) for candidate in sorted(predictions, key=_id)}
    audited = _audit_draws(wishes, budget=budget, share=audit, seed=seed)
    reviews = _by_turns([one for one, wish in wishes.items() if wish.route is Route.REVIEW])
    sent = [*audited, *reviews[: budget - len(audited)]]
    order = {candidate: place for place, candidate in enumerate(sent)}
    return [_decide(one, wish, order.get(one)) for one, wish in wishes.items()]


def _audit_draws(wishes: Mapping[Candidate, _Wish], *, budget: int, share: float, seed: str) -> list[Candidate]:
    accepted = [
        one for one, wish in wishes.items() if wish.route is Route.ACCEPT and wish.reason is not Reason.NO_POLICY
    ]
    hits = [one for one in accepted if drawn(seed, one.item_id, one.task, share=share)]
    return sorted(hits, key=lambda one: (position(seed, one.item_id, one.task), _id(one)))[:budget]


def _by_turns(reviews: Sequence[Candidate]) -> list[Candidate]:
    seen: Counter[str] = Counter()
    turns: list[tuple[int, str, Candidate]] = []
    for one in sorted(reviews, key=_urgency):
        turns.append((seen[one.task], one.task, one))
        seen[one.task] += 1
    return [one for _, _, one in sorted(turns, key=lambda turn: turn[:2])]


def _decide(candidate: Candidate, wish: _Wish, order: int | None) -> Decision:
    if order is not None:
        if wish.route is Route.ACCEPT:
            return Decision(candidate, Route.AUDIT, Reason.AUDIT_DRAW, order)
        return Decision(candidate, Route.REVIEW, wish.reason, order)
    if wish.route is Route.REVIEW:
        return Decision(candidate, Route.HOLD, wish.when_refused)
    return Decision(candidate, wish.route, wish.reason)


def _wish_once(candidate: Candidate, policies: Mapping[str, Policy]) -> _Wish:
    wish = _wish(candidate, policies.get(candidate.task))
    if candidate.is_repeated and wish.route is Route.REVIEW:
        return _Wish(Route.HOLD, Reason.SAME_CONTENT)
    return wish


def _wish(candidate: Candidate, policy: Policy | None) -> _Wish:
    if policy is None:
        return _Wish(Route.ACCEPT, Reason.NO_POLICY)
    if policy.max_error is not None:
        promise = Reason.PROMISE_UNSUPPORTED
        return _Wish(Route.HOLD if policy.uncalibrated == "hold" else Route.REVIEW, promise, when_refused=promise)
    if policy.min_p_ok is None or candidate.p_ok is None:
        return _by_score(candidate.score, policy)
    if candidate.p_ok >= policy.min_p_ok:
        return _Wish(Route.ACCEPT, Reason.P_OK_HIGH)
    return _Wish(Route.REVIEW, Reason.P_OK_LOW)


def _by_score(score: float | None, policy: Policy) -> _Wish:
    rule = policy.uncalibrated
    if rule == "review":
        return _Wish(Route.REVIEW, Reason.UNCALIBRATED)
    if rule == "hold":
        return _Wish(Route.HOLD, Reason.UNCALIBRATED)
    if score is None or math.isnan(score):
        return _Wish(Route.HOLD, Reason.NO_SCORE)
    if isinstance(rule, ScoreBelow):
        if score < rule.score_below:
            return _Wish(Route.REVIEW, Reason.SCORE_LOW)
        return _Wish(Route.ACCEPT, Reason.SCORE_HIGH)
    return _outside(score, rule)


def _outside(score: float, rule: ScoreBetween) -> _Wish:
    low, high = rule.score_between
    if score < low:
        return _Wish(Route.ACCEPT, Reason.SCORE_LOW)
    return _Wish(Route.ACCEPT, Reason.SCORE_HIGH) if score > high else _Wish(Route.REVIEW, Reason.SCORE_UNSURE)


def _id(candidate: Candidate) -> tuple[str, str, str]:
    return candidate.task, candidate.item_id, candidate.version


def _urgency(candidate: Candidate) -> tuple[float, float, str, str, str]:
    # without p_ok or score last: a raw score does not compare with a probability
    return _or_last(candidate.p_ok), _or_last(candidate.score), candidate.item_id, candidate.task, candidate.version


def _or_last(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
