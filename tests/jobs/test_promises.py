"""Promises fitted on answered draws, kept with their evidence, pinned, and what audits then say of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.jobs.drawn_runs import TASK, answer, commit_run, job
from winnow_annotation.gate.gold import is_reserved
from winnow_annotation.learn_spec import LearnSpec
from winnow_annotation.policies import Policy, ReviewSpec
from winnow_jobs.audit import audit_alarms, audit_records
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.review_notes import review_lines, review_warnings
from winnow_jobs.routes import iter_routes, iter_sent, routes_key
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.what_if import what_if
from winnow_storage.errors import StoreError

CLASSES = ("cat", "dog", "weapon")
POLICY = Policy(max_error=0.05, confidence=0.9)


def review(policy: Policy = POLICY, *, calibrate: int = 300, audit: float = 0.0, budget: int = 400) -> ReviewSpec:
    return ReviewSpec(policies={TASK: policy}, calibrate=calibrate, audit=audit, budget=budget)


def predicted(n: int, seed: int) -> tuple[list[str], np.ndarray, dict[str, str]]:
    """Keys, probabilities (n, 3), and what is true: the classifier is right with the probability that it states."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.15, 0.15, 0.05], n)
    keys = [f"{seed}-{number:05d}.jpg" for number in range(n)]
    return (
        keys,
        probabilities,
        {key: CLASSES[rng.choice(3, p=one)] for key, one in zip(keys, probabilities, strict=True)},
    )


def drawn_run(
    runs: Runs, resolved: ResolvedSpec, *, n: int = 2000, seed: int = 1
) -> tuple[PlanDocument, dict[str, str]]:
    keys, probabilities, truth = predicted(n, seed)
    return commit_run(runs, resolved, keys, probabilities, CLASSES), truth


def error_of_accepted(runs: Runs, run_id: str, truth: dict[str, str]) -> float:
    labels = {}
    for plan_row in runs.store.walk(f"runs/{run_id}/results/"):
        from winnow_storage.parquet_rows import read_rows

        rows = read_rows(runs.store, plan_row).to_pylist()
        labels |= {row["key"]: row[TASK]["label"] for row in rows}
    accepted = [
        row["key"] for batch in iter_routes(runs.store, run_id) for row in batch.to_pylist() if row["route"] == "accept"
    ]
    return float(np.mean([labels[key] != truth[key] for key in accepted]))


def test_promise__is_fitted_on_answered_draws_and_kept(tmp_path: Path) -> None:
    resolved, runs = job(tmp_path, review())
    first, truth = drawn_run(runs, resolved)
    record = route_run(runs.store, first)
    assert record["draws"][TASK] == {
        "predictions": 2000,
        "accepted": 0,
        "wanted": 300,
        "calibrated": 300,
        "audit_drawn": 0,
        "audited": 0,
    }
    (text,) = review_warnings(record)
    assert "0 labels of uniform random draws, at least 45 are needed; 45 more answered draws are needed" in text
    assert "1,600 predictions hold" in text
    assert all(
        row["inclusion"] == 0.15
        for row in iter_sent(runs.store, "0001", ["route", "inclusion"])
        if row["route"] == "calibrate"
    )
    assert answer(runs, "0001", truth, ["calibrate"]) == 300

    second, more = drawn_run(runs, resolved, n=3000, seed=2)
    record = route_run(runs.store, second)
    (promise,) = record["promises"]
    assert review_warnings(record) == []
    assert "at most 5.00% of the accepted is wrong, with 90% certainty" in review_lines(record)[0]
    assert promise["evidence"]["labels"] == 300
    assert promise["evidence"]["bound"] <= 0.05
    assert record["routes"][TASK]["accept"] > 1000
    assert error_of_accepted(runs, "0002", more) <= 0.05
    reasons = {row["reason"] for batch in iter_routes(runs.store, "0002") for row in batch.to_pylist()}
    assert reasons == {"promised", "below_promise", "calibrate_draw", "over_budget"}
    kept = json.loads(runs.store.get(f"promises/{TASK}/{promise['digest']}.json"))
    assert kept["threshold"] == promise["threshold"]

    answer(runs, "0002", more, ["calibrate"])  # what comes later changes nothing of a run
    before = runs.store.get(routes_key("0002"))
    (tmp_path / "out" / routes_key("0002")).unlink()
    assert route_run(runs.store, second) == record
    assert runs.store.get(routes_key("0002")) == before
    kept_at = tmp_path / "out" / f"promises/{TASK}/{promise['digest']}.json"
    kept_at.write_text(kept_at.read_text().replace('"labels":300', '"labels":301'))
    with pytest.raises(StoreError, match="not what was written there"):
        route_run(runs.store, second)


