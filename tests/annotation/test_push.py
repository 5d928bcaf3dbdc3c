"""Tests of pushing to a real Label Studio: each review task stands there exactly once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.annotation.examples import LABELS, OPERATORS, item, render
from tests.annotation.people import Person
from tests.servers.scripted import Answer, Request, scripted_server
from winnow_annotation import fences, outbox
from winnow_annotation.label_studio import LabelStudioClient
from winnow_annotation.pull import pull
from winnow_annotation.push import Asking, PushSummary, push
from winnow_annotation.tasks import PushItem, review_task
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import LabelStudioError, SpecError
from winnow_storage.ledger import Ledger
from winnow_storage.records import PushState

PASSED_ON = ("authorization", "content-type")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "CHUNK", 2)
    monkeypatch.setattr(outbox, "_PAUSE_S", 0.01)
    monkeypatch.setattr(fences, "_PAUSE_S", 0.01)


def images(folder: Path, count: int, suffix: str = "jpg") -> list[str]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"bild {n} ä.{suffix}" for n in range(count)]
    for file in files:
        Image.new("RGB", (40, 30)).save(file)
    return [file.as_uri() for file in files]


def kinds(tmp_path: Path, job: str, count: int) -> list[PushItem]:
    return [item("kind", uri, job=job) for uri in images(tmp_path / "images", count)]


def project_of(ledger: Ledger, client: LabelStudioClient, job: str, task: str = "kind") -> int:
    project = ledger.project(client.url, job, task)
    assert project is not None
    return project.project_id


def keys_there(person: Person, project_id: int) -> Counter[str]:
    return Counter(task["data"]["dedupe_key"] for task in person.tasks(project_id))


def states(ledger: Ledger, output: BlobStore) -> Counter[PushState]:
    return Counter(row.state for row in ledger.review_tasks(output=output.root.uri))


@contextmanager
def refusing_the_second_import(label_studio: LabelStudioServer, answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A gateway before the server that gives this answer to one import and passes everything else on; the imports."""
    imports: list[str] = []

    def gateway(request: Request) -> Answer:
        if _is_import(request):
            imports.append(request.path)
            if len(imports) == 2:
                return answer
        return _pass_on(label_studio.url, request)

    with scripted_server(gateway) as url:
        yield url, imports


