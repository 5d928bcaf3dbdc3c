"""What do a shard's rows and its receipt look like? Small ones, for tests."""

import numpy as np
import pyarrow as pa

from winnow_storage import schemas
from winnow_storage.shards import Receipt

DIMENSIONS = 8
TASKS = {
    "kind": [pa.field("label", pa.string()), pa.field("top", pa.list_(pa.float32()))],
    "vector": [pa.field("vector", pa.list_(pa.float16(), DIMENSIONS))],
    "parts": [pa.field("masks", pa.list_(schemas.RLE)), pa.field("boxes", pa.list_(schemas.BOX_XYXY_PX))],
}
SCHEMA = schemas.result_schema(TASKS)


def vector(number: int) -> list[np.float16]:
    """The embedding of item `number`, float16."""
    return list(np.arange(number, number + DIMENSIONS, dtype=np.float16) / np.float16(4))


def shard_rows(shard: int = 0, count: int = 5, run_id: str = "0001") -> pa.Table:
    """`count` rows; the last one is unreadable and has no predictions."""
    rows = []
    for number in range(count):
        done = number < count - 1
        common = {"model": "sha256-of-it", "score": 0.5, "error": None}
        rows.append(
            {
                "item_id": f"{shard:04d}-{number:04d}",
                "key": f"folder/\u00fc {number}.jpg",
                "uri": f"s3://bucket/folder/\u00fc {number}.jpg",
                "version": "v1",
                "outcome": "done" if done else "unreadable",
                "failed_tasks": [],
                "run_id": run_id,
                "shard": shard,
                "kind": common | {"label": f"label {number % 2}", "top": [0.5, 0.25]} if done else None,
                "vector": common | {"vector": vector(number)} if done else None,
                "parts": common | {"masks": [{"size": [4, 3], "counts": "abc"}], "boxes": [[0, 1, 2, 3]]}
                if done
                else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def receipt(shard: int = 0, **changes: object) -> Receipt:
    """The receipt of `shard_rows(shard)`."""
    fields: dict[str, object] = {
        "run_id": "0001",
        "shard": shard,
        "job": "shelves",
        "plan_digest": "p" * 64,
        "items_digest": f"{shard:064d}",
        "code_version": "0.1.0",
        "attempt": "first",
        "outcomes": {"done": 4, "unreadable": 1},
        "predictions": {"kind": 4, "vector": 4, "parts": 4},
        "errors": {"kind": 0, "vector": 0, "parts": 0},
        "models": {"kind": "a", "vector": "b", "parts": "c"},
        "bytes": 12345,
        "seconds": {"fetch": 0.25},
    }
    return Receipt(**(fields | changes))  # type: ignore[arg-type]
