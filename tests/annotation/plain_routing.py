"""The rule of `winnow_annotation.routing` with every prediction in memory, one after the other: to compare with."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from winnow_annotation.item_lists import ItemList
from winnow_annotation.policies import Policy, ScoreBelow, ScoreBetween
from winnow_annotation.sampling import drawn, position
from winnow_annotation.wishes import Reason
from winnow_storage.schemas import Route


@dataclass(frozen=True, slots=True)
class Candidate:
    """A prediction without an error, to be routed."""

    item_id: str
    task: str
    version: str
    score: float | None = None
    p_ok: float | None = None


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


def route(
    predictions: Sequence[Candidate],
    policies: Mapping[str, Policy],
    *,
    budget: int,
    audit: float,
    seed: str,
    calibrate: int = 0,
) -> list[Decision]:
    """One decision per candidate, sorted by task and item: the same for every order of `predictions`.

    Draws come first inside the budget, those to calibrate and those to audit cut in proportion (those that fit are the
    ones with the lowest draw, so they are random too). Reviews follow by turns: the most urgent of each task (lowest
    p_ok, then lowest score) before the second of any, since scores do not compare between tasks. The rest is held.
    """
    wishes = {candidate: _wish(candidate, policies.get(candidate.task)) for candidate in sorted(predictions, key=_id)}
    uniform = _calibrations([one for one in wishes if one.task in policies], wanted=min(calibrate, budget), seed=seed)
    audits = _audit_draws(wishes, share=audit, seed=seed)
    room = len(uniform)
    if len(uniform) + len(audits) > budget:
        share = round(budget * len(uniform) / (len(uniform) + len(audits)))
        room = min(len(uniform), max(share, budget - len(audits)))
    uniform = uniform[:room]
    audits = [one for one in audits if one not in uniform][: budget - room]
    reviews = [one for one, wish in wishes.items() if wish.route is Route.REVIEW and one not in uniform]
    reviews = _by_turns(reviews)[: budget - room - len(audits)]
    places = [((number + 0.5) / len(reviews), _item(one), one) for number, one in enumerate(reviews)]
    places += [(position(f"{seed}\0order", one.item_id, one.task), _item(one), one) for one in [*uniform, *audits]]
    order = {candidate: place for place, (_, _, candidate) in enumerate(sorted(places, key=lambda entry: entry[:2]))}
    return [_decide(one, wish, order.get(one), is_uniform=one in uniform) for one, wish in wishes.items()]


def _item(candidate: Candidate) -> tuple[str, str]:
    return candidate.task, candidate.item_id


def _calibrations(candidates: Sequence[Candidate], *, wanted: int, seed: str) -> list[Candidate]:
    turns: list[tuple[int, str, Candidate]] = []
    for task in {one.task for one in candidates}:
        own = [one for one in candidates if one.task == task]
        own.sort(key=lambda one: (position(f"{seed}\0calibrate", one.item_id, one.task), _id(one)))
        turns += [(turn, task, one) for turn, one in enumerate(own[:wanted])]
    return [one for _, _, one in sorted(turns, key=lambda turn: turn[:2])]


def _audit_draws(wishes: Mapping[Candidate, _Wish], *, share: float, seed: str) -> list[Candidate]:
    accepted = [
        one for one, wish in wishes.items() if wish.route is Route.ACCEPT and wish.reason is not Reason.NO_POLICY
    ]
    hits = [one for one in accepted if drawn(seed, one.item_id, one.task, share=share)]
    return sorted(hits, key=lambda one: (position(seed, one.item_id, one.task), _id(one)))


def _by_turns(reviews: Sequence[Candidate]) -> list[Candidate]:
    seen: Counter[str] = Counter()
    turns: list[tuple[int, str, Candidate]] = []
    for one in sorted(reviews, key=_urgency):
        turns.append((seen[one.task], one.task, one))
        seen[one.task] += 1
    return [one for _, _, one in sorted(turns, key=lambda turn: turn[:2])]


def _decide(candidate: Candidate, wish: _Wish, order: int | None, *, is_uniform: bool) -> Decision:
    if order is not None:
        if is_uniform:
            return Decision(candidate, Route.CALIBRATE, Reason.CALIBRATE_DRAW, order)
        if wish.route is Route.ACCEPT:
            return Decision(candidate, Route.AUDIT, Reason.AUDIT_DRAW, order)
        return Decision(candidate, Route.REVIEW, wish.reason, order)
    if wish.route is Route.REVIEW:
        return Decision(candidate, Route.HOLD, wish.when_refused)
    return Decision(candidate, wish.route, wish.reason)


def _wish(candidate: Candidate, policy: Policy | None) -> _Wish:
    if policy is None:
        return _Wish(Route.ACCEPT, Reason.NO_POLICY)
    for items, wish in (
        (policy.always_review_items, _Wish(Route.REVIEW, Reason.ALWAYS_REVIEW_ITEM)),
        (policy.never_review_items, _Wish(Route.ACCEPT, Reason.NEVER_REVIEW_ITEM)),
    ):
        if _is_listed(candidate, items):
            return wish
    if policy.max_error is not None:
        promise = Reason.PROMISE_UNSUPPORTED
        return _Wish(Route.HOLD if policy.uncalibrated == "hold" else Route.REVIEW, promise, when_refused=promise)
    if policy.min_p_ok is None or candidate.p_ok is None:
        return _by_score(candidate.score, policy)
    if candidate.p_ok >= policy.min_p_ok:
        return _Wish(Route.ACCEPT, Reason.P_OK_HIGH)
    return _Wish(Route.REVIEW, Reason.P_OK_LOW)


def _is_listed(candidate: Candidate, items: ItemList) -> bool:
    return candidate.item_id in items.items or any(fnmatchcase(candidate.item_id, glob) for glob in items.globs)


def _by_score(score: float | None, policy: Policy) -> _Wish:
    rule = policy.uncalibrated
    if isinstance(rule, str):
        return _Wish(Route(rule), Reason.UNCALIBRATED)
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
