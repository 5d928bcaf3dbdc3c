"""Tests of pulling from a real Label Studio: every answer and every change comes back once."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.annotation.examples import LABELS, MODEL, item, render
from tests.annotation.people import Person, choice
from winnow_annotation import pull as pull_module
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.pull import PullSummary, pull
from winnow_annotation.push import Asking, push
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import LabelStudioError, SpecError
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.schemas import LABELS as LABELS_SCHEMA

Pull = Callable[[], PullSummary]


@pytest.fixture
def pull_now(client: LabelStudioClient, ledger: Ledger, output: BlobStore, job: str) -> Pull:
    return lambda: pull(client, ledger, output, job=job, tasks=["kind", "parts"])


@pytest.fixture
def task_ids(client: LabelStudioClient, ledger: Ledger, output: BlobStore, job: str, tmp_path: Path) -> list[int]:
    """Four review tasks of `kind`, the last one blind."""
    (tmp_path / "images").mkdir()
    files = [tmp_path / "images" / f"{n}.png" for n in range(4)]
    for file in files:
        Image.new("RGB", (40, 30)).save(file)
    routes = ["review", "review", "review", "audit"]
    items = [item("kind", file.as_uri(), job=job, route=route) for file, route in zip(files, routes, strict=True)]
    push(client, ledger, items, output=output, labels=LABELS, render=render)
    rows = {row.dedupe_key: row.ls_task_id for row in ledger.review_tasks(output=output.root.uri)}
    return [rows[one.dedupe_key] or 0 for one in items]


def in_bucket(output: BlobStore) -> dict[str, dict[str, Any]]:
    """The rows of `labels/`, distinct by label_id."""
    objects = [output.get(found.key) for found in output.walk("labels/")]
    tables = [pq.read_table(pa.BufferReader(data), schema=LABELS_SCHEMA) for data in objects]
    return {row["label_id"]: row for table in tables for row in table.to_pylist()}


def test_pull__new_changed_deleted_and_skipped_answers(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, task_ids: list[int], pull_now: Pull
) -> None:
    person = Person(label_studio)
    assert pull_now() == PullSummary(tasks=4)
    kept = person.choose(task_ids[0], "cat")
    gone = person.choose(task_ids[1], "cat")
    person.choose(task_ids[2], "dog & cow", was_cancelled=True)
    person.choose(task_ids[3], "dog & cow")
    assert pull_now() == PullSummary(new=4, tasks=4)
    person.change(kept, "dog & cow")
    person.delete(gone)
    assert pull_now() == PullSummary(changed=1, gone=1, tasks=4)
    assert pull_now() == PullSummary(tasks=4)

    labels = ledger.labels(job)
    assert [label.event for label in labels] == ["created"] * 4 + ["updated", "deleted"]
    assert set(in_bucket(output)) == {label.label_id for label in labels}
    by_task = {label.ls_task_id: label for label in labels}  # the newest of each
    assert json.loads(by_task[task_ids[0]].value or "") == {"label": "dog & cow"}
    assert by_task[task_ids[1]].event == "deleted"
    assert (by_task[task_ids[2]].was_cancelled, by_task[task_ids[2]].value) == (True, None)
    assert ledger.label_counts(job) == {"kind": 2}


def test_pull__each_state_says_which_one_it_follows(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, task_ids: list[int], pull_now: Pull
) -> None:
    person = Person(label_studio)
    answer = person.choose(task_ids[0], "cat")
    pull_now()
    person.change(answer, "dog & cow")
    pull_now()
    person.delete(answer)
    pull_now()
    first, second, third = ledger.labels(job)
    assert [one.supersedes for one in (first, second, third)] == [None, first.label_id, second.label_id]
    assert {row["supersedes"] for row in in_bucket(output).values()} == {None, first.label_id, second.label_id}


def test_pull__keeps_what_a_person_wrote_beside_the_answer(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, task_ids: list[int], pull_now: Pull
) -> None:
    said = {"from_name": "comment", "to_name": "image", "type": "textarea", "value": {"text": ["too dark", "ä"]}}
    person = Person(label_studio)
    person.choose(task_ids[0], "cat", result=[*choice("cat"), said])
    person.choose(task_ids[1], "cat", result=[said], was_cancelled=True)
    pull_now()
    answered, skipped = ledger.labels(job)
    assert answered.comment == skipped.comment == "too dark\nä"
    assert json.loads(answered.value or "") == {"label": "cat"}
    assert {row["comment"] for row in in_bucket(output).values()} == {answered.comment}


def test_pull__tasks_that_were_deleted_take_their_answers_along(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, task_ids: list[int], pull_now: Pull
) -> None:
    person = Person(label_studio)
    for task in task_ids[:3]:
        person.choose(task, "cat")
    pull_now()
    person.ask("DELETE", f"/api/tasks/{task_ids[0]}/")
    person.ask("DELETE", f"/api/tasks/{task_ids[3]}/")
    assert pull_now() == PullSummary(gone=1, tasks=2)
    assert pull_now().gone == 0
    last = ledger.labels(job)[-1]
    assert (last.event, last.ls_task_id, last.value) == ("deleted", task_ids[0], None)
    assert ledger.review_counts(output.root.uri) == {"kind": {"deleted": 2, "pushed": 2}}
    for task in task_ids[1:3]:
        person.ask("DELETE", f"/api/tasks/{task}/")
    assert pull_now() == PullSummary(gone=2)  # the project is empty now
    assert ledger.label_counts(job) == {}


def test_pull__answers_that_disappear_without_a_trace(
    label_studio: LabelStudioServer, client: LabelStudioClient, ledger: Ledger, job: str, task_ids: list[int],
    pull_now: Pull, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As where the Data Manager's "delete annotations" writes a time of another zone into the task."""
    person = Person(label_studio)
    person.choose(task_ids[0], "cat")
    pull_now()
    monkeypatch.setattr(pull_module, "_OVERLAP", timedelta(0))
    project = ledger.project(client.url, job, "kind")
    assert project is not None
    path = f"/api/dm/actions?id=delete_tasks_annotations&project={project.project_id}"
    person.ask("POST", path, {"selectedItems": {"all": False, "included": task_ids[:1]}})
    ahead = f"pull {client.url} {project.project_id}", "2999-01-01T00:00:00+00:00"
    ledger.append_labels([], cursor=ahead)
    assert pull_now() == PullSummary(gone=1, tasks=4)


