"""Tables in parts: the same rows give the same files, and a shard is read from its row group."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.fake_time import FakeTime
from winnow_storage import shards
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.errors import BlobMissing, StoreUnavailable
from winnow_storage.parts import PartFile, PartWriter, WorkPart, WorkReader, find_in_parts
from winnow_storage.schemas import WORK
from winnow_storage.uri import parse


def work(count: int, shard_items: int) -> pa.Table:
    rows = [
        {
            "item_id": f"{number:032x}",
            "key": f"{number:05d} \u00e9.jpg",
            "uri": f"file:///{number}",
            "version": f"v{number}",
            "bytes": None if number % 5 == 0 else number,
            "shard": number // shard_items,
            "tasks": ["kind", "text"][: 1 + number % 2],
        }
        for number in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=WORK)


def written(folder: Path, table: pa.Table, *, batch_rows: int, group_rows: int) -> list[PartFile]:
    writer = PartWriter(folder, WORK, group_rows=group_rows)
    for batch in table.to_batches(max_chunksize=batch_rows):
        writer.add(batch)
    return writer.finish()


@given(
    count=st.integers(0, 60), group_rows=st.integers(1, 20), batches=st.tuples(st.integers(1, 70), st.integers(1, 9))
)
def test_part_writer__files_follow_from_the_rows_alone(
    tmp_path_factory: pytest.TempPathFactory, count: int, group_rows: int, batches: tuple[int, int]
) -> None:
    table = work(count, group_rows)
    folder = tmp_path_factory.mktemp("parts")
    first, second = (
        written(folder / str(place), table, batch_rows=rows, group_rows=group_rows)
        for place, rows in enumerate(batches)
    )
    assert [file.name for file in first] == [file.name for file in second]
    assert sum(file.groups for file in first) == -(-count // group_rows)
    if count:
        assert pa.concat_tables([pq.read_table(file.path) for file in first]) == table


def test_part_writer__a_part_ends_with_a_whole_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow_storage.parts.PART_ROWS", 50)
    files = written(tmp_path / "rows", work(100, 20), batch_rows=33, group_rows=20)
    assert [(file.rows, file.groups) for file in files] == [(40, 2), (40, 2), (20, 1)]
    monkeypatch.setattr("winnow_storage.parts.PART_GROUPS", 3)
    files = written(tmp_path / "groups", work(10, 1), batch_rows=33, group_rows=1)
    assert [(file.rows, file.groups) for file in files] == [(3, 3), (3, 3), (3, 3), (1, 1)]
    assert [file.name[:5] for file in files] == ["00000", "00001", "00002", "00003"]
    files = written(tmp_path / "large", work(120, 60), batch_rows=33, group_rows=60)
    assert [(file.rows, file.groups) for file in files] == [(60, 1), (60, 1)]


def test_work_reader__finds_every_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow_storage.parts.PART_ROWS", 20)
    table = work(47, 5)
    store, found, first = open_store(parse(str(tmp_path / "out"))), [], 0
    for file in written(tmp_path / "files", table, batch_rows=7, group_rows=5):
        store.put_if_absent(file.name, file.path.read_bytes())
        found.append(WorkPart(file.name, file.bytes, file.rows, first, file.groups))
        first += file.groups
    reader = WorkReader(store, found)
    for shard in (*range(first), 0, 9, 4, 3):
        assert reader.rows(shard) == table.slice(shard * 5, 5)
    place = tmp_path / "out" / found[1].key
    data = bytearray(place.read_bytes())
    data[40] ^= 1
    place.write_bytes(data)
    with pytest.raises(StoreUnavailable, match=r"the work of shard 4 in .* came damaged twice"):
        WorkReader(store, found).rows(4)
    place.unlink()
    with pytest.raises(BlobMissing):
        WorkReader(store, found).rows(4)


class Out:
    """A store whose every ranged read fails after a minute, until it is back."""

    def __init__(self, store: BlobStore, time: FakeTime, back_s: float) -> None:
        self.root = store.root
        self._store, self._time, self._back_s = store, time, back_s

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if self._time.now_s < self._back_s:
            self._time.now_s += 60.0
            raise StoreUnavailable("the store sleeps", hint="wake it")
        return self._store.get_range(key, start, length)


@pytest.mark.parametrize("is_back", [True, False])
def test_work_reader__is_as_patient_as_a_commit(tmp_path: Path, *, is_back: bool) -> None:
    table, time = work(5, 5), FakeTime()
    (file,) = written(tmp_path / "files", table, batch_rows=5, group_rows=5)
    store = open_store(parse(str(tmp_path / "out")))
    store.put_if_absent(file.name, file.path.read_bytes())
    out: BlobStore = Out(store, time, back_s=300.0 if is_back else float("inf"))  # type: ignore[assignment]
    reader = WorkReader(out, [WorkPart(file.name, file.bytes, file.rows, 0, 1)], retrying=time.retrying())
    if is_back:
        assert reader.rows(0) == table
        return
    with pytest.raises(StoreUnavailable, match="the store sleeps"):
        reader.rows(0)
    assert shards.PATIENCE.budget_s <= time.now_s <= shards.PATIENCE.budget_s + 60.0


def test_find_in_parts__the_row_of_a_key_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow_storage.parts.PART_ROWS", 20)
    table = work(47, 5)
    store, found, first = open_store(parse(str(tmp_path / "out"))), [], 0
    for file in written(tmp_path / "files", table, batch_rows=7, group_rows=5):
        store.put_if_absent(file.name, file.path.read_bytes())
        found.append(WorkPart(file.name, file.bytes, file.rows, first, file.groups))
        first += file.groups
    assert len(found) == 3
    for row in table.to_pylist():
        assert find_in_parts(store, found, row["key"]) == row
    for absent in ("", "00019 \u00e9", "00019 \u00e9.jpg!", "99999"):
        assert find_in_parts(store, found, absent) is None
    assert find_in_parts(store, [], "00001 \u00e9.jpg") is None
