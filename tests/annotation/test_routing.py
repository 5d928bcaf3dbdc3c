"""Tests of where predictions go."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.annotation import plain_routing
from tests.annotation.plain_routing import Candidate, Decision
from winnow_annotation import candidates as lowest
from winnow_annotation import routing
from winnow_annotation.guarantees.binomial import labels_needed
from winnow_annotation.policies import Policy, ReviewSpec, ScoreBelow
from winnow_annotation.routing import Choice, unsent
from winnow_annotation.wishes import Predictions, Reason
from winnow_storage.schemas import Route

POLICIES = {
    "kind": Policy(min_p_ok=0.8),
    "text": Policy.model_validate({"uncalibrated": {"score_below": 0.6}}),
    "defect": Policy.model_validate({"uncalibrated": {"score_between": [0.8, 1.2]}}),
    "sure": Policy(max_error=0.02),
    "later": Policy(min_p_ok=0.8, uncalibrated="hold"),
    "taken": Policy(uncalibrated="accept"),
    "listed": Policy(min_p_ok=0.8, always_review_items=["a*"], never_review_items={"items": ["a", "b", "bc"]}),
}


def predictions(candidates: Sequence[Candidate]) -> Predictions:
    items = pa.array([one.item_id for one in candidates], pa.string())
    return Predictions(
        items,
        pa.array([one.version for one in candidates], pa.string()),
        pa.array([one.score for one in candidates], pa.float64()),
        pa.array([one.p_ok for one in candidates], pa.float64()),
        keys=items,
    )


def batches(candidates: Sequence[Candidate], size: int) -> list[tuple[str, list[Candidate]]]:
    """Of one task each, as a run's shards give them."""
    cut = [candidates[start : start + size] for start in range(0, len(candidates), size)]
    return [
        (task, [one for one in some if one.task == task])
        for some in cut
        for task in dict.fromkeys(one.task for one in some)
    ]


def route(
    candidates: Sequence[Candidate],
    policies: Mapping[str, Policy],
    *,
    budget: int,
    audit: float,
    seed: str,
    batch: int = 3,
    calibrate: int = 0,
) -> list[Decision]:
    """One decision per candidate, sorted by task and item."""
    review = ReviewSpec(policies=policies, budget=budget, audit=audit, calibrate=calibrate)
    choice = Choice(review, seed=seed)
    for place, (task, some) in enumerate(batches(candidates, batch)):
        choice.see(task, predictions(some), place=place)
    sent = {(one.task, one.item_id): (order, one) for order, one in enumerate(choice.sent())}
    decisions = []
    for place, (task, some) in enumerate(batches(candidates, batch)):
        routes, reasons = unsent(predictions(some), policies.get(task))
        for each, name, reason in zip(some, routes.to_pylist(), reasons.to_pylist(), strict=True):
            decision = Decision(each, Route(name), Reason(reason))
            if (task, each.item_id) in sent:
                order, one = sent[task, each.item_id]
                assert one.place == place
                decision = Decision(each, one.route, one.reason, order)
            decisions.append(decision)
    counts = Counter((one.candidate.task, str(one.route)) for one in decisions)
    assert {(task, name): n for task, of in choice.counts().items() for name, n in of.items()} == counts
    return sorted(decisions, key=lambda one: (one.candidate.task, one.candidate.item_id, one.candidate.version))


def one(candidate: Candidate, *, budget: int = 10, audit: float = 0.0) -> Decision:
    (decision,) = route([candidate], POLICIES, budget=budget, audit=audit, seed="s")
    return decision


def candidate(task: str, *, p_ok: float | None = None, score: float | None = None, item: str = "i") -> Candidate:
    return Candidate(item, task, "v1", score, p_ok)


