"""A pipeline over a handful of images in a folder, with the weightless embedder twice as its tasks."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow_storage.ids import item_id
from winnow_storage.parts import WorkPart
from winnow_storage.schemas import WORK
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Item
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import Pipeline, WorkerConfig


@dataclass(frozen=True, slots=True)
class Work:
    output: Path
    parts: tuple[WorkPart, ...]


def save_image(path: Path, *, seed: int, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def make_work(
    folder: Path,
    paths: Sequence[Path],
    *,
    tasks: Sequence[Sequence[str]] | None = None,
    shard_items: int = 100,
    items: Sequence[Item] | None = None,
) -> Work:
    """Work over the files `paths`, or over `items` that were listed instead."""
    output = folder / "out"
    (output / "runs/0001").mkdir(parents=True)
    rows = [
        {
            "item_id": item_id("c", path.name),
            "key": path.name,
            "uri": path.as_uri(),
            "version": "v1",
            "bytes": path.stat().st_size if path.exists() else None,
            "shard": number // shard_items,
            "tasks": list(tasks[number]) if tasks is not None else ["first", "second"],
        }
        for number, path in enumerate(paths)
    ]
    if items is not None:
        rows = [
            {**asdict(item), "shard": at // shard_items, "tasks": ["first", "second"]} for at, item in enumerate(items)
        ]
    table = pa.Table.from_pylist(rows, schema=WORK)
    place = output / "runs/0001/work.parquet"
    pq.write_table(table, place, row_group_size=shard_items)
    shards = -(-len(rows) // shard_items)
    return Work(output, (WorkPart("runs/0001/work.parquet", place.stat().st_size, len(rows), 0, shards),))


def pipeline_over(work: Work, *, max_bytes: int = 10**9, tasks: Sequence[str] = ("first", "second")) -> Pipeline:
    model = resolve_model("builtin/fingerprint")
    config = WorkerConfig(
        job="test",
        run_id="0001",
        plan_digest="0" * 64,
        output=str(work.output),
        work=work.parts,
        code_version="0",
        tasks=tuple(TaskConfig(name, "embed", model, {}) for name in tasks),
        limits=DecodeLimits(max_bytes=max_bytes),
    )
    pipeline = Pipeline(config)
    pipeline.open()
    return pipeline
