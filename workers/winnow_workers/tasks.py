"""How do images go through the tasks of a run? One task after the other; with an accelerator all are begun with first.

Heads, which see vectors instead of pixels, come after all others: what they are given is what another task said just
now, as its row will hold it, or what is stored.

An accelerator that is waited for before it is given its next work stands still meanwhile. So every task of a chunk is
begun with before the first is waited for, and the next chunk before the first answer of this one is read. What is said
by then and was not read yet waits on the host, within `AHEAD_BYTES`.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from winnow_workers.fetch import Fetched
from winnow_workers.frontier import Begun, IsolatingRunner, TaskFailure
from winnow_workers.operator import NO_PIXELS, VECTOR_FIELD, Prediction, Vector, View
from winnow_workers.quarantine import DECODE

AHEAD_BYTES = 256 * 2**20  # beyond that a task's batches wait for their turn
NOTHING: Mapping[str, str] = MappingProxyType({})

Runners = Mapping[str, IsolatingRunner]
Said = dict[str, Prediction | TaskFailure]  # of one image, by task


@dataclass(slots=True)
class Stages:
    """Seconds that a shard spent waiting for images, in each task, and in writing."""

    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class _Underway:
    """A chunk that was begun with: of every task the places of its views in the chunk, and its batches."""

    chunk: Sequence[Fetched]
    begun: Mapping[str, tuple[Sequence[int], Begun]]

    @property
    def held_bytes(self) -> int:
        return sum(begun.held_bytes for _, begun in self.begun.values())


def through_tasks(
    runners: Runners, chunks: Iterable[Sequence[Fetched]], stages: Stages
) -> Iterator[tuple[Sequence[Fetched], list[Said]]]:
    """Each chunk with what the tasks say of its images."""
    for chunk in chunks:
        yield chunk, in_turn(runners, chunk, stages)


def through_tasks_ahead(
    runners: Runners, chunks: Iterable[Sequence[Fetched]], stages: Stages
) -> Iterator[tuple[Sequence[Fetched], list[Said]]]:
    """The same, each while the next one is under way."""
    before: _Underway | None = None
    for chunk in chunks:
        held_bytes = 0 if before is None else before.held_bytes
        underway = _begin(runners, chunk, stages, most_bytes=AHEAD_BYTES - held_bytes)
        if before is not None:
            yield before.chunk, _end(runners, before, stages)
        before = underway
    if before is not None:
        yield before.chunk, _end(runners, before, stages)


def in_turn(
    runners: Runners, chunk: Sequence[Fetched], stages: Stages, without: Mapping[str, str] = NOTHING
) -> list[Said]:
    """What one task after the other says of each image.

    `without` holds the stages that are not to be entered, each with why: that is what its task says.
    """
    said: list[Said] = [{} for _ in chunk]
    for name, runner in runners.items():
        if (how := without.get(name, without.get(DECODE))) is not None:
            for answers, one in zip(said, chunk, strict=True):
                if name in one.item.tasks and one.copied is None:
                    answers[name] = TaskFailure(how)
            continue
        places, views = _views(chunk, name)
        if not views:
            continue
        start = time.perf_counter()
        answered = runner.run(views)
        stages.add(name, time.perf_counter() - start)
        for place, answer in zip(places, answered, strict=True):
            said[place][name] = answer
    return said


def with_heads(
    heads: Runners, chunk: Sequence[Fetched], said: list[Said], stages: Stages, without: Mapping[str, str] = NOTHING
) -> list[Said]:
    """What the tasks said of each image, with what heads say of their vectors; `without` as in `in_turn`."""
    for name, head in heads.items():
        source = head.operator.vectors_of or ""
        places: list[int] = []
        views: list[View] = []
        for place, one in enumerate(chunk):
            if name not in one.item.tasks or one.copied is not None:
                continue
            given = TaskFailure(without[name]) if name in without else _vector_of(one, said[place], source)
            if isinstance(given, TaskFailure):
                said[place][name] = given
            elif given is not None:
                places.append(place)
                views.append(View(NO_PIXELS, 0, 0, given))
        if views:
            start = time.perf_counter()
            answered = head.run(views)
            stages.add(name, time.perf_counter() - start)
            for place, answer in zip(places, answered, strict=True):
                said[place][name] = answer
    return said


def _vector_of(one: Fetched, said: Said, source: str) -> Vector | TaskFailure | None:
    """What a head is given of an image; None if the image ended before its tasks."""
    if one.stored is not None:
        return one.stored.vectors[source]
    answer = said.get(source)
    if isinstance(answer, TaskFailure):
        return TaskFailure(f"{source} made no vector: {answer.error}")
    return None if answer is None else np.asarray(answer.fields[VECTOR_FIELD])


def _begin(runners: Runners, chunk: Sequence[Fetched], stages: Stages, *, most_bytes: int) -> _Underway:
    begun: dict[str, tuple[Sequence[int], Begun]] = {}
    for name, runner in runners.items():
        places, views = _views(chunk, name)
        if not views:
            continue
        start = time.perf_counter()
        begun[name] = (places, runner.begin(views, most_bytes=most_bytes))
        most_bytes -= begun[name][1].held_bytes
        stages.add(name, time.perf_counter() - start)
    return _Underway(chunk, begun)


def _end(runners: Runners, underway: _Underway, stages: Stages) -> list[Said]:
    said: list[Said] = [{} for _ in underway.chunk]
    for name, (places, begun) in underway.begun.items():
        start = time.perf_counter()
        answered = runners[name].end(begun)
        stages.add(name, time.perf_counter() - start)
        for place, answer in zip(places, answered, strict=True):
            said[place][name] = answer
    return said


def _views(chunk: Sequence[Fetched], task: str) -> tuple[list[int], list[View]]:
    """The views of a chunk that a task is due for, and where they are in it."""
    chosen = [
        (place, View(one.decoded.pixels, one.decoded.width_px, one.decoded.height_px))
        for place, one in enumerate(chunk)
        if one.decoded is not None and task in one.item.tasks
    ]
    return [place for place, _ in chosen], [view for _, view in chosen]
