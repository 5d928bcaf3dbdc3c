"""Are all tasks of a chunk begun with before the first is waited for, within memory, and with the rows of before?"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.errors import ModelError
from winnow_workers import tasks
from winnow_workers.operator import Pending, Prediction, View
from winnow_workers.operators.embed import EmbedOperator
from winnow_workers.pipeline import Pipeline

HELD_BYTES = 1000  # of what a batch of the fake device says
BATCH = 4


class Device:
    """In place of an accelerator: what the embedders were begun with and waited for, in order; `cursed` breaks it."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str, int]] = []  # what, the task, the first view's width
        self.names: dict[int, str] = {}
        self.cursed = -1
        self.breaks_at = "end"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Embedders that say when they are begun with, in batches of four."""
    device = Device()
    plain = EmbedOperator.run

    def check(operator: EmbedOperator, views: Sequence[View], at: str) -> None:
        name = device.names[id(operator)]
        if at == device.breaks_at and name == "second" and device.cursed in [view.width_px for view in views]:
            raise ValueError("cursed")

    def run(operator: EmbedOperator, views: Sequence[View]) -> list[Prediction]:
        device.log.append(("run", device.names[id(operator)], views[0].width_px))
        check(operator, views, device.breaks_at)
        return plain(operator, views)

    def begin(operator: EmbedOperator, views: Sequence[View]) -> Pending:
        name = device.names[id(operator)]
        device.log.append(("begin", name, views[0].width_px))
        check(operator, views, "begin")

        def collect() -> list[Prediction]:
            device.log.append(("end", name, views[0].width_px))
            check(operator, views, "end")
            return plain(operator, views)

        return Pending(collect, HELD_BYTES)

    monkeypatch.setattr(EmbedOperator, "run", run)
    monkeypatch.setattr(EmbedOperator, "begin", begin)
    monkeypatch.setattr(EmbedOperator, "batch_size", property(lambda self: BATCH))
    monkeypatch.setattr("winnow_workers.pipeline.CHUNK_ITEMS", BATCH)
    return device


def over(folder: Path, device: Device, *, images: int, on: str = "cuda", alone: bool = False) -> Pipeline:
    """A pipeline of two tasks over images that are 20, 21, ... px wide."""
    paths = [save_image(folder / f"corpus/{n:02d}.png", seed=n, size=(20 + n, 15)) for n in range(images)]
    before = pipeline_over(make_work(folder, paths))
    pipeline = Pipeline(replace(before.config, device=on), alone=alone)
    pipeline.open()
    device.names = {id(operator): name for name, operator in pipeline.operators.items()}
    return pipeline


def rows(folder: Path) -> pa.Table:
    return pq.read_table(folder / "out/runs/0001/results")


def test_run_shard__the_next_chunk_is_begun_with_before_this_one_is_read(tmp_path: Path, device: Device) -> None:
    over(tmp_path, device, images=10).run_shard(0)
    assert device.log == [
        ("begin", "first", 20),
        ("begin", "second", 20),
        ("begin", "first", 24),
        ("begin", "second", 24),
        ("end", "first", 20),
        ("end", "second", 20),
        ("begin", "first", 28),
        ("begin", "second", 28),
        ("end", "first", 24),
        ("end", "second", 24),
        ("end", "first", 28),
        ("end", "second", 28),
    ]


def test_run_shard__on_a_cpu_one_after_the_other(tmp_path: Path, device: Device) -> None:
    over(tmp_path, device, images=6, on="cpu").run_shard(0)
    assert device.log == [(("run"), name, width) for width in (20, 24) for name in ("first", "second")]


def test_run_shard__an_image_alone_goes_from_task_to_task(tmp_path: Path, device: Device) -> None:
    """It must be known which of them ended the process."""
    pipeline = over(tmp_path, device, images=1, alone=True)
    pipeline.row_alone(pipeline.items(0)[0], 0, {})
    assert device.log == [("run", "first", 20), ("run", "second", 20)]


def test_run_shard__the_same_rows_as_on_a_cpu(tmp_path: Path, device: Device) -> None:
    for on in ("cpu", "cuda"):
        over(tmp_path / on, device, images=10, on=on).run_shard(0)
    left_out = ["uri", "version"]  # a file has its own place and time
    assert rows(tmp_path / "cpu").drop_columns(left_out).equals(rows(tmp_path / "cuda").drop_columns(left_out))


def test_run_shard__what_is_said_ahead_is_bounded(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for one batch's answers no second is begun with until they are read."""
    monkeypatch.setattr(tasks, "AHEAD_BYTES", HELD_BYTES)
    receipt = over(tmp_path, device, images=10).run_shard(0)
    assert receipt.predictions == {"first": 10, "second": 10}
    held = most = 0
    for what, _, _ in device.log:
        held += {"begin": 1, "end": -1, "run": 0}[what]
        most = max(most, held)
    assert most == 1
    assert ("run", "second", 20) in device.log  # its turn came without a beginning


@pytest.mark.parametrize("breaks_at", ["begin", "end"])
def test_run_shard__one_task_that_fails_is_bisected(tmp_path: Path, device: Device, breaks_at: str) -> None:
    device.cursed, device.breaks_at = 26, breaks_at
    receipt = over(tmp_path, device, images=10).run_shard(0)
    assert (receipt.outcomes, receipt.errors) == ({"done": 9, "failed": 1}, {"first": 0, "second": 1})
    (failed,) = [row for row in rows(tmp_path).to_pylist() if row["outcome"] == "failed"]
    assert (failed["key"], failed["failed_tasks"]) == ("06.png", ["second"])
    assert failed["reason"] == "second: ValueError: cursed"
    assert failed["first"]["vector"] is not None
    # first two of the second chunk, then the pair with the cursed one, then each of that
    assert [width for what, _, width in device.log if what == "run"][-4:] == [24, 26, 26, 27]


def test_run_shard__what_is_about_the_environment_ends_the_shard(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(operator: EmbedOperator, views: Sequence[View]) -> Pending:
        raise ModelError("the weights went away")

    pipeline = over(tmp_path, device, images=3)
    monkeypatch.setattr(EmbedOperator, "begin", begin)
    with pytest.raises(ModelError, match="went away"):
        pipeline.run_shard(0)


def test_run_shard__a_chunk_is_as_large_as_the_largest_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of 64 that is given 32 images would waste half of the accelerator."""
    sizes: list[int] = []
    plain = EmbedOperator.begin

    def begin(operator: EmbedOperator, views: Sequence[View]) -> Pending:
        sizes.append(len(views))
        return plain(operator, views)

    monkeypatch.setattr(EmbedOperator, "begin", begin)
    monkeypatch.setattr(EmbedOperator, "batch_size", property(lambda self: 64))
    over(tmp_path, Device(), images=70).run_shard(0)
    assert sizes == [64, 64, 6, 6]
