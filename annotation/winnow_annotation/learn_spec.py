"""What may a job spec say about learning from labels? The `learn` section: what never teaches, and what is asked of
what was learned before it is used.
"""

from pydantic import Field

from winnow_annotation.people_spec import PeopleModel


class GateSpec(PeopleModel):
    """How much worse than the current model a candidate may be, shown with `certainty` on gold, to take its place.

    `margin`: of accuracy. `class_margin`: of the accuracy on each true class that has enough gold.
    `calibration_margin`: of the mean squared distance between the score and being right (the Brier score).
    """

    certainty: float = Field(default=0.95, ge=0.5, lt=1)
    margin: float = Field(default=0.01, gt=0, lt=1)
    class_margin: float = Field(default=0.05, gt=0, lt=1)
    calibration_margin: float = Field(default=0.02, gt=0, lt=1)


class LearnSpec(PeopleModel):
    """The `learn` section.

    `gold`: this share of all items never teaches a head; those of them that a uniform draw sent to people are the gold
    set, on which models are compared. More labels are `worthwhile` while doubling them may gain this much accuracy.
    """

    gold: float = Field(default=0.2, ge=0, le=0.9)
    gate: GateSpec = GateSpec()
    worthwhile: float = Field(default=0.01, gt=0, lt=1)
