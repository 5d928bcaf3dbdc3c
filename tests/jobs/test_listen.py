"""Tests of listening to a real Label Studio: an answer comes in because somebody gave it, and faults are waited out."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.annotation.people import Person
from tests.jobs.consensus.crowd_job import TASK, CrowdJob, key_of
from winnow_annotation.webhooks import SECRET_HEADER
from winnow_jobs import listen as listen_module
from winnow_jobs.commands.listen import _address, _secret
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.events import Event, Note
from winnow_jobs.listen import Listening, listen
from winnow_jobs.people import index_run, push_pending
from winnow_storage.errors import UsageError
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.records import LabelStudioProject

SECRET = secrets.token_hex(16)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as opened:
        yield opened


@pytest.fixture
def job(label_studio: LabelStudioServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CrowdJob:
    """Two items that somebody is asked about."""
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", label_studio.token)
    monkeypatch.setattr(listen_module, "_AGAIN_S", 0.1)
    (tmp_path / "images").mkdir()
    for place in range(2):
        Image.new("RGB", (10, 10)).save(tmp_path / "images" / key_of(place))
    place = {"url": label_studio.url, "document_root": str(tmp_path.parent)}
    even, name = np.full((2, 2), 0.5), f"job-{secrets.token_hex(4)}"
    return CrowdJob(tmp_path, even, images=tmp_path / "images", name=name, label_studio=place)


@contextmanager
def listening(job: CrowdJob, ledger: Ledger, *, every_s: float) -> Iterator[list[str]]:
    """What it says, while it listens."""
    said: list[str] = []
    over = threading.Event()

    def hear(event: Event) -> None:
        if isinstance(event, Note):
            said.append(event.text)

    how = Listening(("127.0.0.1", 0), SECRET, every_s=every_s)
    goes_on: Callable[[], bool] = lambda: not over.is_set()  # noqa: E731
    thread = threading.Thread(
        target=listen, args=(job.spec, job.runs, ledger, hear), kwargs={"how": how, "goes_on": goes_on}
    )
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join()


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_listen__an_answer_comes_in_by_its_webhook(
    job: CrowdJob, ledger: Ledger, label_studio: LabelStudioServer
) -> None:
    index_run(job.runs, ledger, job.plan, None)
    push_pending(job.spec, job.runs, ledger, lambda _: None)
    project = ledger.project(label_studio.url, job.spec.job, TASK)
    assert project is not None
    person = Person(label_studio)
    webhooks = f"/api/webhooks/?project={project.project_id}"
    with listening(job, ledger, every_s=3) as said:
        until(lambda: bool(person.ask("GET", webhooks)))
        (set_up,) = person.ask("GET", webhooks)
        assert set_up["headers"] == {SECRET_HEADER: SECRET}
        assert not set_up["send_payload"]
        person.choose(person.tasks(project.project_id)[0]["id"], "1")
        until(lambda: "1 new label, 0 changed, 0 deleted" in said)
    assert [label.value for label in ledger.labels(job.spec.job)] == ['{"label":"1"}']


def test_listen__a_server_that_is_away_is_waited_for(job: CrowdJob, ledger: Ledger) -> None:
    review = job.spec.review
    assert review.label_studio is not None
    away = review.label_studio.model_copy(update={"url": "http://127.0.0.1:9"})
    job.spec = job.spec.model_copy(update={"review": review.model_copy(update={"label_studio": away})})
    ledger.save_project(LabelStudioProject(away.url, job.spec.job, TASK, 1, "config"))
    with listening(job, ledger, every_s=1) as said:
        until(lambda: sum("did not answer" in text for text in said) > 1)


@pytest.mark.parametrize("at", ["", "8790", ":8790", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"])
def test_listen__an_address_that_is_none(at: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        _address(at)


def test_listen__the_secret_is_given_or_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _address("[::1]:80") == ("::1", 80)
    monkeypatch.delenv("WINNOW_WEBHOOK_SECRET", raising=False)
    assert len(_secret()) > 30
    assert _secret() != _secret()
    monkeypatch.setenv("WINNOW_WEBHOOK_SECRET", SECRET)
    assert _secret() == SECRET
    for bad in ("short", "ä" * 20, "two lines\nof secret text"):
        monkeypatch.setenv("WINNOW_WEBHOOK_SECRET", bad)
        with pytest.raises(UsageError, match="is no secret"):
            _secret()
