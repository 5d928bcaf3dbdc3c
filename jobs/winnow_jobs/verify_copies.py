"""Is every copied row what its leader's row says? Both read, and held against each other."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.compute as pc

from winnow_jobs.findings import Wrong
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import StoreDenied, StoreError, StoreUnavailable
from winnow_workers.copies import TAKEN_OVER, rows_at

READ_THREADS = 8


def check_copies(store: BlobStore, rows: pa.Table, work: pa.Table, tasks: Sequence[str]) -> tuple[list[str], int]:
    """What is wrong with the copied ones of a shard's rows, and how many leaders' rows are not there to compare with.

    `rows` need all columns, `work` is the shard's.

    Raises:
        StoreDenied, StoreUnavailable: the store does not answer.
    """
    copied = rows.filter(pc.is_valid(rows["copied_from"]))
    if copied.num_rows == 0:
        return [], 0
    places = work["leader"].take(pc.index_in(copied["item_id"], value_set=work["item_id"].combine_chunks()))
    columns = ["item_id", "content_sha256", *TAKEN_OVER, *tasks]
    try:
        with ThreadPoolExecutor(READ_THREADS) as pool:
            leaders = dict(rows_at(store, places, columns, pool))
    except (StoreDenied, StoreUnavailable):
        raise
    except StoreError:
        leaders = {}  # a damaged leader is a finding of its own run
    wrong = Wrong()
    for index, leader in leaders.items():
        row = copied.slice(index, 1)
        if row["copied_from"][0] != leader["item_id"][0]:
            wrong.add("rows copied from another item than the work names", row["key"][0].as_py())
        elif not all(_same(row[name], leader[name]) for name in _taken_over(row, tasks)):
            wrong.add("copied rows that are not as their leader's", row["key"][0].as_py())
    return list(wrong.sentences()), copied.num_rows - len(leaders)


def _taken_over(row: pa.Table, tasks: Sequence[str]) -> list[str]:
    return ["content_sha256", *TAKEN_OVER, *(task for task in tasks if row[task].null_count == 0)]


def _same(one: pa.ChunkedArray, other: pa.Array) -> bool:
    if one.type != other.type:
        return False
    # by their text, where Arrow finds a difference: to it NaN is none
    return one.equals(pa.chunked_array([other])) or repr(one.to_pylist()) == repr(other.to_pylist())
