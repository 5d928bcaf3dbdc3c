"""Held predictions compete again in later nights: none is lost, none is sent twice, and each is decided afresh."""

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jobs.drawn_runs import TASK, answer, commit_run, job
from winnow_annotation.policies import DriftSpec, Policy, ReviewSpec
from winnow_annotation.selection import POOL
from winnow_jobs.held import held_key, held_view, read_held
from winnow_jobs.people import index_run
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.review_notes import held_lines
from winnow_jobs.routes import TO_PEOPLE, iter_routes, routes_key
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.verify.routes import Predictions, check_routes
from winnow_jobs.what_if import what_if
from winnow_storage.ids import item_id
from winnow_storage.ledger import open_ledger
from winnow_storage.schemas import Route

CLASSES = ("a", "b")
ALL = Policy()  # everything is to be reviewed


def review(policy: Policy = ALL, *, budget: int = 3, **more: Any) -> ReviewSpec:
    return ReviewSpec(policies={TASK: policy}, budget=budget, drift=DriftSpec(false_alarms=0), **more)


@dataclass
class Job:
    """Nights of one job over a corpus of which each night knows some."""

    folder: Path
    corpus: dict[str, str] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    plans: list[PlanDocument] = field(default_factory=list)
    runs: Runs = field(init=False)
    resolved: ResolvedSpec = field(init=False)

    def night(self, new: Mapping[str, float], wanted: ReviewSpec, *, revision: int = 1) -> list[dict[str, Any]]:
        """Predict `new` (key -> score), route; the run's routes."""
        self.resolved, self.runs = job(self.folder, wanted, revision=revision)
        self.corpus |= {key: self.corpus.get(key, "v1") for key in new}
        scores = np.array(list(new.values())).reshape(-1)
        probabilities = np.stack([scores, 1 - scores], axis=1) if len(new) else np.zeros((0, 2))
        plan = commit_run(self.runs, self.resolved, list(new), probabilities, CLASSES, corpus=self.corpus)
        self.plans.append(plan)
        self.records.append(route_run(self.runs.store, plan))
        return self.routes(plan.run_id)

    def routes(self, run_id: str) -> list[dict[str, Any]]:
        return [row for batch in iter_routes(self.runs.store, run_id) for row in batch.to_pylist()]

    def waiting(self, run_id: str) -> set[str]:
        return set(read_held(self.runs.store, run_id)[0]["key"].to_pylist())

    def check(self, plan: PlanDocument, new: Sequence[str]) -> tuple[Any, ...]:
        predictions = Predictions()
        for key in new:
            predictions.add((item_id("c", key), self.corpus.get(key, "v1"), TASK))
        return check_routes(self.runs.store, plan, predictions).findings


def scored(*names: str, start: float = 0.6) -> dict[str, float]:
    """The first ones are the least sure."""
    return {f"{name}.jpg": start + 0.01 * place for place, name in enumerate(names)}


def keys_of(rows: Sequence[Mapping[str, Any]], *routes: str) -> list[str]:
    return [row["key"].removesuffix(".jpg") for row in rows if row["route"] in routes]


