"""What is done with each prediction? Accept, review, audit, calibrate or hold, within one budget of review tasks.

All predictions are seen once, in any order, to choose those that go to a person. What is done with each of the others
then follows from itself and its task's policy, so memory is that of the budget, not of the predictions.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow_annotation.candidates import SLACK, Drawn, Lowest, MostUrgent, Unsure, taken
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_annotation.sampling import drawn, position
from winnow_annotation.selection import POOL, Vectors, select, shares, stacked
from winnow_annotation.wishes import (
    NO_THRESHOLDS,
    REVIEWED,
    WISHES,
    Code,
    Codes,
    Predictions,
    Reason,
    Thresholds,
    wishes,
)
from winnow_storage.schemas import Route

WITHHELD = np.array([WISHES[code].route is Route.HOLD for code in Code])
AUDITED = np.array([WISHES[code].route is Route.ACCEPT and code is not Code.NO_POLICY for code in Code])
_UNSENT = [
    (Route.HOLD, wish.when_refused) if wish.route is Route.REVIEW else (wish.route, wish.reason)
    for wish in (WISHES[code] for code in Code)
]


@dataclass(frozen=True, slots=True)
class Sent:
    """A prediction that goes to a person. `code` is what its policy alone said; `inclusion` the chance of a draw.

    `chosen`, of a review: how it was chosen among those that there was no place for.
    """

    task: str
    item_id: str
    place: int  # where it was seen, as the caller said
    route: Route
    reason: Reason
    code: Code
    inclusion: float | None = None
    chosen: str | None = None


@dataclass(frozen=True, slots=True)
class Draws:
    """What was drawn at random of one task's `predictions`, of which `accepted` would be accepted and can be audited;
    of `accepted` may also be some that an earlier run predicted and held.

    `wanted` to calibrate by the spec, `calibrated` after the budget; `audit_drawn` and `audited` likewise.
    """

    predictions: int
    accepted: int
    wanted: int
    calibrated: int
    audit_drawn: int
    audited: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Of one task, the items whose predictions compete again next time, most unsure first, and how many others do not:
    they were held as well, but are more than are kept.
    """

    items: tuple[str, ...]
    left_out: int


def unsent(
    predictions: Predictions, policy: Policy | None, thresholds: Thresholds = NO_THRESHOLDS, *, is_part: bool = False
) -> tuple[pa.StringArray, pa.StringArray]:
    """The route and the reason of each prediction, should it be none of those that go to a person.

    `is_part`: they are a part of what an earlier run held (see `Choice.see_again`).
    """
    # made here: the first array of a process makes pyarrow import pandas, which delays every command by half a second
    routes, reasons = (pa.array([str(one[part]) for one in _UNSENT]) for part in (0, 1))
    codes = pa.array(_wishes(predictions, policy, thresholds, is_part=is_part))
    return routes.take(codes), reasons.take(codes)


def _wishes(predictions: Predictions, policy: Policy | None, thresholds: Thresholds, *, is_part: bool) -> Codes:
    codes = wishes(predictions, policy, thresholds)
    return np.where(codes == Code.PROMISED, np.int8(Code.BELOW_PROMISE), codes) if is_part else codes


