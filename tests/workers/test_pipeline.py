"""The pipeline without Ray: one row per item whatever becomes of it, one decode for all tasks, adopted commits."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.workers.pipelines import make_work, pipeline_over, save_image
from winnow_storage.errors import RunFailed
from winnow_workers import ahead, fetch
from winnow_workers.operator import Prediction, View
from winnow_workers.operators.embed import EmbedOperator
from winnow_workers.pipeline import COMMIT, WAIT, Pipeline
from winnow_workers.quarantine import FETCH


def test_run_shard__one_row_per_item_with_one_outcome(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    good = [save_image(corpus / f"good {n} é.png", seed=n) for n in range(3)]
    (corpus / "empty.jpg").write_bytes(b"")
    (corpus / "text.jpg").write_text("not an image")
    (corpus / "huge.png").write_bytes(good[0].read_bytes() + b"\0" * 100_000)
    gone = corpus / "gone.png"
    paths = [*good, corpus / "empty.jpg", corpus / "text.jpg", corpus / "huge.png", gone]
    pipeline = pipeline_over(make_work(tmp_path, paths), max_bytes=50_000)
    receipt = pipeline.run_shard(0)
    rows = pq.read_table(tmp_path / "out/runs/0001/results").to_pylist()
    assert Counter(row["outcome"] for row in rows) == {"done": 3, "unreadable": 2, "missing": 1, "rejected": 1}
    assert [row["uri"] for row in rows] == [path.as_uri() for path in paths]
    assert receipt.outcomes == {"done": 3, "missing": 1, "rejected": 1, "unreadable": 2}
    assert receipt.predictions == {"first": 3, "second": 3}
    for row in rows:
        assert (row["reason"] is None) == (row["outcome"] == "done")
        assert (row["first"] is None) == (row["outcome"] != "done")
        assert row["failed_tasks"] == []
    assert rows[0]["first"]["model"] == "builtin:fingerprint"
    assert (rows[0]["width"], rows[0]["height"]) == (40, 30)


def test_run_shard__one_fetch_and_one_decode_for_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(4)]
    calls: Counter[str] = Counter()
    plain = fetch.decode

    def counting(data: bytes, **options: object) -> fetch.Decoded:
        calls[fetch.digest_bytes(data)] += 1
        return plain(data, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(fetch, "decode", counting)
    pipeline_over(make_work(tmp_path, paths)).run_shard(0)
    assert len(calls) == 4
    assert set(calls.values()) == {1}


def test_run_shard__an_item_runs_only_the_tasks_that_are_due(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(2)]
    work = make_work(tmp_path, paths, tasks=[["first"], ["first", "second"]])
    receipt = pipeline_over(work).run_shard(0)
    rows = pq.read_table(tmp_path / "out/runs/0001/results").to_pylist()
    assert [row["second"] is None for row in rows] == [True, False]
    assert [row["outcome"] for row in rows] == ["done", "done"]
    assert receipt.predictions == {"first": 2, "second": 1}


def test_run_shard__a_failing_item_keeps_its_other_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(9)]
    save_image(paths[4], seed=4, size=(77, 30))
    plain = EmbedOperator.run
    pipeline = pipeline_over(make_work(tmp_path, paths))
    second = pipeline.operators["second"]

    def failing(self: EmbedOperator, views: Sequence[View]) -> list[Prediction]:
        if self is second and any(view.width_px == 77 for view in views):
            raise ValueError("this width is cursed\nand more")
        return plain(self, views)

    monkeypatch.setattr(EmbedOperator, "run", failing)
    receipt = pipeline.run_shard(0)
    rows = pq.read_table(tmp_path / "out/runs/0001/results").to_pylist()
    assert [row["outcome"] for row in rows] == ["done"] * 4 + ["failed"] + ["done"] * 4
    failed = rows[4]
    assert failed["failed_tasks"] == ["second"]
    assert failed["reason"] == "second: ValueError: this width is cursed"
    assert failed["second"]["error"] == "ValueError: this width is cursed"
    assert failed["first"]["error"] is None
    assert failed["first"]["vector"] is not None
    assert (receipt.errors["second"], receipt.predictions["second"]) == (1, 8)


def test_run_shard__running_out_of_memory_halves_the_batch_and_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(16)]
    plain = EmbedOperator.run
    sizes: list[int] = []

    def hungry(self: EmbedOperator, views: Sequence[View]) -> list[Prediction]:
        sizes.append(len(views))
        if len(views) > 4:
            raise MemoryError
        return plain(self, views)

    monkeypatch.setattr(EmbedOperator, "run", hungry)
    monkeypatch.setattr(EmbedOperator, "batch_size", property(lambda self: 16))
    receipt = pipeline_over(make_work(tmp_path, paths), tasks=("first",)).run_shard(0)
    assert receipt.outcomes == {"done": 16}
    assert sizes == [16, 8, 4, 4, 8, 4, 4]


def test_run_shard__an_operator_that_loses_an_image_is_a_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(2)]
    monkeypatch.setattr(EmbedOperator, "run", lambda self, views: [])
    with pytest.raises(RunFailed, match="gave 0 predictions for 2 images"):
        pipeline_over(make_work(tmp_path, paths)).run_shard(0)
    assert not (tmp_path / "out/runs/0001/results").exists()


def test_run_shard__a_second_writer_adopts_the_first_commit(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(3)]
    work = make_work(tmp_path, paths)
    first = pipeline_over(work).run_shard(0)
    second = pipeline_over(work).run_shard(0)
    assert second == first
    assert len(list((tmp_path / "out/runs/0001/results").iterdir())) == 1


def test_run_shard__rows_do_not_depend_on_how_the_work_is_cut(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n, size=(20 + 7 * n, 31)) for n in range(10)]
    whole = make_work(tmp_path / "a", paths, shard_items=10)
    cut = make_work(tmp_path / "b", paths, shard_items=3)
    pipeline_over(whole).run_shard(0)
    pipeline = pipeline_over(cut)
    for shard in (2, 0, 3, 1):
        pipeline.run_shard(shard)

    def rows(folder: Path) -> pa.Table:
        table = pq.read_table(folder / "out/runs/0001/results").sort_by("key")
        return table.drop_columns(["shard"])

    assert rows(tmp_path / "a").equals(rows(tmp_path / "b"))


def test_run_shard__more_images_than_stand_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow_workers.pipeline.CHUNK_BYTES", 40 * 30 * 3 * 2)
    paths = [save_image(tmp_path / f"corpus/{n:02d}.png", seed=n) for n in range(7)]
    receipt = pipeline_over(make_work(tmp_path, paths)).run_shard(0)
    assert receipt.outcomes == {"done": 7}
    rows = pq.read_table(tmp_path / "out/runs/0001/results").to_pylist()
    assert [row["key"] for row in rows] == [path.name for path in paths]
    with Image.open(paths[0]) as image:
        assert (rows[0]["width"], rows[0]["height"]) == image.size


WITHOUT_TORCH = """
import sys
import winnow_jobs.cli, winnow_workers.actor, winnow_workers.children
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operators.embed import EmbedOperator, EmbedParams
operator = EmbedOperator(EmbedParams(), resolve_model("builtin/fingerprint"), "cpu")
operator.open()
assert "torch" not in sys.modules, "two seconds of every start"
"""


def test_open__a_task_without_a_network_imports_no_torch() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True)


@pytest.mark.parametrize("limit", ["max_requests_per_s", "max_bytes_per_s"])
def test_run_shard__is_as_slow_as_the_store_is_spared(tmp_path: Path, limit: str) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(6)]
    work = make_work(tmp_path, paths)
    amounts = [1.0 if limit == "max_requests_per_s" else float(path.stat().st_size) for path in paths]
    config = replace(pipeline_over(work).config, **{limit: sum(amounts[:-1])})  # all but the last in a second
    start = time.monotonic()  # what is not asked for while it opens may be asked for at once
    pipeline = Pipeline(config)
    pipeline.open()
    pipeline.run_shard(0)
    assert time.monotonic() - start >= 0.99


def test_run_shard__no_step_is_awaited_of_a_shard_that_waits_for_the_models(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"corpus/{n}.png", seed=n) for n in range(2)]
    work = make_work(tmp_path, paths, shard_items=1)
    entered: dict[int, list[str]] = {}  # by thread
    pipeline = Pipeline(
        pipeline_over(work).config, lambda stage: entered.setdefault(threading.get_ident(), []).append(stage)
    )
    pipeline.open()
    with ThreadPoolExecutor(1) as pool:
        with pipeline._models:  # as the thread has them that works on the shard before
            answer = pool.submit(pipeline.run_shard, 0)
            while not any(WAIT in stages for stages in entered.values()):
                time.sleep(0.01)
            time.sleep(0.1)
            assert list(entered.values()) == [[FETCH, WAIT]]
        assert answer.result().shard == 0
    assert list(entered.values()) == [[FETCH, WAIT, FETCH, "first", "second", COMMIT]]


def test_run_shard__an_image_that_comes_before_the_one_that_is_waited_for_is_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [save_image(tmp_path / f"corpus/{n:02d}.png", seed=n) for n in range(2 * ahead.GROUPS_LEAST)]  # by twos
    entered: list[str] = []
    is_step = threading.Event()

    def entering(stage: str) -> None:
        entered.append(stage)
        if entered == [FETCH, WAIT, FETCH, FETCH]:
            is_step.set()

    plain = fetch.Fetcher.bring

    def bring(fetcher: fetch.Fetcher, item: fetch.Item, *, needed_side_px: int | None) -> Callable[[], fetch.Fetched]:
        assert item.key != "01.png" or is_step.wait(10)
        return plain(fetcher, item, needed_side_px=needed_side_px)

    monkeypatch.setattr(ahead, "LOOK_S", 0.005)
    monkeypatch.setattr(fetch.Fetcher, "bring", bring)
    pipeline = Pipeline(pipeline_over(make_work(tmp_path, paths)).config, entering)
    pipeline.open()
    assert pipeline.run_shard(0).outcomes == {"done": len(paths)}


@pytest.mark.parametrize(("device", "calls"), [("cuda", 1), ("cpu", 0)])
def test_close__the_memory_of_a_device_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, calls: int
) -> None:
    """That it is called; what it frees shows on a GPU only."""
    import torch

    freed: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))
    work = make_work(tmp_path, [save_image(tmp_path / "corpus/0.png", seed=0)])
    pipeline = Pipeline(replace(pipeline_over(work).config, device=device))
    pipeline.open()
    pipeline.close()
    assert len(freed) == calls
