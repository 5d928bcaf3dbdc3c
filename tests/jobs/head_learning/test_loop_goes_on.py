"""A loop that is killed anywhere and started again: nothing is lost or doubled, against a real Label Studio.

Between the two is a gateway that answers 502 after Label Studio did what it was asked, or before it does. A pipeline
in this process does the work of Ray's actors; the same with `kill -9` and Ray is a benchmark, `loop_kills`.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.annotation.people import Person
from tests.jobs.head_learning.digits_job import DigitsJob, put_first_head, write_loop_spec
from tests.jobs.head_learning.loop_checks import harm, projects_of
from tests.jobs.whole_nights import begin
from tests.servers.studio_gateway import Gateway, Weather, gateway_of
from winnow_annotation.label_studio import LabelStudioClient
from winnow_jobs.backfill import Backfill, backfilled
from winnow_jobs.commands.options import now
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.events import silent
from winnow_jobs.loop import LoopOptions, Outside, Step, loop
from winnow_jobs.plan import Selection
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.spec_source import load_spec
from winnow_storage import ledger as ledger_module
from winnow_storage.local_store import LocalStore

Done = TypeVar("Done")

KILLS = 5


class Killed(BaseException):
    """As SIGKILL: nothing is tidied up."""


class Writes:
    """Counts the writes to bucket, ledger and Label Studio, and dies at the one numbered `last`, before or after it."""

    def __init__(self) -> None:
        self.count, self.last, self.is_early = 0, -1, True

    def __call__(self, write: Callable[[], Done]) -> Done:
        self.count += 1
        is_last = self.count == self.last
        if is_last and self.is_early:
            raise Killed
        done = write()
        if is_last:
            raise Killed
        return done


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    counted = Writes()
    put, ask, writing = LocalStore.put_if_absent, LabelStudioClient.ask, ledger_module.writing

    @contextmanager
    def deadly(*given: Any) -> Iterator[Any]:
        with writing(*given) as connection:
            yield connection
            if counted.is_early:
                counted(lambda: None)  # before the commit
        if not counted.is_early:
            counted(lambda: None)

    monkeypatch.setattr(LocalStore, "put_if_absent", lambda self, *given: counted(lambda: put(self, *given)))
    monkeypatch.setattr(
        LabelStudioClient, "ask", lambda self, *given, **more: counted(lambda: ask(self, *given, **more))
    )
    monkeypatch.setattr(ledger_module, "writing", deadly)
    return counted


@pytest.fixture
def spec(digits: DigitsJob, studio: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.getbasetemp()
    put_first_head(digits.registry, digits, 20)
    gateway = Gateway(studio.url, "http://127.0.0.1:9", random.Random(5), Weather(slow=0.0, late_s=0.2))
    with gateway_of(gateway) as (url, _):
        yield write_loop_spec(digits.folder, url=url, root=root, budget=20, calibrate=8, gold=0.3, shard_items=150)
    assert gateway.done["lost"] > 0


def looping(spec: Path, person: Person, rounds: int = 2) -> Iterator[Step]:
    """Rounds, all of which but the last ask again; the person answers everything whenever the loop waits for it."""

    def answer(_: float) -> None:
        for project in projects_of(person):
            for task in person.tasks(project):
                if not task["annotations"]:
                    person.choose(task["id"], task["data"]["key"][5])

    return loop(spec, LoopOptions(rounds, wait_s=300.0), Outside(silent, now, sleep=answer))


def test_loop__goes_on_with_a_run_of_another_draw(
    spec: Path, digits: DigitsJob, label_studio: LabelStudioServer
) -> None:
    resolved = resolve_spec(load_spec(spec))
    person = Person(label_studio)
    steps = looping(spec, person)
    next(steps)  # its first run; killed after it
    again = backfilled(Selection(), resolved, Backfill.DECISIONS)
    plan = begin(resolved, **again.model_dump())
    assert plan is not None  # the run that asks again; its driver is killed
    step = next(looping(spec, person))
    assert (step.name, step.record["run_id"], step.record["state"]) == ("run", plan.run_id, "done")


def test_loop__is_killed_in_a_round_and_goes_on_with_it(
    spec: Path, writes: Writes, label_studio: LabelStudioServer
) -> None:
    person = Person(label_studio)
    for last, is_early in ((12, True), (30, False)):
        writes.count, writes.last, writes.is_early = 0, last, is_early
        with pytest.raises(Killed):
            list(looping(spec, person, rounds=1))
    writes.last = -1
    assert [step.name for step in looping(spec, person, rounds=1)] == ["run", "pull", "consensus", "learn", "run"]
    assert harm(spec, person) == {}


@pytest.mark.long
def test_loop__is_killed_everywhere_and_nothing_is_lost_or_doubled(
    spec: Path, writes: Writes, label_studio: LabelStudioServer
) -> None:
    person, dice = Person(label_studio), random.Random(3)
    names = [step.name for step in looping(spec, person)]
    assert names == ["run", *["pull", "consensus", "learn", "run"] * 2]
    whole = writes.count
    died = 0
    for _ in range(KILLS):
        writes.count, writes.last, writes.is_early = 0, dice.randrange(1, whole), dice.random() < 0.5
        try:
            list(looping(spec, person))
        except Killed:
            died += 1
    assert died >= KILLS // 2
    writes.last = -1
    for stop in range(2, 6):  # and at the end of each kind of step
        for step, _ in zip(looping(spec, person), range(stop), strict=False):
            assert step.name in names
    assert [step.name for step in looping(spec, person)] == names
    assert harm(spec, person) == {}
