"""How is the pipeline run without Ray? As an actor does it, two shards at a time, in this process."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tests.workers.pipelines import Work, make_work
from winnow_storage.shards import Receipt
from winnow_workers.actor import SHARDS_AT_ONCE
from winnow_workers.allocator import keep_freed_memory
from winnow_workers.decode import DecodeLimits
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import Pipeline, WorkerConfig

RANDOM = {"random": 1}
FIVE_TASKS = (
    TaskConfig("kind", "classify", resolve_model("torchvision/mobilenet_v3_small", RANDOM)),
    TaskConfig("text", "ocr", resolve_model("builtin/rapidocr")),
    TaskConfig("parts", "segment", resolve_model("builtin/small_unet", RANDOM), {"labels": ["ground", "thing"]}),
    TaskConfig("defect", "anomaly", resolve_model("builtin/patch_features", RANDOM)),
    TaskConfig("vector", "embed", resolve_model("torchvision/resnet18", RANDOM)),
)


def open_pipeline(
    folder: Path, paths: Sequence[Path], tasks: Sequence[TaskConfig], *, shard_items: int, device: str, threads: int = 1
) -> tuple[Pipeline, int]:
    """A pipeline with its models loaded, and how many shards there are; `folder` must be empty."""
    work: Work = make_work(folder, paths, tasks=[[task.name for task in tasks]] * len(paths), shard_items=shard_items)
    config = WorkerConfig(
        job="benchmark",
        run_id="0001",
        plan_digest="0" * 64,
        output=str(work.output),
        work=work.parts,
        code_version="0",
        tasks=tuple(tasks),
        limits=DecodeLimits(),
        device=device,
        threads=threads,
    )
    keep_freed_memory()
    pipeline = Pipeline(config)
    pipeline.open()
    return pipeline, work.parts[0].shards


def run_shards(
    pipeline: Pipeline,
    shards: int,
    after: Callable[[Receipt], None] = lambda _: None,
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> float:
    """The seconds that all shards took; `after` is told each receipt, every shard is run inside `within()`.

    Raises:
        SystemExit: an image did not end `done`.
    """

    def run(shard: int) -> Receipt:
        with within():
            return pipeline.run_shard(shard)

    start = time.perf_counter()
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        for receipt in pool.map(run, range(shards)):
            if receipt.outcomes.get("done", 0) != sum(receipt.outcomes.values()):
                raise SystemExit(f"shard {receipt.shard}: {receipt.outcomes}, {receipt.faults}")
            after(receipt)
    return time.perf_counter() - start