def test_held__competes_again_with_what_is_new(tmp_path: Path) -> None:
    one = Job(tmp_path)
    first = one.night(scored(*"abcdefgh"), review())
    assert keys_of(first, "review") == ["a", "b", "c"]
    assert all(row["predicted_run"] is None for row in first)
    assert one.records[0]["held"] == {"waiting": {TASK: 5}, "left_out": {}}

    second = one.night(scored("x", "y", start=0.635), review())
    assert keys_of(second, "review") == ["x", "d", "e"] or keys_of(second, "review") == ["d", "x", "e"]
    assert {row["key"][0]: row["predicted_run"] for row in second} == {
        **dict.fromkeys("defgh", "0001"), **dict.fromkeys("xy")
    }  # fmt: skip
    assert one.records[1]["held_over"] == {TASK: {"hold": 3, "review": 2}}
    assert held_lines(one.records[1]) == [
        "kind: of 5 predictions that earlier runs held: 3 hold, 2 review",
        "kind: 4 held predictions will compete again",
    ]
    sent = [row for row in second if row["predicted_run"] and row["route"] == "review"]
    assert {json.loads(row["prediction"])["label"] for row in sent} == {"a"}
    assert {row["run_id"] for row in sent} == {"0002"}
    assert one.records[1]["selected"] == 3
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert [index_run(one.runs, ledger, plan, None) for plan in one.plans] == [3, 3]

    third = one.night({}, review())
    assert keys_of(third, "review") == ["f", "y", "g"] or keys_of(third, "review") == ["y", "f", "g"]
    assert one.waiting("0003") == {"h.jpg"}
    assert keys_of(one.night({}, review()), "review") == ["h"]
    assert held_view(one.runs.store, "0004") is None
    assert one.night({}, review()) == []
    keys = [row["dedupe_key"] for plan in one.plans for row in one.routes(plan.run_id) if row["dedupe_key"]]
    assert len(keys) == len(set(keys)) == 10
    for plan, new in zip(one.plans, ("abcdefgh", "xy", "", "", ""), strict=True):
        assert one.check(plan, [f"{name}.jpg" for name in new]) == ()
    data = one.runs.store.get(routes_key("0002"))
    (tmp_path / "out" / routes_key("0002")).unlink()
    assert route_run(one.runs.store, one.plans[1]) == one.records[1]
    assert one.runs.store.get(routes_key("0002")) == data


def test_held__what_is_gone_changed_or_predicted_anew_competes_no_more(tmp_path: Path) -> None:
    one = Job(tmp_path)
    one.night(scored(*"abcdefg"), review())
    del one.corpus["d.jpg"]
    one.corpus["e.jpg"] = "v2"
    second = one.night({"f.jpg": 0.99}, review())
    assert [(row["key"], row["predicted_run"]) for row in second] == [("g.jpg", "0001"), ("f.jpg", None)]
    other = one.night(
        scored("z"), review(budget=1), revision=2
    )  # another model: what it did not predict is not its own
    assert [row["key"] for row in other] == ["z.jpg"]


def test_held__is_decided_afresh_under_the_policies_of_the_day(tmp_path: Path) -> None:
    one = Job(tmp_path)
    one.night(scored(*"abcdefg"), review())
    low = review(Policy.model_validate({"uncalibrated": {"score_below": 0.645}}))
    second = one.night({}, low)
    assert {row["key"][0]: (row["route"], row["reason"]) for row in second} == {
        "d": ("review", "score_low"),
        "e": ("review", "score_low"),
        "f": ("accept", "score_high"),
        "g": ("accept", "score_high"),
    }
    assert one.waiting("0002") == set()
    draws = json.loads(one.runs.store.get("runs/0002/draws.json"))[TASK]
    assert (draws["predictions"], draws["accepted"]) == (0, 2)  # no uniform draw of what was drawn from before


def test_held__waits_where_nobody_can_be_asked(tmp_path: Path) -> None:
    one = Job(tmp_path)
    one.night(scored(*"abcde"), review())
    assert keys_of(one.night(scored("x"), review(budget=0)), "hold") == ["x"]
    assert one.waiting("0002") == {"d.jpg", "e.jpg"}
    assert one.records[1]["held"]["left_out"] == {TASK: 1}
    held = review(Policy(uncalibrated="hold"))
    assert {row["reason"] for row in one.night({}, held)} == {"uncalibrated"}
    assert sorted(keys_of(one.night({}, review()), "review")) == ["d", "e"]


def test_held__all_of_it_is_accepted_if_a_promise_says_so(tmp_path: Path) -> None:
    one = Job(tmp_path)
    promised = Policy(max_error=0.1, confidence=0.9)
    high = dict(zip((f"{place:03d}.jpg" for place in range(400)), np.linspace(0.5, 0.99, 400), strict=True))
    one.night(high, review(promised, budget=150, calibrate=150))
    assert answer(one.runs, "0001", dict.fromkeys(high, "a"), ["calibrate"]) == 150
    assert held_view(one.runs.store, "0001") == {"waiting": {TASK: 250}, "left_out": {}}
    second = one.night({}, review(promised, budget=1))
    assert one.records[1]["promises"][0]["threshold"] is not None
    assert sum(row["route"] == "accept" and row["reason"] == "promised" for row in second) >= 240