@pytest.mark.parametrize(
    ("given_one", "expected", "reason"),
    [
        (candidate("free"), Route.ACCEPT, Reason.NO_POLICY),
        (candidate("kind", p_ok=0.8), Route.ACCEPT, Reason.P_OK_HIGH),
        (candidate("kind", p_ok=0.79), Route.REVIEW, Reason.P_OK_LOW),
        (candidate("kind", score=0.99), Route.REVIEW, Reason.UNCALIBRATED),
        (candidate("later", score=0.99), Route.HOLD, Reason.UNCALIBRATED),
        (candidate("taken", score=0.01), Route.ACCEPT, Reason.UNCALIBRATED),
        (candidate("text", score=0.59), Route.REVIEW, Reason.SCORE_LOW),
        (candidate("text", score=0.6), Route.ACCEPT, Reason.SCORE_HIGH),
        (candidate("text"), Route.HOLD, Reason.NO_SCORE),
        (candidate("text", score=float("nan")), Route.HOLD, Reason.NO_SCORE),
        (candidate("text", score=0.1, p_ok=0.99), Route.REVIEW, Reason.SCORE_LOW),
        (candidate("defect", score=0.79), Route.ACCEPT, Reason.SCORE_LOW),
        (candidate("defect", score=0.8), Route.REVIEW, Reason.SCORE_UNSURE),
        (candidate("defect", score=1.2), Route.REVIEW, Reason.SCORE_UNSURE),
        (candidate("defect", score=1.21), Route.ACCEPT, Reason.SCORE_HIGH),
        (candidate("sure", p_ok=0.999), Route.REVIEW, Reason.PROMISE_UNSUPPORTED),
        (candidate("listed", p_ok=0.999, item="ab"), Route.REVIEW, Reason.ALWAYS_REVIEW_ITEM),
        (candidate("listed", p_ok=0.999, item="a"), Route.REVIEW, Reason.ALWAYS_REVIEW_ITEM),
        (candidate("listed", p_ok=0.001, item="bc"), Route.ACCEPT, Reason.NEVER_REVIEW_ITEM),
        (candidate("listed", p_ok=0.001, item="c"), Route.REVIEW, Reason.P_OK_LOW),
    ],
)
def test_route__follows_the_policy(given_one: Candidate, expected: Route, reason: Reason) -> None:
    decision = one(given_one)
    assert (decision.route, decision.reason) == (expected, reason)
    assert (decision.order == 0) == (expected is Route.REVIEW)


def test_route__holds_what_is_over_the_budget_and_sends_the_least_sure_first() -> None:
    least_sure = [candidate("kind", p_ok=0.1 * n, item=f"i{n}") for n in (5, 3, 4, 1, 2)]
    decisions = route(least_sure, POLICIES, budget=2, audit=0.0, seed="s")
    sent = {d.order: d.candidate.item_id for d in decisions if d.route is Route.REVIEW}
    assert sent == {0: "i1", 1: "i2"}
    assert {d.reason for d in decisions if d.route is Route.HOLD} == {Reason.OVER_BUDGET}


def test_route__a_promise_over_the_budget_is_still_a_promise_unsupported() -> None:
    decision = one(candidate("sure", p_ok=0.9), budget=0)
    assert (decision.route, decision.reason) == (Route.HOLD, Reason.PROMISE_UNSUPPORTED)


def test_route__budget_counts_over_all_tasks() -> None:
    both = [candidate("kind", p_ok=0.5), candidate("text", score=0.1)]
    decisions = route(both, POLICIES, budget=1, audit=0.0, seed="s")
    assert Counter(d.route for d in decisions) == {Route.REVIEW: 1, Route.HOLD: 1}


def test_route__audit_comes_first_and_what_does_not_fit_stays_accepted() -> None:
    accepted = [candidate("kind", p_ok=0.9, item=f"a{n}") for n in range(5)]
    decisions = route([*accepted, candidate("kind", p_ok=0.1)], POLICIES, budget=3, audit=1.0, seed="s")
    assert Counter(d.route for d in decisions) == {Route.AUDIT: 3, Route.ACCEPT: 2, Route.HOLD: 1}
    assert sorted(d.order for d in decisions if d.order is not None) == [0, 1, 2]


def test_route__never_audits_a_task_without_a_policy() -> None:
    assert one(candidate("free"), audit=1.0).route is Route.ACCEPT


def test_labels_needed__is_the_zero_failure_bound() -> None:
    assert labels_needed(0.02, 0.9) == 114
    assert (1 - 0.02) ** 114 <= 0.1 < (1 - 0.02) ** 113


PEOPLE = (Route.REVIEW, Route.AUDIT, Route.CALIBRATE)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        item_id=st.text("abcdef", min_size=1, max_size=4),
        task=st.sampled_from([*POLICIES, "free"]),
        version=st.just("v"),
        score=st.none() | st.sampled_from([float("nan"), 0.5, 1.0]) | st.floats(0, 2),
        p_ok=st.none() | st.sampled_from([float("nan"), 0.5]) | st.floats(0, 1),
    ),
    unique_by=lambda c: (c.item_id, c.task),
    max_size=40,
)


