"""A shard that many drivers died at, with an image that ends its process: the next driver still gets to its end."""

from pathlib import Path

import pytest

from tests.faults.arena import RUN_ID, Shape, arena_in
from tests.faults.poison import Harm
from tests.faults.tally import save_numbered
from tests.faults.verdict import rows_in
from winnow_jobs.retry import DEATHS_BEFORE_STOP
from winnow_storage.ledger import open_ledger
from winnow_storage.uri import parse


@pytest.mark.long
def test_run__is_not_stopped_by_what_earlier_drivers_died_of(tmp_path: Path) -> None:
    for number in range(4):
        save_numbered(tmp_path / "corpus", number, Harm.SEGFAULT if number == 1 else None)
    shape = Shape(items=4, shard_items=2, actors=1, item_s=0.0, sync_s=0.0, poison=True)
    with arena_in(tmp_path / "run", tmp_path / "corpus", shape) as arena:
        with open_ledger(arena.ledger.url) as ledger:
            for _ in range(DEATHS_BEFORE_STOP):
                ledger.begin_attempts(parse(str(arena.out)).uri, RUN_ID, [0])
        driver = arena.start()
        assert driver.process.wait(120) == 3, driver.said
        outcomes = rows_in(arena.out)["outcome"].to_pylist()
    assert outcomes == ["done", "failed", "done", "done"]
    assert "shard 0: 2 attempts did not end; image by image" in driver.said
    assert "died" not in driver.said
