"""How does the loop close itself? Run, ask, pull, agree, learn, judge, promote, run again: by the commands' own code.

Every step goes on where it was stopped, and none keeps anything of its own, so a loop that was killed is the same loop
when it is started again. A round ends with a run: it predicts with a head that was promoted (from vectors that are
stored, so no image is fetched), and sends the next questions.
"""

import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from winnow_annotation.gate.verdict import sentence
from winnow_annotation.stopping import Advice, advice_text
from winnow_jobs.backfill import Backfill, backfilled
from winnow_jobs.begin import open_run, open_runs
from winnow_jobs.engine import Engine
from winnow_jobs.events import Listener, Note
from winnow_jobs.head_learning.head_task import HeadJob, head_job
from winnow_jobs.head_learning.learn_heads import HeadOptions, LearnedHead, learn_heads
from winnow_jobs.job import Ended, run_job
from winnow_jobs.learn import learn
from winnow_jobs.machine import ledger_of
from winnow_jobs.options import Options
from winnow_jobs.people import ask_further, pull_labels, push_pending, sync_ledger
from winnow_jobs.plan import Selection
from winnow_jobs.recalibrated import to_calibrate
from winnow_jobs.resolved import ResolvedSpec, resolve_spec
from winnow_jobs.review_notes import run_alarms
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import LabelStudioError, LabelStudioRefused, UsageError, WinnowError
from winnow_storage.ledger import Ledger
from winnow_storage.records import PushState
from winnow_storage.registry import Registry
from winnow_storage.uri import parse

POLL_S = 5.0
WARM_S = 600.0  # if people may take longer, the runs' cluster ends meanwhile: somebody may want what it holds

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """`wait_s`: how long people may take for what a round asks, and Label Studio may be away; `until_enough`: end when
    more labels hardly help.
    """

    rounds: int = 1
    wait_s: float = 0.0
    until_enough: bool = False
    head: HeadOptions = field(default_factory=HeadOptions)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a round did: `name` of the step, a sentence, and the record of its command."""

    round: int
    name: str
    text: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn of a scheduled loop did, and what ended it before its last round, if anything."""

    steps: tuple[Step, ...]
    error: WinnowError | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """What the loop takes from outside: who listens, the clock, and an engine that its runs share with others'.

    Without one they share their own, which ends with the loop.
    """

    listener: Listener
    now: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    elapsed: Callable[[], float] = time.monotonic
    engine: Engine | None = None


def loop(path: Path, options: LoopOptions, outside: Outside) -> Iterator[Step]:
    """The steps, as they are done.

    Raises:
        UsageError: no task of the spec has a head, or one is pinned to a version.
        WinnowError: as the steps say; the same call goes on.
    """
    with Engine() if outside.engine is None else nullcontext(outside.engine) as engine:
        yield from _rounds(path, options, replace(outside, engine=engine))


def scheduled(path: Path, options: LoopOptions, outside: Outside, *, every_s: float) -> Iterator[Step | Turn]:
    """The loop again and again, a turn every `every_s` seconds: its steps, as they are done, then what it was.

    An error ends its turn only: the next one goes on with what is there. Without end.

    Raises:
        WinnowError: nothing at all could be done.
    """
    is_first = True
    while True:
        begun, steps, error = outside.elapsed(), list[Step](), None
        try:
            for step in loop(path, options, outside):
                steps.append(step)
                yield step
        except WinnowError as raised:
            if is_first and not steps:
                raise
            error = raised
        yield Turn(tuple(steps), error)
        is_first = False
        outside.sleep(max(0.0, begun + every_s - outside.elapsed()))


def _rounds(path: Path, options: LoopOptions, outside: Outside) -> Iterator[Step]:
    job = head_job(load_spec(path), [])
    _check_stages(job)
    registry = Registry(open_store(parse(job.spec.registry)))
    if any(task.current(registry, None) is None for task in job.tasks):
        yield from _learn(path, 1, options)  # the first head: without one there is nothing to run
    yield _run(path, 1, options, outside, ask_again=False)
    for number in range(1, options.rounds + 1):
        if outside.engine is not None and options.wait_s > WARM_S:
            outside.engine.end()
        yield _pull(path, number, options, outside)
        yield _agree(path, number, options, outside)
        learned = yield from _learn(path, number, options)
        promoted = {one.task for one in learned if one.promoted is not None}
        yield from _calibrate(path, number, outside, without=promoted)
        yield _run(path, number, options, outside, ask_again=number < options.rounds)
        enough = [one.stopping.advice is Advice.ENOUGH for one in learned]
        if options.until_enough and enough and all(enough):
            return


def _check_stages(job: HeadJob) -> None:
    for task in job.tasks:
        if task.wanted.isdigit():
            raise UsageError(
                f"task {task.name}: models/{task.model}@{task.wanted} is a version, which no gate can replace",
                hint=f"write model: models/{task.model}@prod",
            )