def test_push__sends_every_kind_and_twice_adds_nothing(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    uris = images(tmp_path / "images", 3)
    items = [item(task, uri, job=job) for task in OPERATORS for uri in uris]
    assert push(client, ledger, items, output=output, labels=LABELS, render=render) == PushSummary(
        sent=len(items), already=0, swept=0
    )
    assert push(client, ledger, items, output=output, labels=LABELS, render=render) == PushSummary(
        sent=0, already=len(items), swept=0
    )
    person = Person(label_studio)
    for task in OPERATORS:
        there = keys_there(person, project_of(ledger, client, job, task))
        assert there == Counter(one.dedupe_key for one in items if one.task == task)
    assert states(ledger, output) == {PushState.PUSHED: len(items)}
    first = person.tasks(project_of(ledger, client, job))[0]
    assert first["total_predictions"] == 1
    image = httpx.get(f"{client.url}{first['data']['image']}", headers=person._headers)
    assert image.status_code == 200
    assert image.headers["content-type"] == "image/jpeg"


def test_push__a_lost_ledger_doubles_nothing(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    from winnow_storage.ledger import open_ledger

    items = kinds(tmp_path, job, 3)
    push(client, ledger, items, output=output, labels=LABELS, render=render)
    empty = open_ledger(f"sqlite:///{tmp_path / 'other.sqlite'}")
    assert push(client, empty, items, output=output, labels=LABELS, render=render).sent == 0
    assert states(empty, output) == {PushState.PUSHED: 3}
    assert project_of(empty, client, job) == project_of(ledger, client, job)
    empty.close()


def test_push__an_answer_lost_after_the_server_stored_the_tasks(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, tmp_path: Path
) -> None:
    imports: list[str] = []

    def gateway(request: Request) -> Answer:
        answer = _pass_on(label_studio.url, request)
        if _is_import(request):
            imports.append(request.path)
            return Answer(502, b"bad gateway")
        return answer

    items = kinds(tmp_path, job, 5)
    with scripted_server(gateway) as url:
        client = _client(url, label_studio, tmp_path)
        assert push(client, ledger, items, output=output, labels=LABELS, render=render) == PushSummary(
            sent=5, already=0, swept=0
        )
        there = keys_there(Person(label_studio), project_of(ledger, client, job))
    assert there == Counter(one.dedupe_key for one in items)
    assert len(imports) == 3  # chunks of 2, none repeated
    assert states(ledger, output) == {PushState.PUSHED: 5}


def test_push__a_server_that_is_away_for_a_moment_is_asked_again(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, tmp_path: Path
) -> None:
    items = kinds(tmp_path, job, 5)
    with refusing_the_second_import(label_studio, Answer(503, b"not now")) as (url, imports):
        client = _client(url, label_studio, tmp_path)
        assert push(client, ledger, items, output=output, labels=LABELS, render=render).sent == 5
        there = keys_there(Person(label_studio), project_of(ledger, client, job))
    assert there == Counter(one.dedupe_key for one in items)
    assert len(imports) == 4


def test_push__a_server_that_refuses_in_the_middle_and_the_same_call_goes_on(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, tmp_path: Path
) -> None:
    items = kinds(tmp_path, job, 5)
    with refusing_the_second_import(label_studio, Answer(400, b"no more")) as (url, imports):
        client = _client(url, label_studio, tmp_path)
        with pytest.raises(LabelStudioError, match="400 no more"):
            push(client, ledger, items, output=output, labels=LABELS, render=render)
        assert len(imports) == 2
        assert states(ledger, output) == {PushState.PUSHED: 2, PushState.PENDING: 3}
        assert push(client, ledger, items, output=output, labels=LABELS, render=render) == PushSummary(
            sent=3, already=2, swept=0
        )
        there = keys_there(Person(label_studio), project_of(ledger, client, job))
    assert there == Counter(one.dedupe_key for one in items)


@pytest.mark.parametrize("commits", ["before the next push", "after it", "while its fence is closed"])
def test_push__an_import_that_commits_after_its_push_died(
    label_studio: LabelStudioServer, ledger: Ledger, output: BlobStore, job: str, tmp_path: Path, commits: str
) -> None:
    """The request waits at a gateway while its sender is gone: what a kill at the wrong moment leaves behind."""
    held: list[Request] = []
    let_through: list[int] = []

    def gateway(request: Request) -> Answer:
        if _is_import(request) and not held:
            held.append(request)
            raise ConnectionAbortedError
        if request.method == "DELETE" and held and commits == "while its fence is closed" and not let_through:
            let_through.append(_pass_on(label_studio.url, held[0]).status)
        return _pass_on(label_studio.url, request)

    class Killed(BaseException):
        """As SIGKILL: nothing is tidied up."""

    def dies(*_: object) -> None:
        raise Killed

    items = kinds(tmp_path, job, 2)
    with scripted_server(gateway) as url, pytest.MonkeyPatch.context() as patch:
        client = _client(url, label_studio, tmp_path)
        patch.setattr(outbox.Outbox, "_end", dies)
        with pytest.raises(Killed):
            push(client, ledger, items, output=output, labels=LABELS, render=render)
        patch.undo()
        assert states(ledger, output) == {PushState.SENDING: 2}
        if commits == "before the next push":
            let_through.append(_pass_on(label_studio.url, held[0]).status)
        done = push(client, ledger, items, output=output, labels=LABELS, render=render)
        if commits == "after it":
            let_through.append(_pass_on(label_studio.url, held[0]).status)
        there = keys_there(Person(label_studio), project_of(ledger, client, job))
    assert there == Counter(one.dedupe_key for one in items)
    assert done == (PushSummary(2, 0, 0) if commits == "after it" else PushSummary(0, 2, 0))
    assert [status == 201 for status in let_through] == [commits != "after it"]
    assert states(ledger, output) == {PushState.PUSHED: 2}


def test_push__what_people_deleted_is_not_sent_again(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    items = kinds(tmp_path, job, 3)
    push(client, ledger, items, output=output, labels=LABELS, render=render)
    gone = ledger.pushed_ids(output.root.uri, project_of(ledger, client, job))[items[1].dedupe_key]
    Person(label_studio).ask("DELETE", f"/api/tasks/{gone}/")
    pull(client, ledger, output, job=job, tasks=["kind"])
    assert push(client, ledger, items, output=output, labels=LABELS, render=render) == PushSummary(0, 3, 0)
    assert states(ledger, output) == {PushState.PUSHED: 2, PushState.DELETED: 1}


def test_push__sweeps_copies_that_another_push_made_and_keeps_the_answered_one(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    items = kinds(tmp_path, job, 3)
    push(client, ledger, items[:1], output=output, labels=LABELS, render=render)
    project_id = project_of(ledger, client, job)
    copies = [review_task(one, image="x") for one in items[1:]]
    client.import_tasks(project_id, copies)
    late = client.import_tasks(project_id, copies)
    person = Person(label_studio)
    person.choose(late[0], "cat")
    assert push(client, ledger, items, output=output, labels=LABELS, render=render) == PushSummary(
        sent=0, already=3, swept=2
    )
    assert keys_there(person, project_id) == Counter(one.dedupe_key for one in items)
    rows = {row.dedupe_key: row.ls_task_id for row in ledger.review_tasks(output=output.root.uri)}
    assert rows[items[1].dedupe_key] == late[0]
    assert rows[items[2].dedupe_key] == min(
        task["id"] for task in person.tasks(project_id) if task["data"]["dedupe_key"] == items[2].dedupe_key
    )


def test_push__a_new_label_set_changes_the_interface_unless_answers_forbid_it(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    items = kinds(tmp_path, job, 2)
    push(client, ledger, items[:1], output=output, labels={"kind": ["cat", "dog & cow"]}, render=render)
    push(client, ledger, items, output=output, labels={"kind": ["cat", "dog & cow", "owl"]}, render=render)
    project_id = project_of(ledger, client, job)
    project = client.project(project_id)
    assert project is not None
    assert "owl" in project.config
    person = Person(label_studio)
    person.choose(person.tasks(project_id)[0]["id"], "owl")
    with pytest.raises(LabelStudioError, match="refused to change the interface"):
        push(client, ledger, items, output=output, labels={"kind": ["cat", "dog & cow"]}, render=render)


def test_push__people_read_what_is_asked_of_them(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    person, items = Person(label_studio), kinds(tmp_path, job, 3)

    def told(count: int, asking: Asking) -> tuple[str, bool]:
        push(client, ledger, items[:count], output=output, labels=LABELS, render=render, asking=asking)
        project = person.ask("GET", f"/api/projects/{project_of(ledger, client, job)}/")
        return project["expert_instruction"], project["show_instruction"]

    usual, is_shown = told(1, Asking())
    assert usual.startswith("Choose the label that fits the image best.")
    assert not is_shown  # they are there for who looks for them
    own = "Calves are <b>cows</b>."
    assert told(2, Asking(instructions={"kind": own})) == (own, True)
    assert told(3, Asking()) == (own, True)  # without words in the spec, what stands in Label Studio stays


def test_push__people_are_asked_in_the_order_given(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    person, items = Person(label_studio), kinds(tmp_path, job, 4)[::-1]
    push(client, ledger, items, output=output, labels=LABELS, render=render)
    project, asked = project_of(ledger, client, job), []
    for _ in items:
        task = person.ask("GET", f"/api/projects/{project}/next")
        asked.append(task["data"]["dedupe_key"])
        person.choose(task["id"], "cat")
    assert asked == [one.dedupe_key for one in items]


def test_push__a_project_that_was_deleted_is_made_again(
    label_studio: LabelStudioServer,
    client: LabelStudioClient,
    ledger: Ledger,
    output: BlobStore,
    job: str,
    tmp_path: Path,
) -> None:
    items = kinds(tmp_path, job, 2)
    push(client, ledger, items, output=output, labels=LABELS, render=render)
    gone = project_of(ledger, client, job)
    Person(label_studio).ask("DELETE", f"/api/projects/{gone}/")
    assert push(client, ledger, items, output=output, labels=LABELS, render=render) == PushSummary(
        sent=2, already=0, swept=0
    )
    assert project_of(ledger, client, job) != gone


def test_push__an_operator_without_an_interface_cannot_be_reviewed(
    client: LabelStudioClient, ledger: Ledger, output: BlobStore, job: str, tmp_path: Path
) -> None:
    (uri,) = images(tmp_path / "images", 1)
    own = item("kind", uri, job=job, operator="mine:Own")
    with pytest.raises(SpecError, match="cannot be reviewed"):
        push(client, ledger, [own], output=output, labels={}, render=render)


def test_push__nothing_to_send_asks_nothing(ledger: Ledger, output: BlobStore) -> None:
    nobody: Sequence[PushItem] = []
    unreachable = LabelStudioClient("http://127.0.0.1:9", "0" * 40)
    assert push(unreachable, ledger, nobody, output=output, labels={}, render=render) == PushSummary(0, 0, 0)


def _client(url: str, server: LabelStudioServer, tmp_path: Path) -> LabelStudioClient:
    return LabelStudioClient(url, server.token, document_root=str(tmp_path.parent))


def _is_import(request: Request) -> bool:
    """Of tasks; not of the file that an import rests on."""
    return request.method == "POST" and "/import?return_task_ids" in request.path


def _pass_on(url: str, request: Request) -> Answer:
    headers = {name: value for name, value in request.headers.items() if name in PASSED_ON}
    answer = httpx.request(request.method, f"{url}{request.path}", content=request.body, headers=headers, timeout=60)
    kept = {"Content-Type": answer.headers.get("content-type", "text/plain")}
    return Answer(answer.status_code, answer.content, kept)
