"""Is a shard's object sound? Read it whole, footer and pages, and hold it against what the plan says of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_jobs.verify_copies import check_copies
from winnow_jobs.verify_rows import Expected, receipt_problems, replaced_count, row_problems, schema_problems
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobMissing, StoreDenied, StoreError, StoreUnavailable
from winnow_storage.parquet_rows import WHOLE_BYTES
from winnow_storage.range_file import RangeFile
from winnow_storage.schemas import RESULT_COMMON
from winnow_storage.shards import Receipt, read_receipt

DAMAGED = "the object was cut off, damaged or replaced after it was committed"
REWRITTEN = "the object was written again after it was committed, not by Winnow"
MOVED = "an object of another shard, run or job was copied or renamed to this key"
GONE = "it was removed while it was being checked"

Usable = tuple[str, str, str]  # item_id, version, task of a prediction without an error
Problem = tuple[str, str]  # what is wrong, and why that may be


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """What came of checking one shard; an absent one has no receipt and no problem."""

    shard: int
    receipt: Receipt | None = None
    rows: int = 0
    usable: tuple[Usable, ...] = ()
    types: tuple[str, ...] = ()  # of the tasks' structs
    problems: tuple[Problem, ...] = ()
    unproved: int = 0  # copies whose leader's row is not there any more, which is no problem either
    replaced: int = 0  # rows of another version than was listed, which is no problem


def check_shard(store: BlobStore, info: BlobInfo, expected: Expected) -> ShardCheck:
    """Check one committed shard; holds its rows in memory, its other columns one by one.

    Raises:
        StoreDenied, StoreUnavailable: the store does not answer.
    """
    try:
        receipt = read_receipt(store, info.key, size_bytes=info.bytes)
        moved = list(_moved(receipt, expected))
        if moved:
            return ShardCheck(expected.shard, receipt, problems=tuple((what, MOVED) for what in moved))
        return _check_parquet(store, info, expected, receipt)
    except BlobMissing as error:
        return _unreadable(expected, error, GONE)
    except (StoreDenied, StoreUnavailable):
        raise
    except (StoreError, pa.ArrowException, OSError) as error:  # Arrow says OSError for a page it cannot unpack
        return _unreadable(expected, error, DAMAGED)


def _unreadable(expected: Expected, error: Exception, cause: str) -> ShardCheck:
    said = error.message if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
    return ShardCheck(expected.shard, problems=((f"it cannot be read: {said}", cause),))


def _moved(receipt: Receipt, expected: Expected) -> Iterator[str]:
    for name in ("run_id", "shard", "job"):
        said, wanted = getattr(receipt, name), getattr(expected, name)
        if said != wanted:
            yield f"its receipt is of {name} {said}, not {wanted}"


def _check_parquet(store: BlobStore, info: BlobInfo, expected: Expected, receipt: Receipt) -> ShardCheck:
    with _opened(store, info) as parquet:
        shapes = [(what, REWRITTEN) for what in schema_problems(parquet.schema_arrow, expected.models)]
        for name in dict.fromkeys(parquet.schema_arrow.names):  # a page that does not unpack raises here
            parquet.read(columns=[name], use_threads=False).validate(full=True)
        if shapes:
            return ShardCheck(expected.shard, receipt, problems=tuple(shapes))
        fields = [f"{task}.{field}" for task in expected.models for field in ("model", "error")]
        rows = parquet.read(columns=[*RESULT_COMMON.names, *fields], use_threads=False)
        copies, unproved = list[str](), 0
        if expected.work is not None and rows["copied_from"].null_count < rows.num_rows:
            whole = parquet.read(use_threads=False)
            copies, unproved = check_copies(store, whole, expected.work, list(expected.models))
        types = tuple(str(parquet.schema_arrow.field(task).type) for task in expected.models)
    wrong = [*receipt_problems(receipt, rows, expected), *row_problems(rows, expected), *copies]
    return ShardCheck(
        expected.shard,
        receipt,
        rows.num_rows,
        tuple(usable_of(rows, tuple(expected.models))),
        types,
        tuple((what, REWRITTEN) for what in wrong),
        unproved,
        replaced_count(rows, expected),
    )


@contextmanager
def _opened(store: BlobStore, info: BlobInfo) -> Iterator[pq.ParquetFile]:
    whole = info.bytes <= WHOLE_BYTES
    file = pa.BufferReader(store.get(info.key)) if whole else RangeFile(store, info.key, size_bytes=info.bytes)
    with pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True) as parquet:
        yield parquet


def usable_of(rows: pa.Table, tasks: tuple[str, ...]) -> Iterator[Usable]:
    """Every prediction without an error; `rows` needs item_id, version and the `error` of each task."""
    items, versions = rows["item_id"].to_pylist(), rows["version"].to_pylist()
    for task in tasks:
        for item, version, struct in zip(items, versions, rows[task].to_pylist(), strict=True):
            if struct is not None and struct["error"] is None:
                yield item, version, task
