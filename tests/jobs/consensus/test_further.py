"""What people say of a job's items: rows that supersede each other, and who is asked next."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.jobs.consensus.crowd_job import JOB, TASK, VECTORS, CrowdJob, id_of, key_of
from winnow_annotation.consensus.decision import State
from winnow_annotation.policies import ReviewSpec
from winnow_annotation.tasks import PushItem, review_task
from winnow_jobs.consensus.answers import agreed_answers
from winnow_jobs.consensus.asked import asked_items, asked_rows
from winnow_jobs.consensus.form import job_labels
from winnow_jobs.consensus.further import overlaps_wanted, put_gold
from winnow_jobs.consensus.rows import standing_rows
from winnow_jobs.evaluation.task import truth_of
from winnow_jobs.people import _mixed
from winnow_jobs.report import _context, _render
from winnow_jobs.report_people import people_views
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.ledger import open_ledger

SURE = np.array([0.9, 0.05, 0.05])


def crowd(folder: Path, items: int = 12, **review: Any) -> CrowdJob:
    return CrowdJob(folder, np.tile(SURE, (items, 1)), **review)


def test_settle__asks_another_until_sure_and_then_stops(tmp_path: Path) -> None:
    job = crowd(tmp_path, max_overlap=3)
    job.answer([(place, "ann", "0") for place in range(10)] + [(10, "ann", "1")])
    first = job.settle()
    rows = job.standing()
    assert first["items"] == 11
    assert rows[0].state == State.SETTLED  # the model and one person agree
    assert (rows[10].state, rows[10].votes, rows[10].wanted) == (State.ASKING, 1, 2)
    wanted = overlaps_wanted(job.spec, job.runs, list(standing_rows(job.runs.store).values()))
    assert wanted == {"review 10": 2}
    job.answer([(10, "bob", "1")])
    job.settle()
    second = job.standing()[10]
    assert (second.state, second.wanted) == (State.ASKING, 3)  # the model is nearly as sure of its own
    job.answer([(10, "cat", "1")])
    job.settle()
    again = job.standing()[10]
    assert (again.state, again.supersedes) == (State.SETTLED, second.consensus_id)
    assert json.loads(again.answer) == {"label": "1"}
    assert again.people_posterior != again.posterior


def test_settle__of_a_task_asks_as_many_as_it_says(tmp_path: Path) -> None:
    answers = [(0, "ann", "0"), (1, "ann", "1")]
    states = {}
    for name, review in {
        "as for all": {"max_overlap": 3},
        "its own": {"overlaps": {TASK: {"max_overlap": 3}}},
        "of others": {"overlaps": {"boxes": {"max_overlap": 3}}},
        "two in any case": {"overlaps": {TASK: {"overlap": 2}}},
        "never sure": {"max_overlap": 2, "overlaps": {TASK: {"sure": 0.9999}}},
    }.items():
        job = crowd(tmp_path / name, **review)
        job.answer(answers)
        job.settle()
        rows = job.standing()
        states[name] = (rows[0].state, rows[1].state, rows[1].wanted)
    asking = State.ASKING
    assert states == {
        "as for all": (State.SETTLED, asking, 2),
        "its own": (State.SETTLED, asking, 2),
        "of others": (State.SETTLED, State.UNSURE, 1),
        "two in any case": (asking, asking, 2),
        "never sure": (asking, asking, 2),
    }


def test_settle__again_changes_nothing(tmp_path: Path) -> None:
    job = crowd(tmp_path)
    job.answer([(place, "ann", "0") for place in range(12)])
    job.settle()
    before = [info.key for info in job.runs.store.walk("consensus/")]
    assert job.settle()["new_rows"] == 0
    assert [info.key for info in job.runs.store.walk("consensus/")] == before


def test_settle__disputes_go_to_the_adjudicator_who_decides(tmp_path: Path) -> None:
    job = crowd(tmp_path, max_overlap=2, adjudicate={"people": ["eve"]})
    job.answer(
        [(0, "ann", "1"), (0, "bob", "2"), *((place, who, "0") for place in (1, 2, 3) for who in ("ann", "bob"))]
    )
    record = job.settle()
    assert record["states"] == {"settled": 3, "disputed": 1}
    assert record["asked"]["adjudicate"] == 1
    (item,) = asked_items(job.runs.store)
    assert (item.queue, item.is_blind) == (f"{TASK} / adjudicate", False)
    shown = review_task(item, image="x")["predictions"]
    assert {one["model_version"] for one in shown} == {"ann", "bob"}
    assert {one["result"][0]["value"]["choices"][0] for one in shown} == {"1", "2"}
    assert job.settle()["asked"]["adjudicate"] == 0  # asked once
    job.answer([(0, "ann", "0")], purpose="adjudicate")  # not one of them
    job.settle()
    assert job.standing()[0].state != State.ADJUDICATED
    job.answer([(0, "eve", "2")], purpose="adjudicate")
    job.settle()
    row = job.standing()[0]
    assert (row.state, json.loads(row.answer), row.posterior) == (State.ADJUDICATED, {"label": "2"}, 1.0)


def test_settle__an_adjudicator_may_decide_blind(tmp_path: Path) -> None:
    job = crowd(tmp_path, max_overlap=2, adjudicate={"people": ["eve"], "show": False})
    job.answer([(0, "ann", "1"), (0, "bob", "2")])
    job.settle()
    (item,) = asked_items(job.runs.store)
    assert "predictions" not in review_task(item, image="x")


def test_settle__answers_that_go_away_withdraw_the_consensus(tmp_path: Path) -> None:
    job = crowd(tmp_path)
    job.answer([(0, "ann", "0"), (1, "ann", "0")])
    job.settle()
    job.answer([(0, "ann", "0")], event="deleted", value=None)
    job.settle()
    assert job.standing()[0].state == State.WITHDRAWN
    assert job.standing()[1].state != State.WITHDRAWN
    assert id_of(0) not in agreed_answers(job.runs.store, job_labels(job.runs), JOB, TASK, "classify")


def test_gold__is_mixed_in_and_tells_who_is_good(tmp_path: Path) -> None:
    truth = tmp_path / "gold.csv"
    truth.write_text("key,label\n" + "".join(f"{key_of(place)},0\n" for place in range(6)))
    job = crowd(tmp_path, gold={TASK: {"truth": str(truth), "per_run": 4}})
    assert put_gold(job.spec, job.runs) == 4
    assert put_gold(job.spec, job.runs) == 0
    asked = asked_items(job.runs.store)
    assert all(item.is_blind and item.route == "gold" for item in asked)
    others = [PushItem.from_row({**row, "route": "review"}) for row in asked_rows(job.runs.store)] * 3
    places = [place for place, item in enumerate(_mixed([*others, *asked])) if item.route == "gold"]
    assert places[0] > 0
    assert np.diff(places).min() > 1
    drawn = sorted(int(item.key[:5]) for item in asked)
    job.answer([(p, "ann", "0") for p in drawn] + [(p, "bob", str(p % 2)) for p in drawn], purpose="gold")
    people = {one["annotator"]: one for one in job.settle()["annotators"]}
    assert people["ann"]["gold_right"] == people["ann"]["gold"] == 4
    assert people["bob"]["gold_right"] == sum(p % 2 == 0 for p in drawn)
    assert people["ann"]["accuracy"] > people["bob"]["accuracy"]
    assert {row.method for row in job.standing().values()} == {"gold"}


def test_settle__of_an_operator_of_somebodys_own_as_of_the_one_it_is_reviewed_as(tmp_path: Path) -> None:
    truth = tmp_path / "gold.csv"
    truth.write_text(f"key,label\n{key_of(0)},0\n{key_of(1)},0\n")
    job = crowd(tmp_path, gold={TASK: {"truth": str(truth), "per_run": 2}})
    own = job.spec.task(TASK).model_copy(update={"operator": "own.package:Judges", "reviewed_as": "classify"})
    job.spec = job.spec.model_copy(update={"tasks": (own,)})
    assert put_gold(job.spec, job.runs) == 2
    job.answer([(0, "ann", "0"), (1, "ann", "1")], purpose="gold")
    job.answer([(2, "ann", "0"), (3, "ann", "1")])
    (ann,) = job.settle()["annotators"]
    assert (ann["gold"], ann["gold_right"]) == (2, 1)
    rows = job.standing()
    assert {row.operator for row in rows.values()} == {"classify"}
    assert (rows[2].state, rows[3].state) == (State.SETTLED, State.UNSURE)  # the model has a voice


@pytest.mark.parametrize("own", [False, True])
def test_second_look__at_labels_that_vectors_contradict(tmp_path: Path, own: bool) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    vectors = rng.normal(0, 0.3, (60, 4)) + np.eye(4)[truth] * 3
    job = CrowdJob(tmp_path, np.tile(SURE, (60, 1)), vectors, second_look={"budget": 5})
    if own:
        embed = job.spec.task(VECTORS).model_copy(update={"operator": "own.package:Looks", "reviewed_as": "embed"})
        job.spec = job.spec.model_copy(update={"tasks": (job.spec.task(TASK), embed)})
    said = truth.copy()
    said[[7, 20, 33]] = (said[[7, 20, 33]] + 1) % 3
    job.answer([(place, "ann", str(label)) for place, label in enumerate(said.tolist())])
    record = job.settle()
    looked = {int(item.key[:5]) for item in asked_items(job.runs.store)}
    assert record["asked"]["second_look"] == len(looked)
    assert {7, 20, 33} <= looked
    assert len(looked) <= 5
    job.answer([(place, "bob", str(truth[place])) for place in sorted(looked)], purpose="second_look")
    job.settle()
    assert job.standing()[7].state == State.ASKING  # two differ: a third is asked


def test_downstream__measures_by_the_consensus_without_the_model(tmp_path: Path) -> None:
    job = crowd(tmp_path)
    said = [(place, who, "0") for place in range(8) for who in ("ann", "bob")]
    said += [(place, "cat", str(place % 3)) for place in range(8)]
    job.answer([*said, (9, "ann", "0"), (9, "bob", "0"), (9, "cat", "1")])
    before = truth_of("labels", job.runs, TASK, "classify", classes=(), purposes=())
    job.settle()
    after = truth_of("labels", job.runs, TASK, "classify", classes=(), purposes=())
    assert before.items == after.items
    assert after.items[key_of(9)].label == "0"


def test_report__shows_who_is_good_and_what_is_disputed(tmp_path: Path) -> None:
    job = crowd(tmp_path, max_overlap=2)
    job.answer([(place, who, "0") for place in range(4) for who in ("ann", "bob")] + [(5, "ann", "1"), (5, "bob", "2")])
    with open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        context = _context(job.plan, job.runs, ledger, None)
    page = _render(context | {"people": people_views(job.spec, job.runs), "evaluations": []})
    assert "<td>ann</td>" in page
    assert f"disputed: {key_of(5)}" in page
    assert "two people agree in 0.800 (5 pairs)" in page


def test_gold__a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    job = crowd(tmp_path, gold={TASK: {"truth": str(tmp_path / "none.csv")}})
    with pytest.raises(UsageError, match=r"review\.gold: there is no .*none\.csv"):
        put_gold(job.spec, job.runs)


def test_standing_rows__a_damaged_object_is_named(tmp_path: Path) -> None:
    job = crowd(tmp_path)
    job.runs.store.put("consensus/x.parquet", b"no parquet")
    with pytest.raises(StoreError, match=r"consensus/x\.parquet cannot be read"):
        standing_rows(job.runs.store)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"overlap": 3, "max_overlap": 2}, r"max_overlap \(2\) is less than overlap \(3\)"),
        ({"overlap": 3, "overlaps": {"kind": {"max_overlap": 2}}}, r"overlaps\.kind: max_overlap \(2\) is less than"),
        ({"overlaps": {"kind": {"sure": 0.4}}}, "greater than 0.5"),
        ({"consensus": {"sure": 0.3}}, "greater than 0.5"),
        ({"adjudicate": {"people": []}}, "at least 1 item"),
    ],
)
def test_spec__says_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReviewSpec.model_validate(wrong)
