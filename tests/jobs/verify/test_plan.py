"""Are a plan's parts read by their checksums, whatever they are called?"""

from pathlib import Path

import pyarrow as pa
import pytest

from tests.jobs.histories import add_run, listed, output_runs, spec
from winnow_jobs.runs import PlanDocument
from winnow_jobs.verify.plan import ShardWork, check_work
from winnow_storage.blobs import BlobStore
from winnow_storage.parts import PartWriter, WorkPart
from winnow_storage.schemas import WORK

SHARDS, SHARD_ITEMS = 4, 50
KEY = "runs/0001/due/work.parquet"  # no digest of its bytes in its name


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return output_runs(tmp_path).store


def with_work(store: BlobStore, folder: Path) -> PlanDocument:
    (window,) = listed({f"{number:04d}": "v1" for number in range(SHARDS * SHARD_ITEMS)})
    rows = [row | {"shard": at // SHARD_ITEMS, "tasks": ["kind"]} for at, row in enumerate(window.to_pylist())]
    writer = PartWriter(folder / "work", WORK, group_rows=SHARD_ITEMS)
    for batch in pa.Table.from_pylist(rows, schema=WORK).to_batches():
        writer.add(batch)
    (file,) = writer.finish()
    store.put(KEY, file.path.read_bytes())
    plan = add_run(output_runs(folder), spec(folder), [None] * SHARDS)
    part = WorkPart(KEY, file.bytes, file.rows, 0, file.groups)
    return plan.model_copy(update={"work": (part,), "items": len(rows)})


def test_check_work__every_shard_in_order(store: BlobStore, tmp_path: Path) -> None:
    found = list(check_work(store, with_work(store, tmp_path)))
    assert [(work.shard, work.findings) for work in found] == [(shard, ()) for shard in range(SHARDS)]
    assert all(work.rows is not None and work.rows.num_rows == SHARD_ITEMS for work in found)


def test_check_work__a_page_that_is_not_what_its_checksum_says(store: BlobStore, tmp_path: Path) -> None:
    plan = with_work(store, tmp_path)
    data = bytearray(store.get(KEY))
    middle = len(data) // 2
    data[middle] ^= 0xFF
    store.put(KEY, bytes(data))
    found: list[ShardWork] = list(check_work(store, plan))
    assert [work.shard for work in found] == list(range(SHARDS))
    assert found[0].rows is not None
    (finding,) = [finding for work in found for finding in work.findings]
    assert finding.key == KEY
    assert "cannot be read" in finding.what
    assert found[-1].rows is None
