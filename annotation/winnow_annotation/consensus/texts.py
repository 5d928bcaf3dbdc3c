"""What does a line say, when several people typed it? Aligned character by character, then voted place by place.

The voting is that of ROVER (Fiscus, A post-processing system to yield reduced word error rates, ASRU 1997): the
transcripts are aligned one after the other to what was aligned before, an omission being a vote for nothing. A vote
weighs as much as the person's log odds of typing a character rightly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

ALTERNATIVES = 20.0  # what a wrong character may be, in effect
_LEAST, _MOST = 0.05, 0.999  # of the reliability of a character
USUAL = 0.98


@dataclass(slots=True)
class Slot:
    """One place of the alignment: what each person has there, "" for nothing."""

    said: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Voted:
    """The text, and how likely all of it is right. `errors`: by person, edits between theirs and it."""

    text: str
    posterior: float
    errors: Mapping[str, int]


def vote_text(typed: Mapping[str, str], reliability: Mapping[str, float] | None = None) -> Voted:
    """The text that these together say: `typed` by person, `reliability` in (0, 1) of one character of theirs."""
    trust = {name: min(_MOST, max(_LEAST, (reliability or {}).get(name, USUAL))) for name in typed}
    chosen: list[str] = []
    log_posterior = 0.0
    for slot in align(typed, sorted(typed, key=lambda name: (-trust[name], name))):
        best, posterior = _vote(slot, trust)
        chosen.append(best)
        log_posterior += math.log(posterior)
    text = "".join(chosen)
    errors = {name: int(Levenshtein.distance(own, text)) for name, own in typed.items()}
    if not chosen:  # all agree that there is nothing
        doubt = math.prod(1.0 - one for one in trust.values()) if trust else 1.0
        return Voted("", 1.0 - doubt, errors)
    return Voted(text, math.exp(log_posterior), errors)


def align(typed: Mapping[str, str], order: Sequence[str]) -> list[Slot]:
    """The slots of all these texts, taken in that order; every slot has a vote of everybody."""
    slots: list[Slot] = []
    done: list[str] = []
    for name in order:
        backbone = [_most_said(slot) for slot in slots]
        aligned: list[Slot] = []
        for op in Levenshtein.opcodes(backbone, list(typed[name])):
            own = typed[name][op.dest_start : op.dest_end]
            if op.tag == "insert":
                aligned += [Slot(dict.fromkeys(done, "") | {name: character}) for character in own]
                continue
            for offset, slot in enumerate(slots[op.src_start : op.src_end]):
                slot.said[name] = "" if op.tag == "delete" else own[offset]
                aligned.append(slot)
        slots = aligned
        done.append(name)
    return slots


def _most_said(slot: Slot) -> str:
    """What most have in a slot, a character before nothing: what the next text is aligned to."""
    counts: dict[str, int] = {}
    for said in slot.said.values():
        counts[said] = counts.get(said, 0) + 1
    return min(counts, key=lambda one: (-counts[one], one == "", one)) or "\0"


def _vote(slot: Slot, trust: Mapping[str, float]) -> tuple[str, float]:
    """The likeliest character of a slot and its posterior, among those said and all the unsaid ones together."""
    candidates = sorted(set(slot.said.values()))
    logs = dict.fromkeys(candidates, 0.0)
    unsaid = 0.0
    for name, said in slot.said.items():
        wrong = math.log((1.0 - trust[name]) / ALTERNATIVES)
        unsaid += wrong
        for one in candidates:
            logs[one] += math.log(trust[name]) if one == said else wrong
    top = max(*logs.values(), unsaid)
    unseen = max(ALTERNATIVES + 1.0 - len(candidates), 0.0)
    total = sum(math.exp(one - top) for one in logs.values()) + unseen * math.exp(unsaid - top)
    best = min(candidates, key=lambda one: (-logs[one], one))
    return best, math.exp(logs[best] - top) / total
