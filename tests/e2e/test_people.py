"""From a run to people and back, through the command line and a real Label Studio."""

import json
from pathlib import Path

import duckdb

from tests.annotation.people import Person
from tests.e2e.winnow import photographs, winnow, write_spec
from winnow_jobs.demo.label_studio_server import LabelStudioServer


def test_run_push_pull__each_review_task_once_and_each_answer_once(
    label_studio: LabelStudioServer, tmp_path: Path
) -> None:
    photographs(tmp_path / "photos", 6)
    root = tmp_path.parent
    more = (
        f'review: {{label_studio: {{url: "{label_studio.url}", document_root: {json.dumps(str(root))}}}, '
        "policies: {kind: {uncalibrated: review}}, budget: 4}\n"
    )
    spec = write_spec(tmp_path, more=more)
    spec.write_text(spec.read_text().replace("name: test", f"name: {tmp_path.name[:40]}"))
    environ = {"LABEL_STUDIO_TOKEN": label_studio.token}

    unset = winnow("run", spec, cwd=tmp_path)
    assert unset.code == 2
    assert "LABEL_STUDIO_TOKEN is not set" in unset.err
    assert not (tmp_path / "out").exists()

    ran = winnow("run", spec, "--json", cwd=tmp_path, environ=environ)
    assert ran.code == 0, ran.err
    review = ran.record["review"]
    assert (review["selected"], review["pushed"]) == (4, 4)
    assert review["routes"]["kind"] == {"hold": 2, "review": 4}
    pushed = winnow("push", spec, "--json", cwd=tmp_path, environ=environ)
    assert (pushed.code, pushed.record["sent"]) == (0, 0)

    person = Person(label_studio)
    projects = person.ask("GET", "/api/projects/?page_size=1000")["results"]
    project = next(one["id"] for one in projects if one["title"].startswith(tmp_path.name[:40]))
    tasks = person.tasks(project)
    assert len(tasks) == 4
    assert all(task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks)
    assert {task["data"]["reason"] for task in tasks} == {"uncalibrated"}
    person.choose(tasks[0]["id"], "b")
    person.choose(tasks[1]["id"], "c")

    pulled = winnow("pull", spec, "--json", cwd=tmp_path, environ=environ)
    assert pulled.code == 0, pulled.err
    assert (pulled.record["new"], pulled.record["gone"]) == (2, 0)
    again = winnow("pull", spec, "--json", cwd=tmp_path, environ=environ)
    assert (again.record["new"], again.record["changed"]) == (0, 0)
    labels = duckdb.sql(
        f"SELECT key, value, annotator, model, event FROM '{tmp_path}/out/labels/*.parquet' ORDER BY value"
    ).fetchall()
    assert [json.loads(row[1])["label"] for row in labels] == ["b", "c"]
    assert {row[0] for row in labels} == {tasks[0]["data"]["key"], tasks[1]["data"]["key"]}
    assert {row[2:] for row in labels} == {(label_studio.email, "random:1", "created")}

    told = winnow("status", spec, cwd=tmp_path, environ=environ)
    assert "kind: review tasks: 4 pushed; 2 labels" in told.out
    (tmp_path / "ledger.db").unlink()  # what people did is in the bucket and in Label Studio
    rebuilt = winnow("push", spec, "--json", cwd=tmp_path, environ=environ)
    assert rebuilt.code == 0, rebuilt.err
    assert (rebuilt.record["sent"], rebuilt.record["already"]) == (0, 4)
    assert person.count(project) == 4
