"""Two processes push and pull one job at once, their ledger in one PostgreSQL: no task twice, no answer twice."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.annotation.examples import LABELS, item, render
from tests.annotation.people import Person
from tests.servers.postgres import PostgresServer
from winnow_annotation import outbox
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.pull import pull
from winnow_annotation.push import push
from winnow_annotation.tasks import PushItem
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.blobs import open_store
from winnow_storage.ledger import open_ledger
from winnow_storage.records import PushState
from winnow_storage.uri import parse

ROUNDS = 3  # each with a project of its own, which both find missing
ITEMS = 12


def racer(url: str, token: str, root: str, ledger_url: str) -> None:
    """What each process does: a line in (push or pull, and the job) begins it, a line out ends it."""
    outbox.CHUNK = 3
    client = LabelStudioClient(url, token, document_root=root)
    output = open_store(parse(f"{root}/output"))
    with open_ledger(ledger_url) as ledger:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while line := sys.stdin.readline().split():
            act, job = line
            if act == "push":
                found = push(client, ledger, _items(root, job), output=output, labels=LABELS, render=render).sent
            else:
                found = pull(client, ledger, output, job=job, tasks=["kind"]).new
            sys.stdout.write(f"{found}\n")
            sys.stdout.flush()


def test_two_at_once__make_no_task_and_no_answer_twice(
    label_studio: LabelStudioServer, postgres: PostgresServer, job: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = str(tmp_path_factory.getbasetemp())
    images = Path(root) / "two pushes"
    images.mkdir()
    for place in range(ITEMS):
        Image.new("RGB", (40, 30)).save(images / f"{place}.jpg")
    ledger_url = postgres.url(postgres.create_database())
    person = Person(label_studio)
    with _racing(label_studio, root, ledger_url) as both, open_ledger(ledger_url) as ledger:
        for number in range(ROUNDS):
            name = f"{job}-{number}"
            assert sum(_at_once(both, f"push {name}")) >= ITEMS  # what one sent the other may find, and count too
            project = ledger.project(label_studio.url, name, "kind")
            assert project is not None
            titles = [one["title"] for one in person.ask("GET", "/api/projects/?page_size=1000")["results"]]
            assert titles.count(f"{name} / kind") == 1
            tasks = person.tasks(project.project_id)
            assert Counter(one["data"]["dedupe_key"] for one in tasks) == Counter(
                one.dedupe_key for one in _items(root, name)
            )
            for task in tasks[:5]:
                person.choose(task["id"], "cat")
            assert sum(_at_once(both, f"pull {name}")) == 5
            assert [label.event for label in ledger.labels(name)] == ["created"] * 5
        rows = ledger.review_tasks(output=open_store(parse(f"{root}/output")).root.uri)
        assert Counter(row.state for row in rows) == {PushState.PUSHED: ROUNDS * ITEMS}


def _items(root: str, job: str) -> list[PushItem]:
    folder = Path(root) / "two pushes"
    return [item("kind", (folder / f"{place}.jpg").as_uri(), job=job) for place in range(ITEMS)]


@contextmanager
def _racing(server: LabelStudioServer, root: str, ledger_url: str) -> Iterator[list["subprocess.Popen[str]"]]:
    call = "import sys; from tests.annotation.test_two_pushes import racer; racer(*sys.argv[1:])"
    command = [sys.executable, "-c", call, server.url, server.token, root, ledger_url]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        assert [_line(one) for one in both] == ["ready", "ready"]
        yield both
    finally:
        for one in both:
            with one:  # closes its pipes, which ends it
                pass


def _at_once(both: list["subprocess.Popen[str]"], order: str) -> list[int]:
    for one in both:
        assert one.stdin is not None
        one.stdin.write(f"{order}\n")
        one.stdin.flush()
    return [int(_line(one)) for one in both]


def _line(one: "subprocess.Popen[str]") -> str:
    assert one.stdout is not None
    return one.stdout.readline().strip()