@settings(deadline=None)
@given(CANDIDATES, st.integers(0, 12), st.floats(0, 1), st.integers(0, 5), st.randoms(use_true_random=False))
def test_route__does_not_depend_on_order_and_keeps_the_budget(
    candidates: list[Candidate], budget: int, audit: float, calibrate: int, random: object
) -> None:
    decisions = route(candidates, POLICIES, budget=budget, audit=audit, calibrate=calibrate, seed="s")
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert route(shuffled, POLICIES, budget=budget, audit=audit, calibrate=calibrate, seed="s") == decisions
    assert {d.candidate for d in decisions} == set(candidates)
    assert len(decisions) == len(candidates)
    sent = [d for d in decisions if d.route in PEOPLE]
    assert sorted(d.order for d in sent if d.order is not None) == list(range(len(sent)))
    assert len(sent) <= budget
    refused = [d for d in decisions if d.reason is Reason.OVER_BUDGET]
    assert not refused or len(sent) == budget


@pytest.mark.parametrize("slack", [0, 4096])
@settings(deadline=None)
@given(data=st.data())
def test_route__as_the_rule_with_everything_in_memory(slack: int, data: st.DataObject) -> None:
    candidates = data.draw(CANDIDATES)
    chosen: dict[str, Any] = {"budget": data.draw(st.integers(0, 12)), "audit": data.draw(st.floats(0, 1))}
    chosen["calibrate"] = data.draw(st.integers(0, 4))
    plain = plain_routing.route(candidates, POLICIES, seed="s", **chosen)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(routing, "SLACK", slack)
        patched.setattr(lowest, "SLACK", slack)
        found = route(candidates, POLICIES, seed="s", batch=data.draw(st.integers(1, 40)), **chosen)
    assert found == plain


@settings(deadline=None)
@given(CANDIDATES, st.integers(0, 12), st.floats(0, 1))
def test_route__a_larger_budget_takes_no_review_back(candidates: list[Candidate], budget: int, audit: float) -> None:
    def people(size: int) -> set[Candidate]:
        decisions = route(candidates, POLICIES, budget=size, audit=audit, seed="s")
        return {d.candidate for d in decisions if d.route in (Route.REVIEW, Route.AUDIT)}

    assert people(budget) <= people(budget + 3)


def test_route__tasks_take_turns_so_that_none_starves() -> None:
    """A calibrated probability and a raw score do not compare: neither may fill the budget alone."""
    policies = {"kind": Policy(min_p_ok=0.9), "text": Policy(uncalibrated=ScoreBelow(score_below=0.9))}
    unsure = [Candidate(f"{n}", "kind", "v", p_ok=0.01 * n) for n in range(10)]
    unsure += [Candidate(f"{n}", "text", "v", score=0.5 + 0.01 * n) for n in range(3)]
    sent = {d.order: d.candidate for d in route(unsure, policies, budget=7, audit=0, seed="s") if d.order is not None}
    assert [sent[place].task for place in range(7)] == ["kind", "text", "kind", "text", "kind", "text", "kind"]
    assert [sent[place].item_id for place in (0, 2, 4, 6)] == ["0", "1", "2", "3"]


def test_see_again__is_in_no_draw_of_all_and_a_part_keeps_no_promise() -> None:
    review = ReviewSpec(policies={"sure": Policy(max_error=0.02)}, budget=5, calibrate=3)
    old = [candidate("sure", score=0.9 + place / 100, item=f"old{place}") for place in range(4)]
    new = [candidate("sure", score=0.3, item=f"new{place}") for place in range(2)]
    for is_part, routes in ((False, {"accept": 4}), (True, {"review": 3, "hold": 1})):
        choice = Choice(review, seed="s", thresholds={"sure": {"": 0.6}})
        choice.see("sure", predictions(new), place=0)
        choice.see_again("sure", predictions(old), place=1, is_part=is_part)
        assert choice.counts()["sure"] == {"calibrate": 2} | routes
        assert {one.item_id for one in choice.sent() if one.inclusion is not None} == {"new0", "new1"}
        drawn = choice.draws()["sure"]
        assert (drawn.predictions, drawn.wanted, drawn.accepted) == (2, 2, routes.get("accept", 0))
        names, reasons = unsent(predictions(old), review.policies["sure"], {"": 0.6}, is_part=is_part)
        assert set(names.to_pylist()) == ({"hold"} if is_part else {"accept"})
        assert set(reasons.to_pylist()) == ({"over_budget"} if is_part else {"promised"})
        waiting = choice.waiting()["sure"]
        assert (len(waiting.items), waiting.left_out) == (1 if is_part else 0, 0)
