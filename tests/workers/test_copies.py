"""Copies in a pipeline without Ray: what is proved to be the same bytes takes over its leader's row, nothing else."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.parts import WorkPart
from winnow_storage.schemas import WORK
from winnow_workers.children import rows_one_by_one
from winnow_workers.operator import Prediction, View
from winnow_workers.operators.embed import EmbedOperator
from winnow_workers.pipeline import Pipeline

Place = dict[str, Any]
RESULTS = "out/runs/0001/results"


def at(shard: int, row: int) -> Place:
    return {"run_id": "0001", "shard": shard, "row": row}


def pipeline_with(
    folder: Path,
    paths: Sequence[Path],
    leaders: Mapping[int, Place],
    *,
    tasks: Sequence[Sequence[str]] | None = None,
    shard_items: int = 4,
) -> Pipeline:
    """A pipeline over these files; `leaders` says of which numbers a plan expects that they are copies, and of what."""
    work = make_work(folder, paths, tasks=tasks, shard_items=shard_items)
    (part,) = work.parts
    place = work.output / part.key
    rows = pq.read_table(place).to_pylist()
    for number, leader in leaders.items():
        rows[number]["leader"] = leader
    pq.write_table(pa.Table.from_pylist(rows, schema=WORK), place, row_group_size=shard_items)
    changed = WorkPart(part.key, place.stat().st_size, part.rows, part.first_shard, part.shards)
    return pipeline_over(type(work)(work.output, (changed,)))


def results(folder: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / RESULTS).to_pylist())


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """How often an image of which size was predicted, by any task."""
    seen: Counter[tuple[int, int]] = Counter()
    plain = EmbedOperator.run

    def counting(self: EmbedOperator, views: Sequence[View]) -> list[Prediction]:
        seen.update((view.width_px, view.height_px) for view in views)
        return plain(self, views)

    monkeypatch.setattr(EmbedOperator, "run", counting)
    return seen


def images(folder: Path) -> list[Path]:
    """Four images of different sizes, then a copy of each but the last, and one of the same size as that."""
    paths = [save_image(folder / f"corpus/{n}.png", seed=n, size=(20 + n, 30)) for n in range(4)]
    for number in range(3):
        path = folder / f"corpus/{4 + number}.png"
        path.write_bytes(paths[number].read_bytes())
        paths.append(path)
    paths.append(save_image(folder / "corpus/7.png", seed=99, size=(23, 30)))
    return paths


def test_run_shard__a_copy_takes_over_its_leaders_row(tmp_path: Path, predicted: Counter[tuple[int, int]]) -> None:
    paths = images(tmp_path)
    pipeline = pipeline_with(tmp_path, paths, {4: at(0, 0), 5: at(0, 1), 6: at(0, 2), 7: at(0, 3)})
    first, second = pipeline.run_shard(0), pipeline.run_shard(1)
    assert predicted == {(20, 30): 2, (21, 30): 2, (22, 30): 2, (23, 30): 4}  # two tasks; the last is no copy
    assert (first.copied, second.copied) == (0, 3)
    assert second.predictions == {"first": 4, "second": 4}
    rows = results(tmp_path)
    assert [row["copied_from"] for row in rows] == [None] * 4 + [row["item_id"] for row in rows[:3]] + [None]

    plain = tmp_path / "plain"
    pipeline = pipeline_over(make_work(plain, paths, shard_items=4))
    pipeline.run_shard(0), pipeline.run_shard(1)
    assert [row | {"copied_from": None} for row in rows] == results(plain)


def test_run_shard__a_leader_that_will_not_do_is_no_leader(
    tmp_path: Path, predicted: Counter[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path)
    tasks = [["first"], *[["first", "second"]] * 3, *[["first", "second"]] * 4]
    leaders = {4: at(0, 0), 5: at(0, 9), 6: at(7, 2), 7: {"run_id": "0009", "shard": 0, "row": 0}}
    pipeline = pipeline_with(tmp_path, paths, leaders, tasks=tasks)
    pipeline.run_shard(0)
    predicted.clear()
    receipt = pipeline.run_shard(1)
    assert (receipt.copied, receipt.outcomes) == (0, {"done": 4})
    assert sum(predicted.values()) == 8


def test_run_shard__of_a_failed_leader_only_what_it_has_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path)
    tasks = [["first", "second"]] * 5 + [["first"]] * 3
    pipeline = pipeline_with(tmp_path, paths, {4: at(0, 0), 5: at(0, 1)}, tasks=tasks)
    plain, second = EmbedOperator.run, pipeline.operators["second"]

    def failing(self: EmbedOperator, views: Sequence[View]) -> list[Prediction]:
        if self is second and any(view.width_px < 22 for view in views):
            raise ValueError("no")
        return plain(self, views)

    monkeypatch.setattr(EmbedOperator, "run", failing)
    pipeline.run_shard(0)
    pipeline.run_shard(1)
    rows = results(tmp_path)
    assert [row["outcome"] for row in rows] == ["failed"] * 2 + ["done"] * 2 + ["failed"] + ["done"] * 3
    assert [row["copied_from"] is not None for row in rows[4:]] == [False, True, False, False]
    assert (rows[5]["first"], rows[5]["second"]) == (rows[1]["first"], None)


def test_run_shard__what_cannot_be_fetched_is_no_copy(tmp_path: Path) -> None:
    paths = images(tmp_path)
    pipeline = pipeline_with(tmp_path, paths, {4: at(0, 0), 5: at(0, 1)})
    pipeline.run_shard(0)
    paths[4].unlink()
    paths[5].write_bytes(b"not an image")
    pipeline.run_shard(1)
    rows = results(tmp_path)
    assert [row["outcome"] for row in rows[4:]] == ["missing", "unreadable", "done", "done"]
    assert {row["copied_from"] for row in rows} == {None}


def test_rows_one_by_one__children_copy_as_well(tmp_path: Path) -> None:
    paths = images(tmp_path)
    pipeline = pipeline_with(tmp_path, paths, {4: at(0, 0), 5: at(0, 1), 7: at(0, 3)})
    pipeline.run_shard(0)
    careful = rows_one_by_one(pipeline.config, 1, pipeline.items(1))
    pipeline.run_shard(1)
    rows = [row for batch in careful for row in batch.to_pylist()]
    assert rows == results(tmp_path)[4:]
    assert [row["copied_from"] is not None for row in rows] == [True, True, False, False]
