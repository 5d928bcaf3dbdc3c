"""Tests of the review section of a spec."""

import pytest
from pydantic import ValidationError

from winnow_annotation.policies import (
    LabelStudioSpec,
    Policy,
    ReviewSpec,
    ScoreBelow,
    ScoreBetween,
    check_policy,
    resolve_secret,
)
from winnow_storage.errors import SpecError


def test_review_spec__reads_what_the_design_shows() -> None:
    spec = ReviewSpec.model_validate(
        {
            "label_studio": {"url": "http://127.0.0.1:8080/", "token": "${LABEL_STUDIO_TOKEN}"},
            "policies": {
                "kind": {"max_error": 0.02, "confidence": 0.9},
                "text": {"min_p_ok": 0.85, "uncalibrated": "review"},
                "parts": {"uncalibrated": {"score_below": 0.6}},
                "defect": {"uncalibrated": {"score_between": [0.8, 1.2]}},
            },
            "budget": 20,
            "audit": 0.01,
        }
    )
    assert spec.label_studio is not None
    assert spec.label_studio.url == "http://127.0.0.1:8080"
    assert spec.policies["parts"].uncalibrated == ScoreBelow(score_below=0.6)
    assert spec.policies["defect"].uncalibrated == ScoreBetween(score_between=(0.8, 1.2))
    assert ReviewSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"min_p_ok": 0.5, "max_error": 0.1}, "not both"),
        ({"max_error": 0.1, "uncalibrated": {"score_below": 0.5}}, "keeps no promise"),
        ({"max_error": 0.1, "uncalibrated": "accept"}, "keeps no promise"),
        ({"uncalibrated": {"score_between": [2, 1]}}, "first number"),
        ({"uncalibrated": "maybe"}, "review"),
        ({"min_p_ok": 1.5}, "less than or equal to 1"),
        ({"min_pok": 0.5}, "Extra inputs"),
        ({"max_loss": 0.1, "max_error": 0.1}, "not both"),
        ({"min_p_ok": 0.5, "confidence": 0.9}, "confidence belongs to a promise"),
        ({"harmful": ["gore"]}, "harmful belongs to min_recall"),
        ({"min_recall": 0.9, "rank": "p_ok"}, "leave rank out"),
        ({"always_review": ["a"], "never_review": ["a"]}, "both name 'a'"),
        ({"classes": {"a": {"min_p_ok": 0.9}}, "never_review": ["a"]}, "has a rule for 'a'"),
        ({"classes": {"a": {"min_recall": 0.9}}}, "give it to the task"),
        ({"always_review_items": "legal/*"}, "write a list of patterns"),
        ({"always_review_items": ["legal/*", ""]}, "an empty pattern"),
        ({"never_review_items": {"fiel": "a.txt"}}, "Extra inputs"),
    ],
)
def test_policy__refuses_what_contradicts_itself(policy: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Policy.model_validate(policy)


@pytest.mark.parametrize(
    "policy",
    [{"min_p_ok": 0.5}, {"max_error": 0.1}, {"max_loss": 0.1}, {"min_recall": 0.9, "harmful": ["a"]},
     {"uncalibrated": {"score_below": 0.5}}],
)  # fmt: skip
def test_check_policy__nothing_chooses_among_embeddings_by_a_score(policy: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="embed have no score and no p_ok") as raised:
        check_policy("embed", Policy.model_validate(policy))
    assert "uncalibrated: accept with review.audit" in str(raised.value.hint)
    for drawn in ("accept", "hold", "review"):
        check_policy("embed", Policy.model_validate({"uncalibrated": drawn, "always_review_items": ["a*"]}))


def test_label_studio_spec__takes_no_secret_itself_and_does_not_repeat_it() -> None:
    with pytest.raises(ValidationError) as caught:
        LabelStudioSpec.model_validate({"url": "http://localhost:8080", "token": "a-real-secret"})
    assert "${NAME}" in str(caught.value)
    assert "a-real-secret" not in str(caught.value)


def test_resolve_secret__says_which_variable_is_missing() -> None:
    assert resolve_secret("${TOKEN}", {"TOKEN": "x"}) == "x"
    with pytest.raises(SpecError, match="TOKEN is not set"):
        resolve_secret("${TOKEN}", {"TOKEN": ""})
