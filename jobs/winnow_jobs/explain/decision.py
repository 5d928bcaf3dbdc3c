"""What is an item now, for one task, and on whose word? Pure: what is known in, the decision and its reason out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from winnow_annotation.consensus.decision import State
from winnow_jobs.consensus.live import LiveItem, who
from winnow_jobs.consensus.rows import ConsensusRow
from winnow_storage.schemas import Route


class Word(StrEnum):
    """On whose word an item is what it is."""

    PEOPLE = "people"
    MODEL = "model"  # accepted, by a rule, a list or for want of a policy
    WAITING = "waiting"  # a person is asked
    HELD = "held"  # neither accepted nor asked about
    UNDECIDED = "undecided"  # predicted, and its run is not routed yet
    NOTHING = "nothing"  # there is no prediction


@dataclass(frozen=True, slots=True)
class Known:
    """What there is of an item for one task; `live` is of the version that is looked at, or None."""

    outcome: str | None  # of its row; None while none is committed
    why: str | None  # of the row, or of the task's own error
    prediction: Mapping[str, Any] | None  # a usable one
    route: Mapping[str, Any] | None
    live: LiveItem | None
    consensus: ConsensusRow | None  # formed of just these answers


@dataclass(frozen=True, slots=True)
class Decision:
    """`answer` is in our frames: a label's value, or the prediction; None where there is none."""

    word: Word
    answer: Mapping[str, Any] | None
    why: str


def decide(known: Known) -> Decision:
    """What the item is now."""
    if known.live is not None:
        return _by_people(known.live, known.consensus)
    if known.prediction is None:
        return Decision(Word.NOTHING, None, _without_prediction(known))
    if known.route is None:
        return Decision(Word.UNDECIDED, known.prediction, "its run is not routed yet")
    return _by_route(known.prediction, known.route)


def _by_people(live: LiveItem, consensus: ConsensusRow | None) -> Decision:
    names = ", ".join(who(label) for label in live.labels)
    if consensus is not None:
        open_ = consensus.state in (State.ASKING, State.DISPUTED, State.UNSURE)
        why = f"consensus of {names}: {consensus.state}, posterior {consensus.posterior:.3f}"
        return Decision(Word.PEOPLE, json.loads(consensus.answer), why + (", not sure enough yet" if open_ else ""))
    if len(live.labels) == 1:
        return Decision(Word.PEOPLE, live.value(live.labels[0]), f"the answer of {names}")
    return Decision(Word.PEOPLE, None, f"{names} answered, and no consensus is formed of that: winnow consensus SPEC")


def _by_route(prediction: Mapping[str, Any], route: Mapping[str, Any]) -> Decision:
    reason = str(route["reason"])
    if route["route"] in (Route.ACCEPT, Route.AUDIT):
        audited = " and drawn to be audited, which nobody has done yet" if route["route"] == Route.AUDIT else ""
        return Decision(Word.MODEL, prediction, f"accepted ({reason}){audited}")
    if route["route"] == Route.HOLD:
        return Decision(Word.HELD, None, f"held ({reason}): neither accepted nor sent to a person")
    return Decision(Word.WAITING, None, f"a person is asked ({route['route']}: {reason}), and has not answered")


def _without_prediction(known: Known) -> str:
    if known.outcome is None:
        return known.why or "no run has committed it yet"
    return f"{known.outcome}: {known.why}" if known.why else f"{known.outcome}, and this task was not run on it"
