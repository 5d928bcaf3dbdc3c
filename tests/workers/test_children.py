"""A shard whose images end their process: everyone else has a row, and the guilty have one that says why."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.poison import Harm, save_poison
from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.errors import StoreDenied
from winnow_workers.children import rows_one_by_one
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import WorkerConfig

DEADLINE_S = 3.0
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


def config_over(folder: Path, paths: list[Path]) -> WorkerConfig:
    model = resolve_model("builtin/fingerprint")
    tasks = (
        TaskConfig("vector", "embed", model, {}),
        TaskConfig("poison", "tests.faults.poison:PoisonOperator", model, {}),
    )
    work = make_work(folder, paths, tasks=[["vector", "poison"]] * len(paths))
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
