"""What may a job spec say about several people answering the same item? Keys of its `review` section."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from winnow_annotation.consensus.decision import Limits
from winnow_annotation.consensus.opinions import Method

MOST_PEOPLE = 50
Instructions = Annotated[str, Field(min_length=1, max_length=20_000)]


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


class OverlapSpec(PeopleModel):
    """How many people are asked about the items of one task, and when they are sure; what is left out is as for all."""

    overlap: int | None = Field(default=None, ge=1, le=MOST_PEOPLE)
    max_overlap: int | None = Field(default=None, ge=1, le=MOST_PEOPLE)
    sure: float | None = Field(default=None, gt=0.5, lt=1)


class PeopleSpec(PeopleModel):
    """The keys of `review` that say how many people are asked about an item, and what is made of their answers.

    `overlap` answers are wanted in any case, another one only while the consensus is not sure, `max_overlap` at most;
    `overlaps` says so of single tasks. `gold` is by task. `blind`: nobody sees the model's answer, so that theirs and
    its are evidence of their own.
    `instructions`, by task, are what people read before they answer, in HTML; else what its interface asks.
    """

    overlap: int = Field(default=1, ge=1, le=MOST_PEOPLE)
    max_overlap: int | None = Field(default=None, ge=1, le=MOST_PEOPLE)
    blind: bool = False
    consensus: ConsensusSpec = ConsensusSpec()
    adjudicate: AdjudicateSpec | None = None
    gold: Mapping[str, GoldSpec] = {}
    second_look: SecondLookSpec | None = None
    # these are left out where there are none, so that plans of before they were keep their digests
    overlaps: Mapping[str, OverlapSpec] = Field(default={}, exclude_if=lambda tasks: not tasks)
    instructions: Mapping[str, Instructions] = Field(default={}, exclude_if=lambda told: not told)

    @model_validator(mode="after")
    def _overlaps_are_ordered(self) -> Self:
        own = {"": OverlapSpec(max_overlap=self.max_overlap), **self.overlaps}
        for task, one in own.items():
            least = self.limits(task).overlap
            if one.max_overlap is not None and one.max_overlap < least:
                of = f"overlaps.{task}: " if task else ""
                raise ValueError(f"{of}max_overlap ({one.max_overlap}) is less than overlap ({least})")
        return self

    def limits(self, task: str) -> Limits:
        """When somebody else is asked about an item of a task."""
        own = self.overlaps.get(task, _AS_FOR_ALL)
        overlap = self.overlap if own.overlap is None else own.overlap
        most = self.max_overlap if own.max_overlap is None else own.max_overlap
        sure = self.consensus.sure if own.sure is None else own.sure
        return Limits(overlap, max(overlap, most or overlap), sure)


_AS_FOR_ALL = OverlapSpec()

# What of `review` says how people are asked, and decides neither rows nor routes.
PEOPLE_KEYS = tuple(PeopleSpec.model_fields)
