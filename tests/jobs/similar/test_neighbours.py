"""An embedding before people: images beside their neighbours in a real Label Studio, and what the answers measure."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.annotation.people import Person
from tests.jobs.histories import task
from tests.jobs.similar.test_commands import ask, fill, run
from tests.jobs.whole_nights import begin, job, reviewed, runs_of, work_through
from winnow_annotation.kinds.embed import NEIGHBOURS
from winnow_jobs.audit import audit_records
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.people import index_run, pull_labels, push_pending
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.routes import iter_sent
from winnow_jobs.run import finish
from winnow_jobs.runs import PlanDocument
from winnow_jobs.verify.routes import check_routes
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.schemas import ROUTES


def routed(resolved: ResolvedSpec) -> PlanDocument:
    """The next run, worked through and routed."""
    plan, runs = begin(resolved), runs_of(resolved)
    assert plan is not None
    finish(runs, plan, work_through(runs, plan), 1.0)
    assert check_routes(runs.store, plan, None).findings == ()
    return plan


def asked(resolved: ResolvedSpec, plan: PlanDocument) -> dict[str, dict[str, Any]]:
    """The routes of a run that go to people, by key."""
    return {row["key"]: row for row in iter_sent(runs_of(resolved).store, plan.run_id, ROUTES.names)}


def photograph(key: str) -> str:
    return key.partition(".")[0].partition("-")[0]


def answer(task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What somebody says who knows which files are of one photograph."""
    data = task["data"]
    words = ["same" if photograph(one["key"]) == photograph(data["key"]) else "different" for one in data["neighbours"]]
    return [
        {"from_name": f"same_{at}", "to_name": f"neighbour_{at}", "type": "choices", "value": {"choices": [word]}}
        for at, word in enumerate(words, start=1)
    ]


@pytest.fixture
def resolved(
    label_studio: LabelStudioServer,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> ResolvedSpec:
    """A job over twelve images, three of each of four photographs, of which people see six."""
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", label_studio.token)
    fill(tmp_path / "corpus")
    name = f"beside-{tmp_path.name[-20:]}"
    (tmp_path / "job.yaml").write_text(
        f"name: {name}\ncorpus: corpus\noutput: out\ntasks: [{{name: vector, operator: embed, model: "
        "builtin/fingerprint}]\n"
    )
    review = {
        "label_studio": {"url": label_studio.url, "document_root": str(tmp_path_factory.getbasetemp())},
        "policies": {"vector": {"uncalibrated": "accept"}},
        "calibrate": 3,
        "audit": 1.0,
        "budget": 6,
    }
    made = reviewed(job(tmp_path, "vector", same_content="each"), **review)
    return made.model_copy(update={"job": name})


def push(resolved: ResolvedSpec, ledger: Ledger, plan: PlanDocument, person: Person) -> list[dict[str, Any]]:
    """What stands in Label Studio after it."""
    index_run(runs_of(resolved), ledger, plan, None)
    push_pending(resolved, runs_of(resolved), ledger, lambda _: None)
    assert resolved.review.label_studio is not None
    project = ledger.project(resolved.review.label_studio.url, resolved.job, "vector")
    assert project is not None
    return person.tasks(project.project_id)


def test_people__say_which_neighbours_are_the_same(
    label_studio: LabelStudioServer, resolved: ResolvedSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, runs, person, spec = routed(resolved), runs_of(resolved), Person(label_studio), tmp_path / "job.yaml"
    rows = asked(resolved, plan)
    assert (len(rows), {row["route"] for row in rows.values()}) == (6, {"audit", "calibrate"})
    for key, row in rows.items():
        beside = json.loads(row["neighbours"])
        assert key not in [one["key"] for one in beside]
        assert {photograph(one["key"]) for one in beside[:2]} == {photograph(key)}
        assert "vector" not in json.loads(row["prediction"])

    with open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        tasks = push(resolved, ledger, plan, person)
        assert {task["data"]["key"] for task in tasks} == set(rows)
        for task in tasks:
            assert [one["key"] for one in task["data"]["neighbours"]] == [
                one["key"] for one in json.loads(rows[task["data"]["key"]]["neighbours"])
            ]
        hasty, doubting, *rest = tasks
        for task in rest:
            person.ask("POST", f"/api/tasks/{task['id']}/annotations/", {"result": answer(task)})
        person.ask("POST", f"/api/tasks/{hasty['id']}/annotations/", {"result": answer(hasty)[1:]})
        person.ask("POST", f"/api/tasks/{doubting['id']}/annotations/", {"result": []})
        assert pull_labels(resolved, runs, ledger).new == 6

        found = ask(capsys, "evaluate", spec, "--truth", "labels", "--purpose", "audit,calibrate")
        assert (found["n"], found["measures"]["ok_share"]) == (5, 1.0)
        shares = [0.5] * 4 + [1 / 3]  # two of four are the same; of one answer the nearest is missing
        assert found["measures"][f"precision_at_{NEIGHBOURS}"] == pytest.approx(sum(shares) / 5)
        (audited,) = audit_records(resolved, runs)
        drawn = [task["data"]["key"] for task in tasks if task is not doubting and task["data"]["purpose"] == "audit"]
        assert (audited["all"]["answered"], audited["all"]["wrong"]) == (len(drawn), 0)

        assert found == ask(capsys, "evaluate", spec, "--truth", "labels", "--run", "0001") | {
            "predictions": found["predictions"]
        }
        # the same neighbours by another task are the same question, and it is answered; others are others
        common = asked(resolved, routed(anew(resolved, revision=2))).keys() & rows.keys() - {doubting["data"]["key"]}
        assert common
        assert ask(capsys, "evaluate", spec, "--truth", "labels")["n"] == len(common)
        for file in (tmp_path / "corpus").glob("*-bright.png"):
            file.unlink()
        changed = anew(resolved, revision=3)
        third = routed(changed)
        again = {row["dedupe_key"] for row in asked(changed, third).values()}
        assert again.isdisjoint(row["dedupe_key"] for row in rows.values())
        there = {task["data"]["dedupe_key"] for task in push(changed, ledger, third, person)}
        assert again <= there
        code, _, err = run(capsys, "evaluate", spec, "--truth", "labels")
        assert (code, "nobody has answered anything about vector" in err) == (2, True)
        assert ask(capsys, "evaluate", spec, "--truth", "labels", "--run", "0001")["measures"] == found["measures"]


def anew(resolved: ResolvedSpec, *, revision: int) -> ResolvedSpec:
    """The job with an operator of another code."""
    return resolved.model_copy(update={"tasks": (task("vector", revision=revision),)})


def test_neighbours__of_a_night_are_of_all_nights(resolved: ResolvedSpec, tmp_path: Path) -> None:
    late = tmp_path / "cat-small.png"
    (tmp_path / "corpus/cat-small.png").rename(late)
    routed(resolved)
    late.rename(tmp_path / "corpus/cat-small.png")
    (row,) = asked(resolved, routed(resolved)).values()
    beside = json.loads(row["neighbours"])
    assert (row["key"], len(beside)) == ("cat-small.png", NEIGHBOURS)
    assert {one["key"] for one in beside[:2]} == {"cat.png", "cat-bright.png"}
    assert [one["score"] for one in beside] == sorted((one["score"] for one in beside), reverse=True)


def test_evaluate__an_embedding_by_anything_but_what_people_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "truth.csv").write_text("key,label\na,b\n")
    code, _, err = run(
        capsys, "evaluate", "--operator", "embed", "--truth", tmp_path / "truth.csv", "--predictions", "x"
    )
    assert (code, "of an embedding only its own neighbours are measured" in err) == (2, True)
