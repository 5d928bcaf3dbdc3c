"""The gate's verdicts, and their sentences as people see them."""

import json

import numpy as np
import pytest

from winnow_annotation.gate.decide import Answers, decide, same
from winnow_annotation.gate.verdict import PromiseCheck, Reason, Verdict, notes, sentence
from winnow_annotation.learn_spec import GateSpec

RULES = GateSpec()


def judged(
    *,
    gold: int = 400,
    both: int = 360,
    wins: int = 14,
    losses: int = 4,
    score: float = 0.9,
    current_score: float = 0.9,
    losses_of: str = "any",
    classes: int = 2,
    promises: tuple[PromiseCheck, ...] = (),
    rules: GateSpec = RULES,
) -> Verdict:
    """Items of `classes` classes by turns; those that only one model has right stand last, evenly mixed."""
    ours, theirs = np.zeros(gold, bool), np.zeros(gold, bool)
    ours[:both] = theirs[:both] = True
    ours[both : both + wins] = True
    theirs[both + wins : both + wins + losses] = True
    truths = [f"class {place % classes}" for place in range(gold)]
    if losses_of != "any":
        truths = [losses_of if lost and not won else name for name, won, lost in zip(truths, ours, theirs, strict=True)]
    order = np.random.default_rng(0).permutation(gold)
    ours, theirs = ours[order], theirs[order]
    truths = [truths[place] for place in order]
    scores, current_scores = (np.full(gold, one) for one in (score, current_score))
    return decide(truths, Answers(ours, scores), Answers(theirs, current_scores), rules, promises)


def test_decide__promotes_a_better_one() -> None:
    found = judged()
    assert found.promote
    assert found.reasons == (Reason.NOT_WORSE,)
    assert sentence(found) == (
        "promote: of 400 gold items it wins 14 and loses 4, a gain of +2.50%, of at least +0.61% with 95% certainty, "
        "where -1.00% is allowed"
    )


@pytest.mark.parametrize(
    ("changes", "reason", "text"),
    [
        (
            {"wins": 4, "losses": 14},
            Reason.WORSE,
            "of 400 gold items it wins 4 and loses 14, a gain of -2.50%",
        ),
        ({"wins": 9, "losses": 8}, Reason.TOO_FEW_GOLD, "a gain of +0.25%, of at least -1."),
        ({"wins": 0, "losses": 0}, Reason.NO_BETTER, "it wins 0 and loses 0"),
        (
            {"wins": 30, "losses": 9, "both": 320, "losses_of": "rare"},
            Reason.CLASS_WORSE,
            "of 9 gold items of rare it loses 9 and wins 0: that class became worse",
        ),
        (
            {"score": 0.5},
            Reason.CALIBRATION_WORSE,
            "its Brier score is 0.2500 beside 0.0820: its scores are less true",
        ),
    ],
)
def test_decide__keeps_the_current_one_and_says_why(changes: dict[str, int], reason: Reason, text: str) -> None:
    found = judged(**changes)  # type: ignore[arg-type]
    assert not found.promote
    assert reason in found.reasons
    assert text in sentence(found)
    assert sentence(found).startswith("keep the current model: ")


def test_decide__says_how_many_gold_items_it_needs() -> None:
    few = judged(gold=60, both=54, wins=3, losses=1)
    assert Reason.TOO_FEW_GOLD in few.reasons
    assert few.missing is not None
    assert 50 < few.missing < 2000
    worse = judged(wins=2, losses=20)
    assert worse.missing is None
    none = decide([], Answers(np.zeros(0, bool), np.zeros(0)), Answers(np.zeros(0, bool), np.zeros(0)), RULES)
    assert none.reasons == (Reason.TOO_FEW_GOLD,)
    assert sentence(none) == "keep the current model: there is no gold: nothing can be compared"


def test_decide__a_class_with_enough_gold_must_be_shown_not_to_be_worse() -> None:
    rules = GateSpec(class_margin=0.2)
    fine = judged(gold=800, both=740, wins=30, losses=8, rules=rules)
    assert fine.promote, sentence(fine)
    assert not fine.too_few
    assert notes(fine) == []
    lost = judged(gold=800, both=700, wins=60, losses=20, classes=1, rules=GateSpec(class_margin=0.001, margin=0.001))
    assert [one.has_enough for one in lost.classes] == [False]
    (note,) = notes(lost)
    assert note.startswith(
        "too few gold items to show that single classes are not worse, only that they are: class 0 ("
    )


def test_decide__a_promise_that_gold_supports_must_not_be_lost() -> None:
    lost = PromiseCheck("", "max_error 0.02", True, False, True, 0.0, 0.7)
    found = judged(promises=(lost,))
    assert found.reasons == (Reason.PROMISE_LOST,)
    assert "gold supports the promise max_error 0.02 with the current model, and not with it" in sentence(found)
    untested = PromiseCheck("", "max_error 0.02", False, False, False, 0.0, 0.0)
    found = judged(promises=(untested,))
    assert found.promote
    assert "too few gold items to look at the promise max_error 0.02" in notes(found)


def test_decide__without_a_current_one_there_is_nothing_to_lose() -> None:
    answers = Answers(np.array([True, False]), np.array([0.9, 0.6]))
    first = decide(["a", "b"], answers, None, RULES)
    assert (first.promote, first.reasons, first.accuracy) == (True, (Reason.FIRST,), 0.5)
    again = same(["a", "b"], answers)
    assert (again.promote, again.reasons) == (False, (Reason.SAME,))


@pytest.mark.parametrize("gold", [0, 2, 40])
def test_verdict__is_json(gold: int) -> None:
    found = judged(gold=gold, both=gold // 2, wins=gold // 4, losses=gold // 8)
    text = json.dumps(found.record(), allow_nan=False)
    assert json.loads(text)["why"][0]["reason"] == found.reasons[0]
