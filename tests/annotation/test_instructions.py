"""What people are told before they answer, by operator and label set."""

import pytest

from winnow_annotation.instructions import instructions
from winnow_annotation.kinds.catalogue import KINDS
from winnow_annotation.label_set import LabelSet
from winnow_storage.errors import SpecError


def test_instructions__say_what_each_interface_asks() -> None:
    said = {operator: instructions(operator, ["cat", "dog"]) for operator in KINDS}
    assert len(set(said.values())) == len(KINDS)
    assert said["classify"] == (
        "Choose the label that fits the image best. An image that nobody could judge is skipped; the field below it "
        "takes a comment."
    )
    several = instructions("classify", LabelSet(("cat", "dog"), several=True))
    assert several.startswith("Choose every label that fits, or (none of these).")
    tree = instructions("classify", LabelSet(("cat", "pet"), parents={"pet": None, "cat": "pet"}))
    assert tree.startswith("Choose the lowest label of the tree")


def test_instructions__of_the_spec_stand_instead_and_adjudicators_know_that_they_decide() -> None:
    assert instructions("detect", ["coin"], own="Count rims as coins.") == "Count rims as coins."
    decides = "People's answers about these images differ. Yours decides."
    assert instructions("detect", ["coin"], own="Count rims as coins.", decides=True) == (
        f"{decides} Count rims as coins."
    )
    assert instructions("ocr", decides=True).startswith(f"{decides} Every line of text")


def test_instructions__of_what_people_cannot_answer() -> None:
    with pytest.raises(SpecError, match="cannot be reviewed by people"):
        instructions("mine:Own", own="Look at it.")
