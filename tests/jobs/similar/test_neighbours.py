"""An embedding before people: images beside their neighbours in a real Label Studio, and what the answers measure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.annotation.people import Person
from tests.jobs.drawn_runs import _label
from tests.jobs.histories import CORPUS, add_run, receipt, task
from tests.jobs.similar.test_commands import ask, fill, run
from tests.jobs.whole_nights import begin, job, reviewed, runs_of, work_through
from winnow_annotation.kinds.embed import NEIGHBOURS
from winnow_annotation.pull import _put
from winnow_jobs.audit import audit_records
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.draws import all_labels, answered_draws
from winnow_jobs.people import index_run, pull_labels, push_pending
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import route_run
from winnow_jobs.routes import iter_sent
from winnow_jobs.run import finish
from winnow_jobs.runs import PlanDocument
from winnow_jobs.similar.neighbours import neighbours_of
from winnow_jobs.verify.routes import check_routes
from winnow_storage.ids import item_id
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.schemas import ROUTES, Route, result_schema
from winnow_storage.shards import encode_shard, shard_key
from winnow_workers.evaluation.acceptance import Acceptance


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


def own_embedder(folder: Path) -> ResolvedSpec:
    """A job of an operator of somebody's own, all of whose predictions people see."""
    made = task("vector", operator="own.package:Embeds").model_copy(update={"reviewed_as": "embed"})
    policies = {"vector": {"uncalibrated": "review"}}
    return reviewed(job(folder).model_copy(update={"tasks": (made,)}), policies=policies, budget=9)


def committed(resolved: ResolvedSpec, vectors: Mapping[str, Sequence[float] | None], kind: pa.DataType) -> PlanDocument:
    """The next run, routed: `vectors` by key, as an operator of somebody's own made them, of this type."""
    runs = runs_of(resolved)
    plan = add_run(runs, resolved, [None], corpus=dict.fromkeys(vectors, "v1"))
    common = {"version": "v1", "outcome": "done", "failed_tasks": [], "run_id": plan.run_id, "shard": 0}
    rows = [
        {
            "item_id": item_id(CORPUS, key),
            "key": key,
            "uri": f"file:///{key}",
            **common,
            "vector": {"model": "m", "vector": one},
        }
        for key, one in vectors.items()
    ]
    table = pa.Table.from_pylist(rows, schema=result_schema({"vector": [pa.field("vector", kind)]}))
    assert runs.store.put_if_absent(shard_key(plan.run_id, 0), encode_shard(table, receipt(plan, 0, ())))
    route_run(runs.store, plan)
    return plan


def test_neighbours__what_cannot_be_compared_has_none(tmp_path: Path) -> None:
    resolved = own_embedder(tmp_path)
    vectors = {"a": [1.0, 0.0, 0.0], "b": [0.9, 0.1, 0.0], "c": None, "d": [float("nan"), 0.0, 0.0]}
    rows = asked(resolved, committed(resolved, vectors, pa.list_(pa.float32(), 3)))
    beside = {key: [one["key"] for one in json.loads(row["neighbours"])] for key, row in rows.items()}
    assert beside == {"a": ["b"], "b": ["a"], "c": [], "d": []}
    assert check_routes(runs_of(resolved).store, runs_of(resolved).plan("0001"), None).findings == ()


def test_neighbours__of_vectors_of_no_length_there_are_none(tmp_path: Path) -> None:
    resolved = own_embedder(tmp_path)
    rows = asked(resolved, committed(resolved, {"a": [1.0, 0.0], "b": [1.0]}, pa.list_(pa.float32())))
    assert [row["neighbours"] for row in rows.values()] == ["[]", "[]"]


def test_neighbours__of_a_vector_of_another_width_there_are_none(tmp_path: Path) -> None:
    resolved = job(tmp_path, "vector")
    plan = committed(resolved, {"a": [1.0, 0.0], "b": [1.0, 0.1]}, pa.list_(pa.float32(), 2))
    vectors = {"a": np.array([1.0, 0.0], np.float32), "of an older code": np.ones(3, np.float32)}
    found = neighbours_of(runs_of(resolved).store, plan, resolved.task("vector"), vectors)
    assert {name: len(beside) for name, beside in found.items()} == {"a": 2, "of an older code": 0}


def test_answered_draws__of_two_models_each_by_its_own_neighbours(tmp_path: Path) -> None:
    first = own_embedder(tmp_path)
    first = reviewed(first, policies={"vector": {"uncalibrated": "accept"}}, calibrate=9, budget=9)
    made = first.task("vector").model_copy(update={"revision": 2})
    second, runs = first.model_copy(update={"tasks": (made,)}), runs_of(first)
    others = {key: [1.0, 0.0] for key in "bcdefgh"}
    near, far = {"a": [1.0, 0.1], "z": [1.0, 0.2]}, {"a": [0.1, 1.0], "y": [0.2, 1.0]}
    for resolved, more, who in ((first, near, "ann"), (second, far, "bob")):
        plan = committed(resolved, dict(sorted((others | more).items())), pa.list_(pa.float32(), 2))
        sent = [row for row in asked(resolved, plan).values() if row["key"] == "a"]
        same = who == "ann"
        said = [{"neighbours": [one | {"same": same} for one in json.loads(row["neighbours"])]} for row in sent]
        at = plan.created_at + timedelta(hours=1)
        labels = [_label(row, value, plan.run_id, at) for row, value in zip(sent, said, strict=True)]
        assert labels
        _put([replace(one, operator="embed", annotator=who) for one in labels], runs.store)
    for resolved, same in ((first, True), (second, False)):
        task_of = resolved.task("vector")
        found = answered_draws(runs.store, runs.plans(), task_of, all_labels(runs.store), Route.CALIBRATE, Acceptance())
        (draw,) = found.draws
        assert set(draw.truth.neighbours or ()) == {same}


def test_evaluate__an_embedding_by_anything_but_what_people_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "truth.csv").write_text("key,label\na,b\n")
    code, _, err = run(
        capsys, "evaluate", "--operator", "embed", "--truth", tmp_path / "truth.csv", "--predictions", "x"
    )
    assert (code, "of an embedding only its own neighbours are measured" in err) == (2, True)
