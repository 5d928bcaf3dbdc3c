"""How many items a second does one process decide from committed vectors, reading and committing whole shards? No Ray.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.engine.stored_rate [SHARDS]

Shards of 2,048 rows with drawn float16 vectors of 2,048 numbers, a drawn linear head of 20 classes; seed 0.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.parts import PartWriter, WorkPart
from winnow_storage.schemas import WORK, result_schema
from winnow_storage.shards import Receipt, encode_shard, shard_key
from winnow_storage.uri import parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.heads import Embedding, Head, Linear, save_head
from winnow_workers.models.resolve import resolve_model
from winnow_workers.operator import TaskConfig
from winnow_workers.pipeline import Pipeline, WorkerConfig

NUMBERS, ITEMS, CLASSES = 2048, 2048, 20
SCHEMA = result_schema({"look": [pa.field("vector", pa.list_(pa.float16(), NUMBERS))]})


def ids_of(shard: int) -> list[str]:
    return [f"{shard:04d}{row:06d}" for row in range(ITEMS)]


def commit_vectors(store: BlobStore, shard: int, random: np.random.Generator) -> None:
    """A shard of run 0001, of which only the vectors differ."""
    struct = SCHEMA.field("look").type
    vectors = pa.array(random.normal(size=NUMBERS * ITEMS).astype(np.float16))
    fields = {"vector": pa.FixedSizeListArray.from_arrays(vectors, NUMBERS), "model": pa.array(["m"] * ITEMS)}
    look = [fields.get(field.name, pa.nulls(ITEMS, field.type)) for field in struct]
    columns: dict[str, Any] = {field.name: pa.nulls(ITEMS, field.type) for field in SCHEMA}
    ids = pa.array(ids_of(shard))
    columns |= dict.fromkeys(("item_id", "key", "uri"), ids)
    columns |= {"version": pa.array(["v"] * ITEMS), "outcome": pa.array(["done"] * ITEMS)}
    columns |= {"run_id": pa.array(["0001"] * ITEMS), "shard": pa.array([shard] * ITEMS, pa.int32())}
    columns |= {"failed_tasks": pa.array([[]] * ITEMS, pa.list_(pa.string()))}
    columns |= {"look": pa.StructArray.from_arrays(look, fields=list(struct))}
    rows = pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)
    receipt = Receipt("0001", shard, "rate", "", "", "0", "", {}, {}, {}, {}, 0, {})
    store.put_if_absent(shard_key("0001", shard), encode_shard(rows, receipt))


def write_work(folder: Path, store: BlobStore, shards: int) -> WorkPart:
    """The work of run 0002: every item, from its vector."""
    writer = PartWriter(folder / "work", WORK, group_rows=ITEMS)
    for shard in range(shards):
        rows = [
            dict.fromkeys(("item_id", "key", "uri"), item)
            | {"version": "v", "shard": shard, "tasks": ["kind"]}
            | {"vectors": [{"task": "look", "run_id": "0001", "shard": shard, "row": row}]}
            for row, item in enumerate(ids_of(shard))
        ]
        for batch in pa.Table.from_pylist(rows, schema=WORK).to_batches():
            writer.add(batch)
    (file,) = writer.finish()
    store.put("runs/0002/due/work.parquet", file.path.read_bytes())
    return WorkPart("runs/0002/due/work.parquet", file.bytes, file.rows, 0, file.groups)


def main(shards: int) -> None:
    """Print one line of JSON."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = open_store(parse(str(folder / "out")))
        for shard in range(shards):
            commit_vectors(store, shard, random)
        work = write_work(folder, store, shards)
        rule = Linear(random.normal(size=(CLASSES, NUMBERS)).astype(np.float32), np.zeros(CLASSES, np.float32))
        embedding = Embedding(task="look", task_digest="d" * 64, dimensions=NUMBERS)
        head = folder / "head.safetensors"
        head.write_bytes(save_head(Head(tuple(f"class {number}" for number in range(CLASSES)), embedding, rule)))
        task = TaskConfig("kind", "classify", resolve_model(str(head)), {"vectors": "look"})
        output = str(folder / "out")
        pipeline = Pipeline(WorkerConfig("rate", "0002", "0" * 64, output, (work,), "0", (task,), DecodeLimits()))
        pipeline.open()
        wall, cpu = time.perf_counter(), time.process_time()
        decided = sum(pipeline.run_shard(shard).from_vectors for shard in range(shards))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"items": decided, "items_per_s": round(decided / wall), "items_per_cpu_s": round(decided / cpu)}
    print(json.dumps(found | {"peak_mib": round(peak_mib), "seed": 0}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8)
