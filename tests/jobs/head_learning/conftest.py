"""Digits with stored vectors, embedded once; every test has an output of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotation.people import Person
from tests.jobs.head_learning.digits_job import DigitsJob, make_digits
from tests.jobs.head_learning.loop_checks import in_this_process, projects_of
from winnow_annotation import fences, outbox
from winnow_jobs import job as job_module
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.engine import Engine

COUNT = 420


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> DigitsJob:
    return make_digits(tmp_path_factory.mktemp("digits") / "job", COUNT)


@pytest.fixture
def digits(embedded: DigitsJob, tmp_path: Path) -> DigitsJob:
    shutil.copytree(embedded.folder, tmp_path / "job", copy_function=shutil.copy2)
    return DigitsJob(tmp_path / "job")


@pytest.fixture
def studio(label_studio: LabelStudioServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[LabelStudioServer]:
    """A real Label Studio for loops whose work is done in this process, without Ray; their projects go afterwards."""
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", label_studio.token)
    monkeypatch.setattr(Engine, "begin", lambda _: None)
    monkeypatch.setattr(job_module, "work_through", in_this_process)
    monkeypatch.setattr(outbox, "_PAUSE_S", 0.01)
    monkeypatch.setattr(fences, "_PAUSE_S", 0.01)
    yield label_studio
    person = Person(label_studio)
    for project in projects_of(person):
        person.ask("DELETE", f"/api/projects/{project}/")
