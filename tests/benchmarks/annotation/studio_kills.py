"""Is nothing lost or doubled between us and people, whatever is killed? `kill -9` across push, pull and listen.

`python -m tests.benchmarks.annotation.studio_kills --kills 100 --seed 1`: a real Label Studio behind a gateway of our
own that answers 502 after it committed, or before, is slow at times, and drops half of the webhooks. A person answers,
changes, skips and deletes meanwhile; now and then Label Studio itself is killed. Kills that hit nothing do not count.
"""

import argparse
import itertools
import json
import math
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.annotation.people import Person
from tests.benchmarks.annotation.studio_worker import LABELS, Worker
from tests.benchmarks.engine.line import say
from tests.jobs.consensus.crowd_job import TASK, key_of
from tests.servers.label_studio import label_studio_executable, label_studio_on
from tests.servers.postgres import PostgresServer, postgres_server
from tests.servers.studio_gateway import Gateway, Weather, gateway_of
from winnow_jobs.consensus.live import live_items
from winnow_jobs.demo.label_studio_server import LabelStudioServer, label_studio_server
from winnow_jobs.verify.labels import read_labels
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.ledger import Ledger, open_ledger
from winnow_storage.records import Label
from winnow_storage.uri import parse

MORE_ITEMS = (2, 9)  # review tasks that each push has more than the one before
STRETCH = 1.1  # a kill comes within so many times what the same takes when it is not disturbed
LISTEN_S = 3.0  # and of listening within as long as a pull takes, and this
AFTER_S = 60.0  # within which everything must be there once the server is back
SEEN_S = 2.0
ACTS = {"answer": 50, "skip": 8, "change": 20, "delete answer": 12, "delete task": 2}  # how often a person does each
CALM = Weather(lost=0, late=0, slow=0, dropped=0)
_TOKEN_S = 200.0  # of the 300 s that it lives
_LISTEN = {"do": "listen", "secret": "a secret of the harness", "every_s": 5.0}


@dataclass(slots=True)
class Found:
    """What a campaign found."""

    kills: Counter[str] = field(default_factory=Counter)
    server_kills: int = 0
    misses: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    back_s: list[float] = field(default_factory=list)
    tasks: int = 0
    labels: int = 0
    harm: dict[str, list[Any]] = field(default_factory=dict)
    weather: dict[str, int] = field(default_factory=dict)


