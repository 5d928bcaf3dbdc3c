"""A shard whose images end their process: everyone else has a row, and the guilty have one that says why."""

import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.poison import Harm, save_poison
from tests.faults.processes import is_alive
from tests.jobs.sleepy import save_sleepy
from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.errors import StoreDenied
from winnow_workers.children import rows_one_by_one
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import WorkerConfig
from winnow_workers.quarantine import ALONE_DEATHS

DEADLINE_S = 3.0
ENTERED_TASK = 3  # what a child says first: that it fetches, decodes, and gives the image to its only task
HARMS = {  # what an image does, and what its row then says
    Harm.RAISE: "ValueError: this image is cursed",
    Harm.SEGFAULT: "crashed: SIGSEGV",
    Harm.HANG: "hung: no answer within 3 s",
    Harm.HANG_WITH_THE_LOCK: "hung: no answer within 3 s",
    Harm.MEMORY: "MemoryError",
    Harm.ABORT: "crashed: SIGABRT",
    Harm.EXIT: "crashed: exit 0",
}


@pytest.fixture
def _nothing_dumped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONFAULTHANDLER", "")  # a segmentation fault that is wanted needs no stack


POISONED = (
    TaskConfig("vector", "embed", resolve_model("builtin/fingerprint"), {}),
    TaskConfig("poison", "tests.faults.poison:PoisonOperator", resolve_model("builtin/fingerprint"), {}),
)


def config_over(folder: Path, paths: list[Path], tasks: tuple[TaskConfig, ...] = POISONED) -> WorkerConfig:
    work = make_work(folder, paths, tasks=[[task.name for task in tasks]] * len(paths))
    return replace(pipeline_over(work).config, tasks=tasks, item_deadline_s=DEADLINE_S, item_memory_bytes=2**29)


@pytest.mark.usefixtures("_nothing_dumped")
def test_rows_one_by_one__exactly_the_guilty_fail_with_their_reason(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"corpus/{n:02d}.png", seed=n) for n in range(10)]
    guilty = {f"9{int(harm)}.png": reason for harm, reason in HARMS.items()}
    paths += [save_poison(tmp_path / f"corpus/9{int(harm)}.png", harm) for harm in HARMS]
    paths.append(tmp_path / "corpus/gone.png")
    config = config_over(tmp_path, paths)
    from winnow_workers.pipeline import Pipeline

    batches = rows_one_by_one(config, 0, Pipeline(config).items(0))
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert [row["key"] for row in rows] == [path.name for path in paths]
    for row in rows:
        if row["key"] in guilty:
            assert (row["outcome"], row["failed_tasks"]) == ("failed", ["poison"]), row
            assert guilty[row["key"]] in row["poison"]["error"]
            assert row["vector"]["error"] is None
            assert row["vector"]["model"] == config.tasks[0].model.digest
        else:
            assert row["outcome"] == ("missing" if row["key"] == "gone.png" else "done"), row


def test_rows_one_by_one__a_store_that_refuses_us_is_nobodys_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    config = config_over(tmp_path, [save_image(tmp_path / "corpus/0.png", seed=0)])
    from winnow_workers.pipeline import Pipeline

    (item,) = Pipeline(config).items(0)
    with pytest.raises(StoreDenied):
        rows_one_by_one(config, 0, [replace(item, uri="s3://a-bucket/0.png")])


def test_rows_one_by_one__children_that_are_stopped_accuse_nobody(tmp_path: Path) -> None:
    slow = TaskConfig(
        "slow", "tests.jobs.sleepy:SleepyOperator", resolve_model("builtin/fingerprint"), {"log": str(tmp_path / "log")}
    )
    path = save_sleepy(tmp_path / "corpus/0.png", ticks=5)
    config = replace(config_over(tmp_path, [path], (slow,)), item_deadline_s=1.5)
    from winnow_workers.pipeline import Pipeline

    told: Counter[int] = Counter()  # by child

    def step() -> None:
        for child in multiprocessing.active_children():
            pid = child.pid or 0
            told[pid] += 1
            if told[pid] == ENTERED_TASK and len(told) <= ALONE_DEATHS:  # for half a second it is in there
                os.kill(pid, signal.SIGSTOP)

    (row,) = rows_one_by_one(config, 0, Pipeline(config).items(0), step)[0].to_pylist()
    assert (row["outcome"], row["failed_tasks"], row["slow"]["seconds"]) == ("done", [], 0.5)
    assert len(told) == ALONE_DEATHS + 1
    assert not any(map(is_alive, told))
