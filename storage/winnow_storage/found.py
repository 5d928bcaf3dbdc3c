"""What does a store say of objects before they are items? Columns of keys, versions, sizes and of who sleeps."""

from collections.abc import Sequence

import pyarrow as pa

# `key` is the item's key; `version` and `bytes` as in BlobInfo; `cold` is true of what must be restored to be read.
FOUND = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("bytes", pa.int64()),
        pa.field("cold", pa.bool_(), nullable=False),
    ]
)
# GLACIER_IR answers at once; these two answer 403 InvalidObjectState until somebody restores a copy.
COLD_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def found_batch(
    keys: Sequence[str], versions: Sequence[str], sizes_bytes: Sequence[int | None], cold: Sequence[bool] | None = None
) -> pa.RecordBatch:
    """Equally long columns as one batch; without `cold` nothing is."""
    columns = [
        pa.array(keys, pa.string()),
        pa.array(versions, pa.string()),
        pa.array(sizes_bytes, pa.int64()),
        pa.repeat(pa.scalar(value=False), len(keys)) if cold is None else pa.array(cold, pa.bool_()),
    ]
    return pa.record_batch(columns, schema=FOUND)