class Studio:
    """A Label Studio that can be killed and started again at the same place; `server`: one that is there already.

    `postgres`: it keeps its data there, else in SQLite.
    """

    def __init__(
        self, root: Path, server: LabelStudioServer | None = None, postgres: PostgresServer | None = None
    ) -> None:
        self.root, self._stack = root, ExitStack()
        self._program = None if postgres is None else label_studio_on(postgres, root)
        self._port: int | None = None
        if server is None:
            self.start()
        else:
            self.server = server

    def start(self) -> None:
        """Until it is up."""
        program, data = self._program or label_studio_executable(), self.root / "label-studio"
        self.server = self._stack.enter_context(
            label_studio_server(program, data, document_root=self.root, port=self._port, allow_private_addresses=True)
        )
        self._port = int(self.server.url.rpartition(":")[2])

    def kill(self) -> None:
        """With everything that it started."""
        os.killpg(self.server.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """If it runs."""
        self._stack.close()


class Campaign:
    """One Label Studio, one job, one person, and what is killed."""

    def __init__(self, studio: Studio, folder: Path, seed: int, *, kills: int, server_kills: int) -> None:
        """`folder` is empty, and below the studio's root."""
        self._studio, self._folder, self._dice = studio, folder, random.Random(seed)
        self._wanted, self._server_kills = kills, server_kills
        self._pushed = 0
        self._shown: tuple[float, list[dict[str, Any]]] = (0.0, [])
        self._deleted: set[str] = set()  # dedupe_keys of tasks that the person deleted
        self._person: tuple[float, Person] | None = None
        self.until = math.inf  # of time.monotonic: no kill after that
        self.found = Found()

    def run(self) -> Found:
        """Until so many kills have struck, and everything is settled and compared."""
        items = (self._wanted * 2 + 20) * MORE_ITEMS[1] // 2
        (self._folder / "images").mkdir()
        for place in range(items):
            Image.new("RGB", (10, 10)).save(self._folder / "images" / key_of(place))
        gateway = Gateway(self._studio.server.url, "http://127.0.0.1:9", random.Random(self._dice.random()))
        with gateway_of(gateway) as (url, hook), self._working(url, items) as worker:
            self._gateway, self._url, self._hook, self._worker = gateway, url, hook, worker
            self._campaign()
            self._finish()
        self.found.weather = dict(sorted(gateway.done.items()))
        return self.found

    @contextmanager
    def _working(self, url: str, items: int) -> Iterator[Worker]:
        begun = {"folder": str(self._folder), "root": str(self._studio.root), "items": items, "url": url}
        begun["job"] = self._job = f"kills {secrets.token_hex(4)}"
        worker = Worker(begun, self._studio.server.token, self._folder / "worker.log")
        try:
            yield worker
        finally:
            worker.close()

    def _campaign(self) -> None:
        every = max(1, self._wanted // max(1, self._server_kills))
        longest = self._undisturbed()
        while sum(self.found.kills.values()) < self._wanted and time.monotonic() < self.until:
            kind = self._dice.choices(["push", "pull", "listen"], [5, 3, 2])[0]
            self._worker.begin(self._order(kind))
            self._live(time.monotonic() + self._dice.uniform(0, longest[kind]))
            if self._worker.kill():
                self.found.kills[kind] += 1
                if sum(self.found.kills.values()) % every == 0 and self.found.server_kills < self._server_kills:
                    self._kill_server()
            else:
                self.found.misses += 1

    def _undisturbed(self) -> dict[str, float]:
        """Some tasks to begin with, and how long things take here."""
        stormy, self._gateway.weather = self._gateway.weather, CALM
        took: dict[str, float] = {}
        for kind in ("push", "push", "pull"):  # the first push makes the project
            begun = time.monotonic()
            self._worker.begin(self._order(kind))
            self._worker.wait()
            took[kind] = STRETCH * (time.monotonic() - begun)
        self._gateway.weather = stormy
        return took | {"listen": took["pull"] + LISTEN_S}

    def _order(self, kind: str) -> dict[str, Any]:
        if kind == "push":
            self._pushed = min(len(self._worker.items), self._pushed + self._dice.randrange(*MORE_ITEMS))
            return {"do": "push", "count": self._pushed}
        return self._listen() if kind == "listen" else {"do": "pull"}

    def _listen(self) -> dict[str, Any]:
        port = _free_port()
        self._gateway.listener = f"http://127.0.0.1:{port}"
        return _LISTEN | {"port": port, "url": f"{self._hook}/"}

    def _live(self, end: float) -> None:
        """What the person does until then."""
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, self._dice.uniform(0, 0.4)))
            if time.monotonic() < end:
                self._act()

    def _act(self) -> None:
        """On what the person saw some seconds ago; what is gone by now is refused."""
        if time.monotonic() - self._shown[0] > SEEN_S:
            with self._ledger() as ledger:
                project = self._project(ledger)
                known = set() if project is None else set(ledger.pushed_ids(self._output(), project[1]).values())
            # what is not noted yet would be sent again if the person deleted it: nobody knows that it was there
            seen = [task for task in self._tasks(self._as_person()) if task["id"] in known]
            self._shown = time.monotonic(), seen
        if self._shown[1]:
            what = self._dice.choices(list(ACTS), list(ACTS.values()))[0]
            try:
                self._do(what, self._dice.choice(self._shown[1]))
            except httpx.HTTPStatusError:
                what = "refused"
            self.found.answers[what] += 1

    def _do(self, what: str, task: dict[str, Any]) -> None:
        person, label = self._as_person(), self._dice.choice(LABELS)
        answers = [answer["id"] for answer in task["annotations"]]
        if what == "delete task":
            person.ask("DELETE", f"/api/tasks/{task['id']}/")
            self._deleted.add(task["data"]["dedupe_key"])
        elif what == "change" and answers:
            person.change(self._dice.choice(answers), label)
        elif what == "delete answer" and answers:
            person.delete(self._dice.choice(answers))
        else:
            person.choose(task["id"], label, was_cancelled=what == "skip")

    def _kill_server(self) -> None:
        """In the middle of a push; how long it takes, once it is back, until all that stands there is in the ledger."""
        self._worker.begin(self._order("push"))
        self._live(time.monotonic() + self._dice.uniform(0.2, 1.5))
        self._studio.kill()
        self.found.server_kills += 1
        self._worker.wait()
        self._worker.begin(self._listen())
        time.sleep(1)  # while it is away
        self._studio.start()
        self._person = None
        back = time.monotonic()
        self._act()
        while self._differences() and time.monotonic() < back + AFTER_S:
            time.sleep(0.25)
        self.found.back_s.append(time.monotonic() - back)
        self._worker.kill()

    def _finish(self) -> None:
        """One push and one pull that nobody disturbs, and the truth."""
        self._gateway.settle()
        self._gateway.weather = CALM
        codes = []
        for order in ({"do": "push", "count": self._pushed}, {"do": "pull"}):
            self._worker.begin(order)
            codes.append(self._worker.wait())
        if any(codes):
            self.found.harm["commands that failed in calm weather"] = codes
        harm = {"labels": self._differences(), "bucket": self._differences_of_bucket(), **self._doubled()}
        tasks = Counter(task["data"]["dedupe_key"] for task in self._tasks(self._as_person()))
        harm["duplicate tasks"] = sorted(key for key, count in tasks.items() if count > 1)
        wanted = set(self._worker.items[: self._pushed])
        harm["missing tasks"] = sorted(wanted - set(tasks) - self._deleted)
        harm["tasks nobody sent"] = sorted(set(tasks) - wanted)
        harm["deleted tasks that came back"] = sorted(set(tasks) & self._deleted)
        self.found.tasks = len(tasks)
        self.found.harm |= {name: found for name, found in harm.items() if found}

    def _differences(self) -> list[str]:
        """The annotations of which server and ledger do not say the same."""
        with self._ledger() as ledger:
            project = self._project(ledger)
            live = {} if project is None else ledger.live_annotations(*project)
        return _unlike(live, self._served())

    def _differences_of_bucket(self) -> list[str]:
        labels, findings = read_labels(self._store())
        newest = {label.annotation_id: label for label in labels}
        live = {key: label for key, label in newest.items() if label.event != "deleted"}
        people = {one.label_id for item in live_items(labels, self._job, TASK).values() for one in item.labels}
        counted = {one.label_id for one in live.values() if not one.was_cancelled}
        # of one person's answers about an item the last one counts, so these are fewer, never others
        return _unlike(live, self._served()) + sorted(people - counted) + [finding.key for finding in findings]

    def _doubled(self) -> dict[str, list[Any]]:
        with self._ledger() as ledger:
            labels = ledger.labels(self._job)
        self.found.labels = len(labels)
        states = Counter((one.annotation_id, one.event, one.updated_at) for one in labels)
        begun = Counter(one.annotation_id for one in labels if one.event == "created")
        ended = Counter(one.annotation_id for one in labels if one.event == "deleted")
        followed = Counter(one.supersedes for one in labels if one.supersedes is not None)
        known = {one.label_id for one in labels}
        return {
            "labels doubled": [str(key) for key, count in states.items() if count > 1],
            "answers that began twice": [key for key, count in begun.items() if count > 1],
            "answers that ended twice": [key for key, count in ended.items() if count > 1],
            "states followed by two": [key for key, count in followed.items() if count > 1],
            "states that follow none": sorted(set(followed) - known),
        }

    def _served(self) -> dict[str, Any]:
        return {str(one["id"]): one for task in self._tasks(self._as_person()) for one in task["annotations"]}

    def _tasks(self, person: Person) -> list[dict[str, Any]]:
        with self._ledger() as ledger:
            project = self._project(ledger)
        return [] if project is None else person.tasks(project[1])

    def _project(self, ledger: Ledger) -> tuple[str, int] | None:
        found = ledger.project(self._url, self._job, TASK)
        return None if found is None else (found.url, found.project_id)

    def _ledger(self) -> Ledger:
        return open_ledger(f"sqlite:///{self._folder / 'ledger.sqlite'}")

    def _store(self) -> BlobStore:
        return open_store(parse(str(self._folder / "out")))

    def _output(self) -> str:
        return self._store().root.uri

    def _as_person(self) -> Person:
        """Its token lives for five minutes."""
        if self._person is None or time.monotonic() - self._person[0] > _TOKEN_S:
            self._person = time.monotonic(), Person(self._studio.server)
        return self._person[1]