def test_promise__is_never_fitted_on_reviewed_or_audited_items_nor_on_what_the_model_learned_from(
    tmp_path: Path,
) -> None:
    resolved, runs = job(tmp_path, review(calibrate=0))
    first, truth = drawn_run(runs, resolved)
    route_run(runs.store, first)
    assert answer(runs, "0001", truth, ["review", "audit"]) == 400
    second, _ = drawn_run(runs, resolved, seed=2)
    (promise,) = route_run(runs.store, second)["promises"]
    assert (promise["threshold"], promise["evidence"]["labels"]) == (None, 0)

    resolved, runs = job(tmp_path / "other", review())
    keys, probabilities, truth = predicted(600, 1)
    first = commit_run(runs, resolved, keys, probabilities, CLASSES)
    route_run(runs.store, first)
    answer(runs, "0001", truth, ["calibrate"])
    newer, _ = job(tmp_path / "other", review(), revision=2)
    route_run(runs.store, commit_run(runs, newer, keys, probabilities, CLASSES))
    answer(runs, "0002", truth, ["calibrate"])
    (promise,) = route_run(runs.store, commit_run(runs, newer, keys, probabilities, CLASSES))["promises"]
    evidence = promise["evidence"]
    assert evidence["set_aside"] > 50
    assert 0 < evidence["labels"] < 300
    assert evidence["set_aside"] + evidence["labels"] == 300


def test_promise__is_never_fitted_on_gold_which_chooses_heads(tmp_path: Path) -> None:
    resolved, runs = job(tmp_path, review(), is_head=True)
    first, truth = drawn_run(runs, resolved)
    route_run(runs.store, first)
    answer(runs, "0001", truth, ["calibrate"])
    drawn = [row["key"] for row in iter_sent(runs.store, "0001", ["route", "key"]) if row["route"] == "calibrate"]
    gold = [key for key in drawn if is_reserved("shelves", TASK, key, share=0.2)]
    assert 30 < len(gold) < 90
    evidence = route_run(runs.store, drawn_run(runs, resolved, seed=2)[0])["promises"][0]["evidence"]
    assert (evidence["set_aside"], evidence["labels"]) == (len(gold), 300 - len(gold))
    none = resolved.model_copy(update={"learn": LearnSpec(gold=0)})
    evidence = route_run(runs.store, drawn_run(runs, none, seed=3)[0])["promises"][0]["evidence"]
    assert (evidence["set_aside"], evidence["labels"]) == (0, 300)


def test_promise__by_class_and_lists(tmp_path: Path) -> None:
    policy = Policy.model_validate(
        {"max_error": 0.1, "classes": {"dog": {"max_error": 0.04}}, "always_review": ["weapon"]}
    )
    resolved, runs = job(tmp_path, review(policy, calibrate=800, budget=900))
    first, truth = drawn_run(runs, resolved, n=3000)
    route_run(runs.store, first)
    answer(runs, "0001", truth, ["calibrate"])
    second, _ = drawn_run(runs, resolved, n=3000, seed=2)
    record = route_run(runs.store, second)
    by_rule = {one["rule"]: one for one in record["promises"]}
    assert set(by_rule) == {"", "dog"}
    assert by_rule["dog"]["threshold"] > by_rule[""]["threshold"]
    rows = [row for batch in iter_routes(runs.store, "0002") for row in batch.to_pylist()]
    said = {row["key"]: json.loads(row["prediction"])["label"] for row in rows if row["prediction"]}
    weapons = [row for row in rows if row["reason"] == "always_review"]
    assert weapons
    assert {said[row["key"]] for row in weapons} == {"weapon"}
    assert all(said.get(row["key"]) != "weapon" for row in rows if row["reason"] == "promised")


def test_promise__listed_items_are_no_evidence_and_are_audited_all_the_same(tmp_path: Path) -> None:
    lists = {"always_review_items": ["?-000*.jpg"], "never_review_items": ["?-001*.jpg"]}
    policy = Policy.model_validate({"max_error": 0.05} | lists)
    resolved, runs = job(tmp_path, review(policy, calibrate=600, audit=0.5, budget=3000))
    first, truth = drawn_run(runs, resolved)
    route_run(runs.store, first)
    drawn = [row for row in iter_sent(runs.store, "0001", ["route", "key"]) if row["route"] == "calibrate"]
    listed = [row for row in drawn if row["key"] < "1-00200"]
    assert listed  # whatever is listed may be drawn as well
    answer(runs, "0001", truth, ["calibrate"])
    second, more = drawn_run(runs, resolved, n=3000, seed=2)
    asked = what_if(resolved, runs)["variants"][0]
    record = route_run(runs.store, second)
    (promise,) = record["promises"]
    assert promise["evidence"]["labels"] == 600 - len(listed)
    assert (promise["digest"], record["routes"][TASK]) == (asked["promises"][0]["digest"], asked["routes"])
    rows = [row for batch in iter_routes(runs.store, "0002") for row in batch.to_pylist()]
    assert len(rows) == len({row["key"] for row in rows}) == 3000
    always = [row for row in rows if row["key"] < "2-00100"]
    never = [row for row in rows if "2-00100" <= row["key"] < "2-00200"]
    assert {row["reason"] for row in always} <= {"always_review_item", "calibrate_draw"}
    assert {row["reason"] for row in never} == {"never_review_item", "audit_draw", "calibrate_draw"}
    assert "accept" not in {row["route"] for row in always}
    assert not {"always_review_item", "never_review_item"} & {row["reason"] for row in rows if row["key"] >= "2-00200"}
    answer(runs, "0002", more, ["audit"])
    (found,) = audit_records(resolved, runs)
    audited = [row for row in rows if row["route"] == "audit"]
    of_rules = [row for row in audited if row["key"] >= "2-00200"]
    assert found["all"]["answered"] == len(audited) > len(of_rules) == found["promises"][0]["answered"]


