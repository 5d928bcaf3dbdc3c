"""An actor that stands still for longer than an image may take, and goes on: nothing is said of the image it was at."""

import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.arena import Arena, Shape, arena_in, corpus_in
from tests.faults.processes import actors_of, freeze, send
from tests.faults.verdict import rows_in

SHAPE = Shape(items=48, shard_items=8, actors=1, item_s=0.1, sync_s=0.0, item_deadline_s=1.0, shard_deadline_s=600.0)
START_S, END_S = 60.0, 120.0


@pytest.mark.long
def test_run__an_actor_that_stood_still_past_an_images_deadline(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path / "corpus", SHAPE.items)
    with arena_in(tmp_path / "run", corpus, SHAPE) as arena:
        driver = arena.start()
        wait_for_predictions(arena, SHAPE.shard_items + 2)
        (actor,) = actors_of(driver.pid)
        assert freeze(actor)
        arena.log.read()
        assert arena.log.lines < SHAPE.items  # in the middle of work
        time.sleep(3 * SHAPE.item_deadline_s)
        send(actor, signal.SIGCONT)
        assert driver.process.wait(END_S) == 0, driver.last_words
        rows = rows_in(arena.out)
    assert Counter(rows["outcome"].to_pylist()) == {"done": SHAPE.items}
    assert len(set(rows["key"].to_pylist())) == SHAPE.items
    assert "image by image" in driver.said  # it ended itself, as if it had hung, and its shard was looked into


def wait_for_predictions(arena: Arena, count: int) -> None:
    end = time.monotonic() + START_S
    while arena.log.lines < count:
        assert time.monotonic() < end, arena.drivers[-1].said
        time.sleep(0.01)
        arena.log.read()
