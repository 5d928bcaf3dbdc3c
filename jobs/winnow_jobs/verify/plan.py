"""Are a plan's own objects sound? Its snapshot and its work: there, whole, and what the plan says of them."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_jobs.runs import PlanDocument, plan_key
from winnow_jobs.verify.findings import Finding
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import StoreDenied, StoreError, StoreUnavailable
from winnow_storage.parquet_rows import read_groups
from winnow_storage.parts import Part, WorkPart, as_work
from winnow_storage.range_file import RangeFile
from winnow_storage.schemas import SNAPSHOT, WORK, WORK_BEFORE

CHUNK_BYTES = 8 * 2**20
_NAMED_BY_CONTENT = re.compile(r"-([0-9a-f]{16})\.parquet$")

EDITED = "plan.json was edited, put back from another run, or written by another version of Winnow"
DAMAGED = "the object was cut off, damaged or replaced after the run began"
REMOVED = "it was removed: a lifecycle rule, a clean-up, a copy of the folder that is not complete"
RESTORE = "restore it from a backup, or from an older version of the object; nothing else has it"


@dataclass(frozen=True, slots=True)
class ShardWork:
    """The work of one shard; no rows where it cannot be read, which `findings` says once for each object."""

    shard: int
    rows: pa.Table | None
    findings: tuple[Finding, ...] = ()


def check_plan(plan: PlanDocument) -> Iterator[Finding]:
    """What in a plan contradicts itself: its work must cover its shards and items, each once."""
    shards = [shard for part in plan.work for shard in range(part.first_shard, part.first_shard + part.shards)]
    items = sum(part.rows for part in plan.work)
    if shards != list(range(plan.shards)) or items != plan.items:
        what = f"its work has {len(shards)} shards with {items} items, itself {plan.shards} with {plan.items}"
        yield Finding(plan_key(plan.run_id), what, EDITED, RESTORE)
    copies = sum(part.rows for part in plan.work if part.first_shard >= plan.first_copy_shard)
    if copies != plan.copies:
        what = f"its last {plan.copy_shards} shards have {copies} items, which are to be {plan.copies} copies"
        yield Finding(plan_key(plan.run_id), what, EDITED, RESTORE)


def check_snapshot(store: BlobStore, plan: PlanDocument) -> Iterator[Finding]:
    """What is wrong with the snapshot's objects; reads their bytes once, and keeps none."""
    for part in plan.snapshot:
        yield from _check_part(store, part, SNAPSHOT)


def check_work(store: BlobStore, plan: PlanDocument) -> Iterator[ShardWork]:
    """The work of every shard in order, one at a time, with what is wrong with it."""
    for part in plan.work:
        shards = range(part.first_shard, part.first_shard + part.shards)
        wrong = tuple(_check_part(store, part, WORK))
        if wrong:
            yield from (ShardWork(shard, None, wrong if place == 0 else ()) for place, shard in enumerate(shards))
        else:
            yield from _read_work(store, part, shards)


def _read_work(store: BlobStore, part: WorkPart, shards: range) -> Iterator[ShardWork]:
    groups = read_groups(store, BlobInfo(part.key, part.bytes, ""))
    for shard in shards:
        try:
            rows = next(groups)
        except (StoreDenied, StoreUnavailable):
            raise
        except StoreError as error:  # a page is not what its checksum says
            wrong = Finding(part.key, f"the work of shard {shard} cannot be read: {error.message}", DAMAGED, RESTORE)
            yield ShardWork(shard, None, (wrong,))
            yield from (ShardWork(later, None) for later in range(shard + 1, shards.stop))
            return
        yield _shard_work(part, shard, as_work(rows))


def _shard_work(part: WorkPart, shard: int, rows: pa.Table) -> ShardWork:
    keys = [key.encode() for key in rows["key"].to_pylist()]
    wrong = []
    if set(rows["shard"].to_pylist()) != {shard}:
        wrong.append(Finding(part.key, f"its row group of shard {shard} names other shards", DAMAGED, RESTORE))
    if any(one >= other for one, other in itertools.pairwise(keys)):
        wrong.append(Finding(part.key, f"the items of shard {shard} are not sorted, or doubled", DAMAGED, RESTORE))
    return ShardWork(shard, rows, tuple(wrong))


def _check_part(store: BlobStore, part: Part | WorkPart, schema: pa.Schema) -> Iterator[Finding]:
    info = store.info(part.key)
    if info is None:
        yield Finding(part.key, "it is not there", REMOVED, RESTORE)
        return
    if info.bytes != part.bytes:
        yield Finding(part.key, f"it has {info.bytes} bytes, the plan says {part.bytes}", DAMAGED, RESTORE)
        return
    named = _NAMED_BY_CONTENT.search(part.key)
    if named is not None and named[1] != (found := digest_object(store, info)[:16]):
        yield Finding(part.key, f"its bytes have the digest {found}, not the one in its name", DAMAGED, RESTORE)
        return
    try:
        with pq.ParquetFile(RangeFile(store, part.key, size_bytes=info.bytes), pre_buffer=False) as parquet:
            rows, groups, found_schema = parquet.metadata.num_rows, parquet.num_row_groups, parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        yield Finding(part.key, f"it cannot be read: {error}", DAMAGED, RESTORE)
        return
    if rows != part.rows:
        yield Finding(part.key, f"it has {rows} rows, the plan says {part.rows}", DAMAGED, RESTORE)
    elif isinstance(part, WorkPart) and groups != part.shards:
        yield Finding(part.key, f"it has {groups} row groups, the plan says {part.shards} shards", DAMAGED, RESTORE)
    elif not found_schema.equals(schema) and not (schema is WORK and found_schema.equals(WORK_BEFORE)):
        yield Finding(part.key, f"its columns are {', '.join(found_schema.names)}", DAMAGED, RESTORE)


def digest_object(store: BlobStore, info: BlobInfo) -> str:
    """The sha256 of an object of any size, read in parts.

    Raises:
        StoreError: the store does not give it.
    """
    digest = hashlib.sha256()
    for start in range(0, info.bytes, CHUNK_BYTES):
        digest.update(store.get_range(info.key, start, CHUNK_BYTES))
    return digest.hexdigest()
