"""The runs of one loop share a cluster and its actors: real Ray, a real Label Studio, nobody who answers."""

import os

import pytest

from tests.annotation.people import Person
from tests.faults.processes import ACTOR, command_of, descendants
from tests.jobs.head_learning.digits_job import DigitsJob, put_first_head, write_loop_spec
from winnow_jobs.commands.options import now
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.events import silent
from winnow_jobs.loop import LoopOptions, Outside, loop


def actors() -> set[int]:
    """The actors that live below this process."""
    return {pid for pid in descendants(os.getpid()) if command_of(pid).startswith(ACTOR)}


def test_loop__its_runs_have_the_same_actor(
    digits: DigitsJob, label_studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("LABEL_STUDIO_TOKEN", label_studio.token)
    root = tmp_path_factory.getbasetemp()
    path = write_loop_spec(digits.folder, url=label_studio.url, root=root, budget=5)
    put_first_head(digits.registry, digits, 20)
    person, seen = Person(label_studio), list[set[int]]()
    try:
        for step in loop(path, LoopOptions(rounds=2), Outside(silent, now)):
            if step.name == "run" and step.record["state"] == "done":
                seen.append(actors())
    finally:
        for project in person.ask("GET", "/api/projects/?page_size=1000")["results"]:
            if project["title"] == "digits / kind":
                person.ask("DELETE", f"/api/projects/{project['id']}/")
    assert len(seen) == 2  # what is due for the head, and again from the stored vectors
    assert len(seen[0]) == 1
    assert seen[1] == seen[0]
    assert actors() == set()