def _unlike(live: dict[str, Label], served: dict[str, Any]) -> list[str]:
    ours = {key: (one.raw and json.loads(one.raw), one.was_cancelled) for key, one in live.items()}
    theirs = {key: (one["result"], bool(one["was_cancelled"])) for key, one in served.items()}
    return sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Run it; 0 if everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--server-kills", type=int, default=4)
    parser.add_argument("--within", type=float, default=math.inf, help="seconds after which no more is killed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="Label Studio keeps its data in PostgreSQL")
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="winnow-studio-") as scratch, ExitStack() as servers:
        postgres = servers.enter_context(postgres_server()) if given.postgres else None
        studio = Studio(Path(scratch), postgres=postgres)
        try:
            folder = Path(scratch) / "campaign"
            folder.mkdir()
            campaign = Campaign(studio, folder, given.seed, kills=given.kills, server_kills=given.server_kills)
            campaign.until = time.monotonic() + given.within
            found = campaign.run()
        finally:
            studio.stop()
    database = "PostgreSQL" if given.postgres else "SQLite"
    setup = f"Label Studio on {database} behind a gateway (502 after 30 % of writes, 10 % late), seed {given.seed}"
    what = {
        "kills": dict(found.kills) | {"Label Studio": found.server_kills},
        "answers": dict(found.answers),
        "tasks": found.tasks,
        "labels": found.labels,
        "gateway": found.weather,
        "harm": found.harm,
        "took_s": round(time.monotonic() - begun),
    }
    harm = float(len(list(itertools.chain(*found.harm.values()))))
    say("Label Studio: tasks doubled, labels lost or doubled, after kills", [harm], at_most=0, setup=setup, **what)
    if found.back_s:
        slowest = [max(found.back_s)]
        say("Label Studio: seconds until all is ingested, once it is back", slowest, at_most=AFTER_S, setup=setup)
    return 1 if harm or max(found.back_s, default=0) > AFTER_S else 0


if __name__ == "__main__":
    sys.exit(main())
