"""What one person says of one item, and what all together say: the records that every kind of consensus shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

Value = Mapping[str, Any]


class Method(StrEnum):
    """How answers become one. `dawid_skene_model` lets the model's prediction speak as well."""

    MAJORITY = "majority"
    DAWID_SKENE = "dawid_skene"
    DAWID_SKENE_MODEL = "dawid_skene_model"


@dataclass(frozen=True, slots=True)
class Opinion:
    """One person's answer about an item, in the frames of a label's value.

    `is_blind`: the person did not see the model's answer, so that the two are independent evidence.
    """

    item: str
    annotator: str
    value: Value
    is_blind: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What the opinions about an item together say.

    `posterior`: how likely the answer is the true one; of shapes and lines that of the least sure one. `agreed`:
    whether nobody said otherwise (shapes: whether everybody has the same ones).
    """

    value: Value
    posterior: float
    agreed: bool


@dataclass(frozen=True, slots=True)
class Consensus:
    """`answers` by item; `accuracy` by annotator: how often that person is right, as the answers themselves show it.

    `confusion`, of answers from a closed set: annotator -> (true, given) -> probability.
    """

    answers: Mapping[str, Answer]
    accuracy: Mapping[str, float]
    confusion: Mapping[str, Mapping[tuple[str, str], float]] = field(default_factory=dict)
