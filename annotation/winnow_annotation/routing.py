"""What is done with each prediction? Accept, review, audit or hold, within one budget of review tasks.

All predictions are seen once, in any order, to choose those that go to a person. What is done with each of the others
then follows from itself and its task's policy, so memory is that of the budget, not of the predictions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from winnow_annotation.policies import Policy
from winnow_annotation.sampling import drawn, position
from winnow_annotation.wishes import REVIEWED, WISHES, Code, Codes, Numbers, Predictions, Reason, numbers, wishes
from winnow_storage.schemas import Route

_SLACK = 4096  # candidates above what is wanted that wait for the next sort

_AUDITED = np.array([WISHES[code].route is Route.ACCEPT and code is not Code.NO_POLICY for code in Code])
_UNSENT = [
    (Route.HOLD, wish.when_refused) if wish.route is Route.REVIEW else (wish.route, wish.reason)
    for wish in (WISHES[code] for code in Code)
]

# What is compared comes first: position, task, item, version, place; p_ok, score, item, version, place and code.
_Drawn = tuple[float, str, str, str, int]
_Unsure = tuple[float, float, str, str, int, int]


@dataclass(frozen=True, slots=True)
class Sent:
    """A prediction that goes to a person."""

    task: str
    item_id: str
    place: int  # where it was seen, as the caller said
    route: Route
    reason: Reason


def labels_needed(max_error: float, confidence: float) -> int:
    """How many uniform random labels, all of them right, show an error below `max_error` with that certainty.

    The zero-failure case of the binomial bound: (1 - max_error)^n <= 1 - confidence.
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - max_error))


def unsent(predictions: Predictions, policy: Policy | None) -> tuple[pa.StringArray, pa.StringArray]:
    """The route and the reason of each prediction, should it be none of those that go to a person."""
    # made here: the first array of a process makes pyarrow import pandas, which delays every command by half a second
    routes, reasons = (pa.array([str(one[part]) for one in _UNSENT]) for part in (0, 1))
    codes = pa.array(wishes(predictions, policy))
    return routes.take(codes), reasons.take(codes)


class Choice:
    """Who goes to a person? The same whatever the order in which predictions are seen.

    Audit draws come first inside the budget; a draw that no longer fits stays accepted (those that fit are the ones
    with the lowest draw, so they are random too). Reviews follow by turns: the most urgent of each task (lowest p_ok,
    then lowest score) before the second of any, since scores do not compare between tasks. The rest is held,
    and so is what would be reviewed a second time.
    """

    def __init__(self, policies: Mapping[str, Policy], *, budget: int, audit: float, seed: str) -> None:
        self._policies = policies
        self._budget = budget
        self._share = audit
        self._seed = seed
        self._draws: list[_Drawn] = []
        self._reviews: dict[str, _MostUrgent] = {}

    def see(self, task: str, predictions: Predictions, *, place: int) -> None:
        """Some predictions of a task, each of an item that was not seen before for it."""
        if self._budget == 0:
            return
        codes = wishes(predictions, self._policies.get(task))
        if self._share > 0:
            self._draw(task, predictions, codes, place)
        self._reviews.setdefault(task, _MostUrgent(self._budget)).add(predictions, codes, place)

    def sent(self) -> list[Sent]:
        """Those that go to a person, most urgent first; not more than the budget."""
        audited = sorted(self._draws)[: self._budget]
        turns = sorted(
            (turn, task, one) for task, urgent in self._reviews.items() for turn, one in enumerate(urgent.least())
        )
        audits = [Sent(task, item, place, Route.AUDIT, Reason.AUDIT_DRAW) for _, task, item, _, place in audited]
        reviews = [
            Sent(task, item, place, Route.REVIEW, WISHES[Code(code)].reason)
            for _, task, (_, _, item, _, place, code) in turns[: self._budget - len(audited)]
        ]
        return audits + reviews

    def _draw(self, task: str, predictions: Predictions, codes: Codes, place: int) -> None:
        chosen = pa.array(np.flatnonzero(_AUDITED[codes]))
        pairs = zip(
            predictions.item_ids.take(chosen).to_pylist(), predictions.versions.take(chosen).to_pylist(), strict=True
        )
        for item, version in pairs:
            if drawn(self._seed, item, task, share=self._share):
                self._draws.append((position(self._seed, item, task), task, item, version, place))
        if len(self._draws) > 2 * self._budget + _SLACK:
            self._draws = sorted(self._draws)[: self._budget]


class _MostUrgent:
    """The `wanted` most urgent reviews of a task."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._kept: list[_Unsure] = []
        self._bound = (math.inf, math.inf)  # p_ok and score of the last one wanted so far

    def add(self, predictions: Predictions, codes: Codes, place: int) -> None:
        # without p_ok or score last: a raw score does not compare with a probability
        p_ok, score = _or_last(predictions.p_ok), _or_last(predictions.scores)
        last_p_ok, last_score = self._bound
        near = (p_ok < last_p_ok) | ((p_ok == last_p_ok) & (score <= last_score))
        chosen = np.flatnonzero(REVIEWED[codes] & near)
        if chosen.size == 0:
            return
        items, versions = (
            column.take(pa.array(chosen)).to_pylist() for column in (predictions.item_ids, predictions.versions)
        )
        of_them = (values[chosen].tolist() for values in (p_ok, score))
        places = [place] * len(chosen)
        self._kept += zip(*of_them, items, versions, places, codes[chosen].tolist(), strict=True)
        if len(self._kept) > 2 * self._wanted + _SLACK:
            self.least()

    def least(self) -> list[_Unsure]:
        """Those wanted, most urgent first."""
        self._kept = sorted(self._kept)[: self._wanted]
        if len(self._kept) == self._wanted:
            self._bound = self._kept[-1][:2]
        return self._kept


def _or_last(column: pa.FloatArray) -> Numbers:
    values = numbers(column)
    return np.where(np.isnan(values), math.inf, values)
