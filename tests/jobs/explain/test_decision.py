"""What an item is now, from every state that it may be in."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.jobs.evaluation.test_truth import label
from winnow_jobs.consensus.live import LiveItem
from winnow_jobs.explain.decision import Known, Word, decide
from winnow_jobs.explain.told import answer_text

PREDICTED = Known("done", None, {"label": "tin"}, None, None, None)


@pytest.mark.parametrize(
    ("route", "word", "answer", "why"),
    [
        (("accept", "promised"), Word.MODEL, True, "accepted (promised)"),
        (("accept", "no_policy"), Word.MODEL, True, "accepted (no_policy)"),
        (("audit", "audit_draw"), Word.MODEL, True, "drawn to be audited"),
        (("review", "below_promise"), Word.WAITING, False, "a person is asked (review: below_promise)"),
        (("calibrate", "calibrate_draw"), Word.WAITING, False, "has not answered"),
        (("hold", "over_budget"), Word.HELD, False, "held (over_budget)"),
    ],
)
def test_decide__by_the_route(route: tuple[str, str], word: Word, answer: bool, why: str) -> None:
    found = decide(replace(PREDICTED, route=dict(zip(("route", "reason"), route, strict=True))))
    assert (found.word, found.answer is not None) == (word, answer)
    assert why in found.why


def test_decide__without_a_route_or_a_prediction() -> None:
    assert decide(PREDICTED).word is Word.UNDECIDED
    failed = replace(PREDICTED, prediction=None, outcome="failed", why="out of memory")
    assert decide(failed).why == "failed: out of memory"
    assert decide(replace(failed, outcome=None, why=None)).why == "no run has committed it yet"


def test_decide__people_stand_above_the_route() -> None:
    one, two = label("a", "jar", annotation="1", at=1), label("a", "tin", annotation="2", at=2, annotator="bob")
    accepted = replace(PREDICTED, route={"route": "accept", "reason": "promised"})
    said = decide(replace(accepted, live=LiveItem("x", "v1", (one,))))
    assert (said.word, said.answer, said.why) == (Word.PEOPLE, {"label": "jar"}, "the answer of unknown")
    both = decide(replace(accepted, live=LiveItem("x", "v1", (one, two))))
    assert (both.word, both.answer) == (Word.PEOPLE, None)
    assert "no consensus is formed" in both.why


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"label": "tin"}, "tin"),
        ({"label": None, "labels": ["a", "b"]}, "a, b"),
        ({"labels": []}, "none of the labels"),
        ({"full_text": "one\ntwo"}, "'one / two'"),
        ({"is_anomalous": False}, "normal"),
        ({"boxes": [{"label": "cat"}, {"label": "cat", "is_output": False}, {"label": "dog"}]}, "1 cat, 1 dog"),
        ({"masks": []}, "no masks"),
        ({"model": "m", "score": None}, "a vector"),
    ],
)
def test_answer_text__in_a_few_words(value: Mapping[str, Any], text: str) -> None:
    assert answer_text(value) == text