def test_pull__two_at_once_and_the_slower_one_reads_again(
    label_studio: LabelStudioServer, ledger: Ledger, job: str, task_ids: list[int], pull_now: Pull,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    person = Person(label_studio)
    answer = person.choose(task_ids[0], "cat")
    gone = person.choose(task_ids[1], "cat")
    pull_now()
    person.change(answer, "dog & cow")
    read = pull_module._read

    def while_another_pull_is_faster(*given: Any) -> Any:
        found = read(*given)
        monkeypatch.setattr(pull_module, "_read", read)
        person.change(answer, "cat")
        person.delete(gone)
        assert pull_now() == PullSummary(changed=1, gone=1, tasks=4)
        return found

    monkeypatch.setattr(pull_module, "_read", while_another_pull_is_faster)
    assert pull_now() == PullSummary(tasks=4)
    assert [label.event for label in ledger.labels(job)] == ["created", "created", "updated", "deleted"]
    assert json.loads(ledger.labels(job)[2].value or "") == {"label": "cat"}


def test_pull__says_who_when_and_what_was_shown(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, task_ids: list[int], pull_now: Pull
) -> None:
    person = Person(label_studio)
    person.choose(task_ids[0], "cat")
    person.choose(task_ids[3], "cat")
    pull_now()
    shown, blind = (label for label in ledger.labels(job))
    assert shown.annotator == label_studio.email
    assert shown.lead_time_s == 2.5
    assert shown.created_at is not None
    assert shown.model == MODEL
    assert json.loads(json.loads(shown.shown or "")["value"]) == {"label": "dog & cow"}
    assert (blind.purpose, blind.model, blind.shown) == ("audit", None, None)
    rows = in_bucket(output)
    for label in (shown, blind):
        row = rows[label.label_id]
        assert {name: row[name] for name in ("value", "annotator", "item_id", "updated_at", "config_hash")} == {
            "value": label.value,
            "annotator": label.annotator,
            "item_id": label.item_id,
            "updated_at": label.updated_at,
            "config_hash": label.config_hash,
        }


def test_pull__a_crash_between_bucket_and_ledger_doubles_nothing(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    task_ids: list[int],
    tmp_path: Path,
) -> None:
    Person(label_studio).choose(task_ids[0], "cat")
    tasks = ["kind"]
    before = open_ledger(f"sqlite:///{tmp_path / 'ledger-that-crashed.sqlite'}")
    project = ledger.project(client.url, job, "kind")
    assert project is not None
    before.save_project(project)
    assert pull(client, before, output, job=job, tasks=tasks).new == 1
    before.close()
    Person(label_studio).choose(task_ids[1], "cat")
    assert pull(client, ledger, output, job=job, tasks=tasks).new == 2
    assert set(in_bucket(output)) == {label.label_id for label in ledger.labels(job)}


def test_pull__leaves_out_tasks_that_people_added(
    client: LabelStudioClient, ledger: Ledger, job: str, task_ids: list[int], pull_now: Pull, label_studio: Any
) -> None:
    project = ledger.project(client.url, job, "kind")
    assert project is not None
    (own,) = client.import_tasks(project.project_id, [{"data": {"image": "x", "key": "by hand"}}])
    Person(label_studio).choose(own, "cat")
    assert pull_now() == PullSummary(tasks=5)


def test_pull__a_project_that_is_gone_is_named(
    client: LabelStudioClient,
    ledger: Ledger,
    job: str,
    task_ids: list[int],
    pull_now: Pull,
    label_studio: LabelStudioServer,
) -> None:
    project = ledger.project(client.url, job, "kind")
    assert project is not None
    Person(label_studio).ask("DELETE", f"/api/projects/{project.project_id}/")
    with pytest.raises(LabelStudioError, match="not in Label Studio"):
        pull_now()


def test_pull__tasks_that_share_a_project_keep_their_answers_apart(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "images").mkdir()
    file = tmp_path / "images" / "one.png"
    Image.new("RGB", (40, 30)).save(file)
    kind = item("kind", file.as_uri(), job=job)
    other = replace(kind, task="other", dedupe_key=f"other {kind.dedupe_key}")
    asking = Asking(projects={"kind": "shelf", "other": "shelf", "things": "shelf"})
    labels = LABELS | {"other": LABELS["kind"]}
    push(client, ledger, [kind, other], output=output, labels=labels, render=render, asking=asking)
    assert push(client, ledger, [kind, other], output=output, labels=labels, render=render, asking=asking).sent == 0
    places = {name: ledger.project(client.url, job, name) for name in ("kind", "other")}
    (project,) = {one.project_id for one in places.values() if one is not None}
    person = Person(label_studio)
    assert person.ask("GET", f"/api/projects/{project}/")["title"] == f"{job} / shelf"
    tasks = {task["data"]["task"]: task["id"] for task in person.tasks(project)}
    person.choose(tasks["kind"], "cat")
    person.choose(tasks["other"], "dog & cow")
    assert pull(client, ledger, output, job=job, tasks=["kind", "other"]).new == 2
    assert pull(client, ledger, output, job=job, tasks=["kind", "other"]) == PullSummary(tasks=2)
    said = {label.task: json.loads(label.value or "") for label in ledger.labels(job)}
    assert said == {"kind": {"label": "cat"}, "other": {"label": "dog & cow"}}
    boxes = item("things", file.as_uri(), job=job)
    with pytest.raises(SpecError, match="asks people something else than the project 'shelf' that it shares"):
        push(client, ledger, [boxes], output=output, labels=labels, render=render, asking=asking)