def _run(path: Path, number: int, options: LoopOptions, outside: Outside, *, ask_again: bool) -> Step:
    """A run over what is due. With nothing due, heads predict all items again if there is to be another round: the next
    questions are those of another draw. One that was begun, and whose driver was killed, comes first, as it was begun.
    """
    spec = resolve_spec(load_spec(path))
    begun = open_run(open_runs(spec))
    chosen = Options() if begun is None else Options(begun.selection)
    ended = run_job(spec, chosen, outside.listener, outside.now, engine=outside.engine)
    if begun is None and ask_again and ended.record["state"] == "nothing_due":
        again = Options(backfilled(Selection(), spec, Backfill.DECISIONS))
        ended = run_job(spec, again, outside.listener, outside.now, engine=outside.engine)
    if ended.push_error is not None:
        if not _is_away(ended.push_error):
            raise ended.push_error
        _, runs, ledger = _places(path)
        pushed = _patiently(lambda: push_pending(spec, runs, ledger, outside.listener), options, outside)
        ended.record["review"]["pushed"] = pushed.sent
    for text in run_alarms(ended.record):  # drift, broken promises: as `winnow run` tells them
        outside.listener(Note(text, warning=True))
    return Step(number, "run", _run_text(ended), ended.record)


def _run_text(ended: Ended) -> str:
    record = ended.record
    if record["state"] == "nothing_due":
        return "nothing is due"
    return (
        f"run {record['run_id']} {record['state']}: {counted(record['items'], 'item')}, "
        f"{counted(record['review']['pushed'], 'review task')} sent"
    )


def _pull(path: Path, number: int, options: LoopOptions, outside: Outside) -> Step:
    """The answers that are there, or come while it waits for all that was asked."""
    spec, runs, ledger = _places(path)
    begun, new = outside.elapsed(), 0
    while True:
        new += _patiently(lambda: pull_labels(spec, runs, ledger), options, outside).new
        waiting = _unanswered(spec, runs, ledger)
        left = options.wait_s - (outside.elapsed() - begun)
        if not waiting or left <= 0:
            break
        outside.sleep(min(POLL_S, left))
    text = f"{counted(new, 'new label')}; {counted(waiting, 'review task')} not answered"
    return Step(number, "pull", text, {"new": new, "unanswered": waiting})


def _unanswered(spec: ResolvedSpec, runs: Runs, ledger: Ledger) -> int:
    asked = {one.dedupe_key for one in ledger.review_tasks(output=runs.store.root.uri, states=[PushState.PUSHED])}
    return len(asked - {label.dedupe_key for label in ledger.labels(spec.job)})


def _agree(path: Path, number: int, options: LoopOptions, outside: Outside) -> Step:
    from winnow_jobs.consensus.further import settle  # with scipy and scikit-learn, which take seconds to import

    spec, runs, ledger = _places(path)
    record = settle(spec, runs, tasks=[], at=outside.now())
    sync_ledger(runs, ledger)
    record |= _patiently(lambda: ask_further(spec, runs, ledger, outside.listener), options, outside)
    items = sum(one["items"] for one in record["tasks"])
    text = f"{counted(items, 'item')} with answers, {counted(record['sent'], 'further question')} sent"
    return Step(number, "consensus", text, record)


def _learn(path: Path, number: int, options: LoopOptions) -> Generator[Step, None, list[LearnedHead]]:
    """A step for each head, promoted where the gate lets it; returns what was learned."""
    job = head_job(load_spec(path), [])
    runs, registry = Runs(open_store(parse(job.spec.output))), Registry(open_store(parse(job.spec.registry)))
    learned: list[LearnedHead] = []
    for task in job.tasks:
        stage = replace(options.head, stage=task.wanted)
        found = learn_heads(HeadJob(job.spec, (task,)), runs, registry, stage)[task.name]
        if isinstance(found, UsageError):
            record = {"task": task.name, "error": found.message, "hint": found.hint}
            yield Step(number, "learn", f"{task.name}: {found.message}", record)
            continue
        learned.append(found)
        named = f"models/{found.entry.name}@{found.entry.version}"
        text = f"{task.name}: {named} from {counted(found.labels, 'label')}; {sentence(found.verdict)}"
        yield Step(number, "learn", f"{text}; {advice_text(found.stopping)}", {"task": task.name} | found.record())
    return learned


def _calibrate(path: Path, number: int, outside: Outside, *, without: Collection[str]) -> Iterator[Step]:
    """A step for each task where p_ok decides something; `without` those whose new head has predicted nothing yet."""
    spec, runs, _ = _places(path)
    for task, known in to_calibrate(spec, runs.store):
        if task.name in without:
            continue
        beside = None if known is None or known.neighbours is None else known.neighbours.task
        found = learn(spec, runs, tasks=[task.name], truth=None, at=outside.now(), neighbours=beside)[task.name]
        if isinstance(found, UsageError):
            record = {"task": task.name, "error": found.message, "hint": found.hint}
            yield Step(number, "calibrate", found.message, record)
        else:
            yield Step(number, "calibrate", f"{task.name}: {found.text}", {"task": task.name} | found.record())


def _patiently(act: Callable[[], Done], options: LoopOptions, outside: Outside) -> Done:
    """Label Studio may be away as long as people may take: where nobody watches, a restart of it ends nothing."""
    begun = outside.elapsed()
    while True:
        try:
            return act()
        except LabelStudioError as error:
            if not _is_away(error) or outside.elapsed() - begun >= options.wait_s:
                raise
            outside.listener(Note(f"{error.message}; again in {POLL_S:.0f} s", warning=True))
            outside.sleep(POLL_S)


def _is_away(error: WinnowError) -> bool:
    return isinstance(error, LabelStudioError) and not isinstance(error, LabelStudioRefused)


def _places(path: Path) -> tuple[ResolvedSpec, Runs, Ledger]:
    spec = resolve_spec(load_spec(path))
    return spec, Runs(open_store(parse(spec.output))), ledger_of(spec.ledger)
