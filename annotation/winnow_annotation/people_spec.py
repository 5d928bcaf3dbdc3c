"""What may a job spec say about several people answering the same item? Keys of its `review` section."""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from winnow_annotation.consensus.decision import Limits
from winnow_annotation.consensus.opinions import Method

MOST_PEOPLE = 50


class PeopleModel(BaseModel):
    """A part of the section: immutable, and no key that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ConsensusSpec(PeopleModel):
    """How several answers become one, and from which posterior on nobody else is asked."""

    method: Method = Method.DAWID_SKENE_MODEL
    sure: float = Field(default=0.95, gt=0.5, lt=1)


class AdjudicateSpec(PeopleModel):
    """Who decides disputes, by e-mail in Label Studio, and whether they see who said what (`show`) or decide blind."""

    people: tuple[str, ...] = Field(min_length=1)
    show: bool = True


class GoldSpec(PeopleModel):
    """Questions whose answers are known: a file or folder of truth (as for `winnow evaluate`), and how many of them a
    run mixes in among the others.
    """

    truth: str
    per_run: int = Field(default=20, ge=0)


class SecondLookSpec(PeopleModel):
    """Labels that look wrong are looked at again: at most `budget` each time.

    `vectors` names the task of operator `embed` whose vectors tell, where there are several.
    """

    budget: int = Field(default=50, ge=1)
    vectors: str | None = None


class PeopleSpec(PeopleModel):
    """The keys of `review` that say how many people are asked about an item, and what is made of their answers.

    `overlap` answers are wanted in any case, another one only while the consensus is not sure, `max_overlap` at most.
    `gold` is by task. `blind`: nobody sees the model's answer, so that theirs and its are evidence of their own.
    """

    overlap: int = Field(default=1, ge=1, le=MOST_PEOPLE)
    max_overlap: int | None = Field(default=None, ge=1, le=MOST_PEOPLE)
    blind: bool = False
    consensus: ConsensusSpec = ConsensusSpec()
    adjudicate: AdjudicateSpec | None = None
    gold: Mapping[str, GoldSpec] = {}
    second_look: SecondLookSpec | None = None

    @model_validator(mode="after")
    def _overlaps_are_ordered(self) -> Self:
        if self.max_overlap is not None and self.max_overlap < self.overlap:
            raise ValueError(f"max_overlap ({self.max_overlap}) is less than overlap ({self.overlap})")
        return self

    @property
    def limits(self) -> Limits:
        """When somebody else is asked."""
        return Limits(self.overlap, self.max_overlap or self.overlap, self.consensus.sure)


# What of `review` says how people are asked, and decides neither rows nor routes.
PEOPLE_KEYS = tuple(PeopleSpec.model_fields)
