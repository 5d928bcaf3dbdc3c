"""Many people in a real Label Studio: one more is asked where it helps, and disputes reach the adjudicator."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.annotation.people import Person, choice
from tests.jobs.consensus.crowd_job import NOW, TASK, CrowdJob
from winnow_annotation.consensus.decision import State
from winnow_jobs.consensus.further import settle
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.people import ask_further, index_run, pull_labels, push_pending, sync_ledger
from winnow_storage.ledger import open_ledger

SURE = np.array([0.9, 0.05, 0.05])


def another_user(person: Person, name: str) -> int:
    email = f"{name}@example.org"
    return int(person.ask("POST", "/api/users/", {"email": email, "username": name, "first_name": name})["id"])


def by_key(person: Person, project: int) -> dict[str, dict[str, Any]]:
    return {task["data"]["key"]: task for task in person.tasks(project)}


def test_people__answer_in_label_studio_until_sure(
    label_studio: LabelStudioServer,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", label_studio.token)
    images = tmp_path / "images"
    images.mkdir()
    for place in range(4):
        Image.new("RGB", (20, 20), (place * 50, 0, 0)).save(images / f"{place:05d}.jpg")
    truth = tmp_path / "gold.csv"
    truth.write_text("key,label\n00003.jpg,0\n")
    server = {"url": label_studio.url, "document_root": str(tmp_path_factory.getbasetemp())}
    job = CrowdJob(
        tmp_path,
        np.tile(SURE, (4, 1)),
        images=images,
        label_studio=server,
        overlaps={TASK: {"max_overlap": 2}},
        adjudicate={"people": [label_studio.email]},
        gold={TASK: {"truth": str(truth), "per_run": 1}},
    )
    person = Person(label_studio)
    two = another_user(person, f"two-{tmp_path.name[-8:]}")

    def told() -> dict[str, Any]:
        pull_labels(job.spec, job.runs, ledger)
        settle(job.spec, job.runs, tasks=(), at=NOW)
        sync_ledger(job.runs, ledger)
        return ask_further(job.spec, job.runs, ledger, lambda _: None)

    with open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        index_run(job.runs, ledger, job.plan, None)
        assert push_pending(job.spec, job.runs, ledger, lambda _: None).sent == 5
        project = ledger.project(label_studio.url, job.spec.job, TASK)
        assert project is not None
        tasks = person.tasks(project.project_id)
        assert all(not task["predictions"] for task in tasks)  # blind
        (gold,) = (task for task in tasks if task["data"]["purpose"] == "gold")
        usual = {task["data"]["key"]: task["id"] for task in tasks if task["data"]["purpose"] == "review"}
        person.choose(usual["00000.jpg"], "0")
        person.choose(usual["00001.jpg"], "1")
        assert told() == {"sent": 0, "reopened": 2}  # the one that is not sure, and gold for everybody
        now = {task["id"]: task for task in person.tasks(project.project_id)}
        assert (now[usual["00001.jpg"]]["overlap"], now[usual["00001.jpg"]]["is_labeled"]) == (2, False)
        assert now[usual["00000.jpg"]]["is_labeled"]
        assert now[gold["id"]]["overlap"] > 2
        assert told() == {"sent": 0, "reopened": 0}

        body = {"result": choice("2"), "lead_time": 1.0, "completed_by": two}
        person.ask("POST", f"/api/tasks/{usual['00001.jpg']}/annotations/", body)
        assert told()["sent"] == 1  # to the adjudicator
        assert {row.state for row in job.standing().values()} == {State.SETTLED, State.DISPUTED}
        queue = ledger.project(label_studio.url, job.spec.job, f"{TASK} / adjudicate")
        assert queue is not None
        (dispute,) = person.tasks(queue.project_id)
        assert {one["model_version"] for one in dispute["predictions"]} == {label_studio.email, _email(two, person)}
        person.choose(dispute["id"], "2")
        told()
        row = job.standing()[1]
        assert (row.state, json.loads(row.answer)) == (State.ADJUDICATED, {"label": "2"})
        assert job.settle()["new_rows"] == 0


def _email(user: int, person: Person) -> str:
    return str(person.ask("GET", f"/api/users/{user}/")["email"])