def test_held__so_many_and_no_more(tmp_path: Path) -> None:
    one = Job(tmp_path)
    many = {f"{place:03d}.jpg": 0.5 + place / 1000 for place in range(60)}
    one.night(many, review())
    assert one.records[0]["held"] == {"waiting": {TASK: 3 * POOL - 3}, "left_out": {TASK: 60 - 3 * POOL}}
    assert max(one.waiting("0001")) == f"{3 * POOL - 1:03d}.jpg"  # the most unsure wait
    assert "30 surer ones will not, they are too many" in held_lines(one.records[0])[0]
    one.night({}, review(budget=20))
    assert one.records[1]["held"] == {"waiting": {TASK: 7}, "left_out": {TASK: 30}}
    one.night({}, review(budget=20))
    one.night(scored(*"abcdefg"), review())
    assert one.records[3]["held"] == {"waiting": {TASK: 4}, "left_out": {}}  # of what is held from now on all waits


def test_held__what_if_says_what_is_routed(tmp_path: Path) -> None:
    one = Job(tmp_path)
    one.night(scored(*"abcdefgh"), review())
    one.night(scored("x", "y", start=0.635), review())
    found = what_if(one.resolved, one.runs)["variants"][0]
    assert found["routes"] == one.records[1]["routes"][TASK]
    assert found["predictions"] == 7


@pytest.mark.parametrize("damage", ["lost", "stranger", "sent"])
def test_held__verify_finds_what_is_not_what_was_left(tmp_path: Path, damage: str) -> None:
    one = Job(tmp_path)
    one.night(scored(*"abcdefgh"), review())
    one.night(scored("x", "y"), review())
    place = tmp_path / "out" / held_key("0001" if damage != "sent" else "0002")
    if damage == "lost":
        place.unlink()
    elif damage == "stranger":
        place.write_bytes(b"no Parquet")
        (finding,) = one.check(one.plans[0], [f"{name}.jpg" for name in "abcdefgh"])
        assert "cannot be read" in finding.what
        assert finding.key == held_key("0001")
        return
    else:
        place.write_bytes((tmp_path / "out" / held_key("0001")).read_bytes())
    (finding,) = one.check(one.plans[1], ["x.jpg", "y.jpg"])
    assert ("were not left to it" if damage == "lost" else "compete again and were not held") in finding.what


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_held__over_three_nights_nothing_is_lost_and_nothing_sent_twice(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one, sent = Job(Path(folder)), Counter[tuple[str, str]]()
        pool: dict[str, str] = {}  # what is held and waits: key -> version
        for night in range(3):
            for key in data.draw(st.lists(st.sampled_from(sorted(one.corpus) or ["-"]), max_size=3), label="changed"):
                if key in one.corpus:
                    one.corpus[key] += "'"
            for key in data.draw(st.lists(st.sampled_from(sorted(one.corpus) or ["-"]), max_size=2), label="gone"):
                one.corpus.pop(key, None)
            count = data.draw(st.integers(0, 25), label="new")
            new = {f"{night}-{place:02d}.jpg": data.draw(st.floats(0.5, 1)) for place in range(count)}
            budget = data.draw(st.integers(0, 4), label="budget")
            calibrate = data.draw(st.integers(0, 2), label="calibrate")
            again = {key for key, version in pool.items() if one.corpus.get(key) == version} if budget else set()
            rows = one.night(new, review(budget=budget, calibrate=calibrate))
            assert Counter(row["key"] for row in rows) == Counter([*new, *again])
            assert {row["key"] for row in rows if row["predicted_run"] is not None} == again
            sent.update((row["key"], row["version"]) for row in rows if row["route"] in TO_PEOPLE)
            assert sum(row["route"] in TO_PEOPLE for row in rows) == min(budget, len(rows))
            assert max(sent.values(), default=0) <= 1
            held = {row["key"]: row["version"] for row in rows if row["route"] == Route.HOLD}
            waits = one.waiting(one.plans[-1].run_id)
            if budget == 0:
                assert waits == set(pool)
            elif len(rows) <= POOL * budget:
                assert waits == set(held)
            else:
                assert waits < set(held)
                assert len(waits) >= (POOL - 1) * budget
                assert one.records[-1]["held"]["left_out"][TASK] >= len(held) - len(waits)
            pool = {key: version for key, version in (held if budget else pool).items() if key in waits}
            assert one.check(one.plans[-1], list(new)) == ()
