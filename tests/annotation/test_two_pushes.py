"""Two processes push and pull one job at once, their ledger in one PostgreSQL: no task twice, no answer twice."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.annotation.examples import LABELS, item, render
from tests.annotation.people import Person
from tests.servers.postgres import PostgresServer
from winnow_annotation import outbox
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.labelling_config import labelling_config
from winnow_annotation.pull import pull
from winnow_annotation.push import push
from winnow_annotation.tasks import PushItem
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.blobs import open_store
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.records import PushState
from winnow_storage.uri import parse

ROUNDS = 2  # each with a project of its own, which both find missing
ITEMS = 12
CHUNK = 3  # of them in one import
CALL = "import sys; from tests.annotation.test_two_pushes import other; other(*sys.argv[1:])"


class Racer:
    """One of the two: it pushes or pulls a job, with a ledger and a client of its own."""

    def __init__(self, url: str, token: str, root: str, ledger: Ledger) -> None:
        self._client = LabelStudioClient(url, token, document_root=root)
        self._root, self._ledger, self._output = root, ledger, open_store(parse(f"{root}/output"))

    def act(self, what: str, job: str) -> int:
        """How many review tasks it sent, or answers it brought."""
        if what == "pull":
            return pull(self._client, self._ledger, self._output, job=job, tasks=["kind"]).new
        items = _items(self._root, job)
        return push(self._client, self._ledger, items, output=self._output, labels=LABELS, render=render).sent

    def found(self, job: str) -> int:
        """The project of a job, by its title."""
        return self._client.ensure_project(f"{job} / kind", labelling_config("classify", LABELS["kind"])).id


def other(url: str, token: str, root: str, ledger_url: str) -> None:
    """The process beside the test: a line in (what, and the job) begins it, a line out ends it."""
    outbox.CHUNK = CHUNK
    with open_ledger(ledger_url) as ledger:
        racer, line = Racer(url, token, root, ledger), "ready"
        while line:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
            order = sys.stdin.readline().split()
            line = str(racer.act(*order)) if order else ""


def test_two_at_once__make_no_task_and_no_answer_twice(
    label_studio: LabelStudioServer,
    postgres: PostgresServer,
    job: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "CHUNK", CHUNK)
    root = str(tmp_path_factory.getbasetemp())
    images = Path(root) / "two pushes"
    images.mkdir()
    for place in range(ITEMS):
        Image.new("RGB", (40, 30)).save(images / f"{place}.jpg")
    ledger_url = postgres.url(postgres.create_database())
    person = Person(label_studio)
    command = [sys.executable, "-c", CALL, label_studio.url, label_studio.token, root, ledger_url]
    with (
        open_ledger(ledger_url) as ledger,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        racer = Racer(label_studio.url, label_studio.token, root, ledger)
        both = Both(process, racer)
        for number in range(ROUNDS):
            name = f"{job}-{number}"
            assert both.act("push", name) >= ITEMS  # what one sent the other may find, and count too
            project = ledger.project(label_studio.url, name, "kind")
            assert project is not None
            same = [one for one in projects(person) if one["title"] == f"{name} / kind"]
            assert [one["id"] for one in same if one["task_number"]] == [project.project_id]
            assert racer.found(name) == project.project_id  # by whoever has lost the ledger
            tasks = person.tasks(project.project_id)
            keys = Counter(one["data"]["dedupe_key"] for one in tasks)
            assert keys == Counter(one.dedupe_key for one in _items(root, name))
            for task in tasks[:5]:
                person.choose(task["id"], "cat")
            assert both.act("pull", name) == 5
            assert [label.event for label in ledger.labels(name)] == ["created"] * 5
        rows = ledger.review_tasks(output=open_store(parse(f"{root}/output")).root.uri)
        assert Counter(row.state for row in rows) == {PushState.PUSHED: ROUNDS * ITEMS}


def projects(person: Person) -> list[dict[str, Any]]:
    """All of them."""
    return list(person.ask("GET", "/api/projects/?page_size=1000")["results"])


class Both:
    """This process and the one beside it, which is up now."""

    def __init__(self, process: "subprocess.Popen[str]", own: Racer) -> None:
        self._process, self._own = process, own
        assert self._said() == "ready"

    def act(self, what: str, job: str) -> int:
        """Both at once; the sum of what they say."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what} {job}\n")
        self._process.stdin.flush()
        return self._own.act(what, job) + int(self._said())

    def _said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _items(root: str, job: str) -> list[PushItem]:
    folder = Path(root) / "two pushes"
    return [item("kind", (folder / f"{place}.jpg").as_uri(), job=job) for place in range(ITEMS)]
