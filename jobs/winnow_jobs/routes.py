"""How are a run's routes read without holding them all? Batch by batch."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_jobs.review import routes_key
from winnow_storage.blobs import BlobStore
from winnow_storage.parquet_rows import WHOLE_BYTES
from winnow_storage.range_file import RangeFile

BATCH_ROWS = 16384


def iter_routes(store: BlobStore, run_id: str) -> Iterator[pa.RecordBatch]:
    """What was decided about the predictions of a run, in its order; nothing if the run is not routed.

    Raises:
        StoreError: as the store says. ArrowException, OSError: the object is no Parquet, or is damaged.
    """
    info = store.info(routes_key(run_id))
    if info is None:
        return
    whole = info.bytes <= WHOLE_BYTES
    file = pa.BufferReader(store.get(info.key)) if whole else RangeFile(store, info.key, size_bytes=info.bytes)
    with pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as parquet:
        yield from parquet.iter_batches(BATCH_ROWS, use_threads=False)
