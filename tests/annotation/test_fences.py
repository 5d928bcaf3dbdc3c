"""Tasks that come in by a fence stay when it is closed, and none comes in then; only copies nobody answered can go."""

import pytest

from tests.annotation.examples import LABELS
from tests.annotation.people import Person
from tests.annotation.test_push import keys_there
from winnow_annotation.fences import close_fences, open_fence, open_fences
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.labelling_config import labelling_config
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.errors import LabelStudioError


def test_fences__tasks_stay_when_theirs_is_closed_and_none_comes_in_any_more(
    client: LabelStudioClient, job: str, label_studio: LabelStudioServer
) -> None:
    project = client.ensure_project(job, labelling_config("classify", LABELS["kind"])).id
    fence, other = open_fence(client, project), open_fence(client, project)
    task = {"data": {"image": "x", "dedupe_key": "a"}, "file_upload_id": fence}
    client.import_tasks(project, [task])
    close_fences(client, project, [])  # which is not: all
    assert sorted(open_fences(client, project)) == [fence, other]
    close_fences(client, project, [fence])
    close_fences(client, project, [fence])
    assert open_fences(client, project) == [other]
    with pytest.raises(LabelStudioError):
        client.import_tasks(project, [task | {"data": {"image": "x", "dedupe_key": "b"}}])
    (there,) = Person(label_studio).tasks(project)
    assert (there["data"]["dedupe_key"], there["file_upload"]) == ("a", None)


def test_delete_unanswered__leaves_what_people_answered_skipped_or_began(
    client: LabelStudioClient, job: str, label_studio: LabelStudioServer
) -> None:
    project = client.ensure_project(job, labelling_config("classify", LABELS["kind"])).id
    keys = ["answered", "skipped", "begun", "untouched", "not meant"]
    ids = client.import_tasks(project, [{"data": {"image": "x", "dedupe_key": key}} for key in keys])
    person = Person(label_studio)
    person.choose(ids[0], "cat")
    person.choose(ids[1], "cat", was_cancelled=True)
    person.ask("POST", f"/api/tasks/{ids[2]}/drafts", {"result": [], "lead_time": 1.0})
    assert client.delete_unanswered(project, []) == 0
    assert client.delete_unanswered(project, ids[:4]) == 1
    assert set(keys_there(person, project)) == set(keys) - {"untouched"}
