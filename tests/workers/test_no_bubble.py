"""No bubble between shards: while the models run on one, the next is fetched, and the one before is made rows and put.

Everything waits for what must happen at the same time; what could only come after it would never come.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.blobs import Blob
from winnow_storage.local_store import LocalStore
from winnow_workers import pipeline as module
from winnow_workers.fetch import Fetched
from winnow_workers.operator import Prediction, View
from winnow_workers.operators.embed import EmbedOperator

DEADLINE_S = 10.0
KEYS = ("0.png", "1.png", "2.png")  # a shard each


class Moment(threading.Event):
    """Something that happens."""

    def needed(self) -> None:
        """Wait for it."""
        if not self.wait(DEADLINE_S):
            raise TimeoutError("it did not happen meanwhile")


def meanwhile(begun: Moment, *others: Moment) -> None:
    """Begin, and let the others happen."""
    begun.set()
    for moment in others:
        moment.needed()


def test_run_shard__models_of_one_rows_of_another_and_fetching_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_image(tmp_path / "corpus" / name, seed=1, size=(30 + at, 30)) for at, name in enumerate(KEYS)]
    pipeline = pipeline_over(make_work(tmp_path, paths, shard_items=1, tasks=[["first"]] * 3), tasks=("first",))
    predicted, at_models, at_rows, at_put, at_fetch = (Moment() for _ in range(5))
    run, build_row, put, read = EmbedOperator.run, module.build_row, LocalStore.put_if_absent, LocalStore.read_bulk

    def running(self: EmbedOperator, views: Sequence[View]) -> list[Prediction]:
        match views[0].width_px:
            case 30:
                predicted.set()
            case 31:
                meanwhile(at_models, at_rows, at_put, at_fetch)
        return run(self, views)

    def building(fetched: Fetched, answers: Mapping[str, Prediction], **more: object) -> dict[str, object]:
        if fetched.item.key == KEYS[0]:
            at_models.needed()
            at_rows.set()
        return build_row(fetched, answers, **more)  # type: ignore[arg-type]

    def putting(self: LocalStore, key: str, data: bytes) -> bool:
        if key.endswith("00000000.parquet"):
            at_put.set()
        return put(self, key, data)

    def reading(self: LocalStore, key: str) -> Blob:
        if key.endswith(KEYS[2]):
            at_fetch.set()
        return read(self, key)

    monkeypatch.setattr(EmbedOperator, "run", running)
    monkeypatch.setattr(module, "build_row", building)
    monkeypatch.setattr(LocalStore, "put_if_absent", putting)
    monkeypatch.setattr(LocalStore, "read_bulk", reading)
    with ThreadPoolExecutor(len(KEYS)) as pool:
        first = pool.submit(pipeline.run_shard, 0)
        predicted.needed()
        second = pool.submit(pipeline.run_shard, 1)
        at_models.needed()
        third = pool.submit(pipeline.run_shard, 2)
        assert [one.result().outcomes for one in (first, second, third)] == [{"done": 1}] * 3
    assert pq.read_table(tmp_path / "out/runs/0001/results").num_rows == 3