class Choice:
    """Who goes to a person? The same whatever the order in which predictions are seen.

    Random draws come first inside the budget: to calibrate (so many of each task with a policy, of all its predictions)
    and to audit (a share of the accepted). What no longer fits is as if it had not been drawn; those that fit are the
    ones with the lowest draw, so they are random too, and both kinds are cut in proportion. Reviews follow by turns:
    the most urgent of each task before the second of any, since scores do not compare between tasks. Of more than there
    is room for the most urgent ones that differ are taken, if the vectors of `pool` are given. The rest is held, and
    so is what would be reviewed a second time.
    """

    def __init__(self, review: ReviewSpec, *, seed: str, thresholds: Mapping[str, Thresholds] | None = None) -> None:
        self._review = review
        self._seed = seed
        self._thresholds = thresholds or {}
        self._audits: list[Drawn] = []
        self._audit_drawn: dict[str, int] = defaultdict(int)
        self._calibrations: dict[str, Lowest] = {}
        self._reviews: dict[str, MostUrgent] = {}
        self._codes: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(len(Code), np.int64))
        self._again: dict[str, int] = defaultdict(int)
        self._withheld: dict[str, list[str]] = defaultdict(list)
        self._asked: dict[str, MostUrgent] = {}  # of what would be reviewed again: near-duplicates are as unsure
        self._vectors: Mapping[str, Vectors] = {}
        self._sent: list[Sent] | None = None

    def see(self, task: str, predictions: Predictions, *, place: int) -> None:
        """Some predictions of a task, each of an item that was not seen before for it."""
        self._sent = None
        policy = self._review.policies.get(task)
        codes = wishes(predictions, policy, self._thresholds.get(task, NO_THRESHOLDS))
        self._codes[task] += np.bincount(codes, minlength=len(Code))
        if self._review.budget == 0:
            return
        if policy is not None and self._review.calibrate > 0:
            wanted = min(self._review.calibrate, self._review.budget)
            lowest = self._calibrations.setdefault(task, Lowest(f"{self._seed}\0calibrate", wanted))
            lowest.add(task, predictions, codes, place)
        self._compete(task, predictions, codes, place)

    def see_again(self, task: str, predictions: Predictions, *, place: int, is_part: bool) -> None:
        """Some predictions that an earlier run held over its budget: they are decided afresh, but are in no uniform
        draw of all, since those that were drawn then are not among them.

        `is_part`: more were held than these, the most unsure. Then none is accepted under a promise, which speaks of
        all predictions above its threshold and not of the most unsure ones.
        """
        if self._review.budget == 0:
            return
        self._sent = None
        thresholds = self._thresholds.get(task, NO_THRESHOLDS)
        codes = _wishes(predictions, self._review.policies.get(task), thresholds, is_part=is_part)
        self._codes[task] += np.bincount(codes, minlength=len(Code))
        self._again[task] += len(codes)
        withheld = predictions.item_ids.filter(pa.array(WITHHELD[codes]))
        self._withheld[task] += withheld.to_pylist()
        self._compete(task, predictions, codes, place)

    def _compete(self, task: str, predictions: Predictions, codes: Codes, place: int) -> None:
        if self._review.audit > 0:
            self._audit(task, predictions, codes, place)
        urgent = self._reviews.setdefault(task, MostUrgent(self._review, f"{self._seed}\0{task}"))
        urgent.add(predictions, codes, place, wanted=REVIEWED[codes])
        if predictions.is_asked is not None:
            asked = self._asked.setdefault(task, MostUrgent(self._review, f"{self._seed}\0{task}"))
            asked.add(predictions, codes, place, wanted=codes == Code.ASKED_BEFORE)

    def waiting(self) -> dict[str, Waiting]:
        """By task, what compete again next time: reviews that there was no place for, at most POOL times the budget;
        and what competed again this time, and by its policy is neither accepted nor reviewed.
        """
        sent = {(one.task, one.item_id) for one in self.sent()}
        found = {}
        for task, codes in sorted(self._codes.items()):
            urgent = self._reviews.get(task)
            if urgent is None:  # there is no budget
                found[task] = Waiting((), int(codes[REVIEWED].sum()))
                continue
            least = urgent.least()
            items = [one.item for one in least if (task, one.item) not in sent] + sorted(self._withheld[task])
            kept = tuple(items[: POOL * self._review.budget])
            found[task] = Waiting(kept, urgent.seen - len(least) + len(items) - len(kept))
        return found

    def pool(self) -> dict[int, set[str]]:
        """By place, the items whose vectors help to choose among the reviews, and those of what people were asked
        about before; none if there is room for all.
        """
        found: dict[int, set[str]] = defaultdict(set)
        if self._review.select.diverse:
            left, room = self._left(self._kept_draws())
            for task, some in left.items():
                for one in [*some, *self._asked_of(task)] if len(some) > room[task] else ():
                    found[one.place].add(one.item)
        return found

    def compare(self, vectors: Mapping[str, Vectors]) -> None:
        """Choose with these vectors: of items of the pool, (width,) each, all of one width."""
        self._sent, self._vectors = None, vectors

    def sent(self) -> list[Sent]:
        """Those that go to a person, most urgent first, draws mixed among them; not more than the budget."""
        if self._sent is None:
            self._sent = self._choose()
        return self._sent

    def _choose(self) -> list[Sent]:
        draws = self._kept_draws()
        left, room = self._left(draws)
        turns = sorted(
            (turn, task, one)
            for task, some in left.items()
            for turn, one in enumerate(self._reviews_of(task, some, room[task]))
        )
        reviews = [one for _, _, one in turns]
        order = [((number + 0.5) / len(reviews), one.task, one.item_id, one) for number, one in enumerate(reviews)]
        order += [
            (position(f"{self._seed}\0order", one.item_id, one.task), one.task, one.item_id, one) for one in draws
        ]
        return [one for *_, one in sorted(order, key=lambda entry: entry[:3])]

    def draws(self) -> dict[str, Draws]:
        """What was drawn, by task with a policy."""
        kept = self._kept_draws()
        return {
            task: Draws(
                predictions=int(codes.sum()) - self._again[task],
                accepted=int(codes[AUDITED].sum()),
                wanted=min(self._review.calibrate, int(codes.sum()) - self._again[task]),
                calibrated=sum(one.task == task and one.route is Route.CALIBRATE for one in kept),
                audit_drawn=self._audit_drawn[task],
                audited=sum(one.task == task and one.route is Route.AUDIT for one in kept),
            )
            for task, codes in sorted(self._codes.items())
            if task in self._review.policies
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """For each task, how many predictions take each route: those sent, and of all others what `unsent` says."""
        left = {task: codes.copy() for task, codes in self._codes.items()}
        found: dict[str, dict[str, int]] = {task: defaultdict(int) for task in sorted(left)}
        for one in self.sent():
            left[one.task][one.code] -= 1
            found[one.task][str(one.route)] += 1
        for task, codes in left.items():
            for (route, _), count in zip(_UNSENT, codes.tolist(), strict=True):
                found[task][str(route)] += count
        return {task: {route: count for route, count in sorted(of.items()) if count} for task, of in found.items()}

    def _left(self, draws: Sequence[Sent]) -> tuple[dict[str, list[Unsure]], dict[str, int]]:
        """The reviews that are wanted beside the draws, by task, most urgent first; and how many have room."""
        drawn_items = {(one.task, one.item_id) for one in draws}
        left = {
            task: [one for one in urgent.least() if (task, one.item) not in drawn_items]
            for task, urgent in self._reviews.items()
        }
        return left, shares(self._review.budget - len(draws), {task: len(some) for task, some in left.items()})

    def _reviews_of(self, task: str, wanted: Sequence[Unsure], count: int) -> list[Sent]:
        if count >= len(wanted):
            return [_review(task, one) for one in wanted]
        rule, among = self._reviews[task].by, self._reviews[task].seen
        vectors = stacked(self._vectors, [one.item for one in wanted]) if count else None
        if vectors is None:
            return [_review(task, one, f"{rule}: {at} of {among}") for at, one in enumerate(wanted[:count], 1)]
        seed = int(position(f"{self._seed}\0groups", task) * 2**32)
        known = stacked(self._vectors, [one.item for one in self._asked_of(task)])
        chosen = select(vectors, count, seed=seed, typical=rule == "random", known=known)
        return [
            _review(task, wanted[one.place], f"{rule}: {one.place + 1} of {among}, of a group of {one.group}")
            for one in chosen
        ]

    def _asked_of(self, task: str) -> Sequence[Unsure]:
        return self._asked[task].least() if task in self._asked else ()

    def _audit(self, task: str, predictions: Predictions, codes: Codes, place: int) -> None:
        chosen = np.flatnonzero(AUDITED[codes])
        for item, version, code in taken(predictions, codes, chosen):
            if drawn(self._seed, item, task, share=self._review.audit):
                self._audits.append((position(self._seed, item, task), task, item, version, place, code))
                self._audit_drawn[task] += 1
        if len(self._audits) > 2 * self._review.budget + SLACK:
            self._audits = sorted(self._audits)[: self._review.budget]

    def _kept_draws(self) -> list[Sent]:
        wanted = {task: lowest.least() for task, lowest in self._calibrations.items()}
        calibrations, audits = sum(map(len, wanted.values())), sum(self._audit_drawn.values())
        room = _room(self._review.budget, calibrations, audits)
        turns = sorted((turn, task, one) for task, some in wanted.items() for turn, one in enumerate(some))[:room]
        kept = {task: sum(name == task for _, name, _ in turns) for task in wanted}
        of = {task: int(self._codes[task].sum()) - self._again[task] for task in kept}
        inclusion = {task: count / max(1, of[task]) for task, count in kept.items()}
        found = [_sent(one, Route.CALIBRATE, Reason.CALIBRATE_DRAW, inclusion[task]) for _, task, one in turns]
        chosen = {(one.task, one.item_id) for one in found}
        others = [one for one in sorted(self._audits) if (one[1], one[2]) not in chosen]
        fitting = others[: self._review.budget - len(found)]
        both = sum(
            bool(AUDITED[one.code]) and drawn(self._seed, one.item_id, one.task, share=self._review.audit)
            for one in found
        )
        share = self._review.audit * len(fitting) / max(1, audits - both)
        return found + [_sent(one, Route.AUDIT, Reason.AUDIT_DRAW, share) for one in fitting]


def _room(budget: int, calibrations: int, audits: int) -> int:
    """How many draws to calibrate fit, if both kinds are cut in proportion."""
    if calibrations + audits <= budget:
        return calibrations
    return min(calibrations, max(round(budget * calibrations / (calibrations + audits)), budget - audits))


def _sent(one: Drawn, route: Route, reason: Reason, inclusion: float) -> Sent:
    _, task, item, _, place, code = one
    return Sent(task, item, place, route, reason, Code(code), inclusion)


def _review(task: str, one: Unsure, chosen: str | None = None) -> Sent:
    code = Code(one.code)
    return Sent(task, one.item, one.place, Route.REVIEW, WISHES[code].reason, code, chosen=chosen)