def test_promise__min_recall_counts_what_listed_items_let_through(tmp_path: Path) -> None:
    found = {}
    half = ["*[02468].jpg"]
    for name, lists in (
        ("none", {}),
        ("never", {"never_review_items": half}),
        ("always", {"always_review_items": half}),
    ):
        policy = Policy.model_validate({"min_recall": 0.95, "harmful": ["weapon"]} | lists)
        resolved, runs = job(tmp_path / name, review(policy, calibrate=1500, budget=1500))
        first, truth = drawn_run(runs, resolved, n=1500)
        route_run(runs.store, first)
        answer(runs, "0001", truth, ["calibrate"])
        second, _ = drawn_run(runs, resolved, n=100, seed=2)
        (found[name],) = route_run(runs.store, second)["promises"]
    assert len({one["evidence"]["labels"] for one in found.values()}) == 1  # every harmful draw counts
    assert found["none"]["threshold"] is not None, found["none"]["why"]
    assert found["never"]["threshold"] is None  # what is not flagged of that half passes unseen
    assert found["always"]["threshold"] is not None, found["always"]["why"]


def test_promise__min_recall_bounds_what_is_let_through(tmp_path: Path) -> None:
    policy = Policy(min_recall=0.8, harmful=("weapon",))
    resolved, runs = job(tmp_path, review(policy, calibrate=1500, budget=1500))
    first, truth = drawn_run(runs, resolved, n=4000)
    route_run(runs.store, first)
    answer(runs, "0001", truth, ["calibrate"])
    second, more = drawn_run(runs, resolved, n=4000, seed=2)
    record = route_run(runs.store, second)
    (promise,) = record["promises"]
    assert promise["threshold"] is not None, promise["why"]
    rows = [row for batch in iter_routes(runs.store, "0002") for row in batch.to_pylist()]
    through = sum(more[row["key"]] == "weapon" for row in rows if row["reason"] == "promised")
    assert through / sum(name == "weapon" for name in more.values()) <= 0.2
    assert record["routes"][TASK]["accept"] > 500


@pytest.mark.parametrize(("spoiled", "state"), [(0.0, "open"), (0.6, "broken")])
def test_audit__estimates_and_alarm(tmp_path: Path, spoiled: float, state: str) -> None:
    """After the promise the images change: of some, what is true is another class than the model can know."""
    resolved, runs = job(tmp_path, review(audit=0.3, calibrate=500, budget=3000))
    first, truth = drawn_run(runs, resolved)
    route_run(runs.store, first)
    answer(runs, "0001", truth, ["calibrate"])
    second, more = drawn_run(runs, resolved, n=3000, seed=2)
    record = route_run(runs.store, second)
    rng = np.random.default_rng(0)
    more |= {key: "weapon" for key in more if rng.uniform() < spoiled}
    assert answer(runs, "0002", more, ["audit"]) == record["routes"][TASK]["audit"]
    (found,) = audit_records(resolved, runs)
    assert found["all"]["answered"] == record["routes"][TASK]["audit"]
    low, high = found["all"]["error_interval"]
    assert low <= found["all"]["error"] <= high
    assert sum(cell["answered"] for cell in found["classes"].values()) == found["all"]["answered"]
    assert len(found["weeks"]) == 1
    (judged,) = found["promises"]
    assert judged["state"] == state, judged
    alarms = audit_alarms([found])
    assert len(alarms) == (state == "broken")
    assert state == "open" or "the promise is BROKEN" in alarms[0]


def test_draws__that_the_budget_cuts_say_what_they_still_support(tmp_path: Path) -> None:
    resolved, runs = job(tmp_path, review(calibrate=300, budget=50))
    first, _ = drawn_run(runs, resolved, n=400)
    record = route_run(runs.store, first)
    warning = next(text for text in review_warnings(record) if "fit in the budget" in text)
    assert "50 of 300 draws to calibrate fit in the budget" in warning
    assert "an error below 4.50% with 90 % certainty" in warning
