"""Is a flipped bit of a Parquet object found by whoever reads its rows, and read again if it flipped on its way?"""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.storage.shard_rows import receipt, shard_rows
from winnow_storage import blobs, parquet_rows, shards, uri
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.compaction_writer import PartsWriter
from winnow_storage.errors import BlobMissing, StoreError, StoreUnavailable

KEY = shards.shard_key("0001", 0)
WHOLE = parquet_rows.WHOLE_BYTES

Reads = Callable[[BlobStore, BlobInfo], pa.Table]
READS: dict[str, Reads] = {
    "rows": parquet_rows.read_rows,
    "columns": lambda store, info: parquet_rows.read_rows(store, info, shard_rows().column_names),
    "groups": lambda store, info: pa.concat_tables(parquet_rows.read_groups(store, info)),
    "groups-columns": lambda store, info: pa.concat_tables(
        parquet_rows.read_groups(store, info, shard_rows().column_names)
    ),
}


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return blobs.open_store(uri.parse(str(tmp_path)))


@pytest.fixture(params=[WHOLE, 0], ids=["whole", "ranges"])
def whole_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_rows, "WHOLE_BYTES", request.param)


@pytest.fixture(params=READS.values(), ids=READS)
def read(request: pytest.FixtureRequest, whole_bytes: None) -> Reads:
    found: Reads = request.param
    return found


def info_of(store: BlobStore, key: str) -> BlobInfo:
    info = store.info(key)
    assert info is not None
    return info


def last_page(data: bytes) -> int:
    """The offset of the last byte of the last column's last page: of its values, not of what its header says."""
    metadata = pq.read_metadata(pa.BufferReader(data))
    column = metadata.row_group(0).column(metadata.num_columns - 1)
    starts = column.data_page_offset if column.dictionary_page_offset is None else column.dictionary_page_offset
    return int(starts + column.total_compressed_size - 1)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]


class Damaging:
    """A store whose reads of a byte that counts come with another bit flipped, as often as it is told to."""

    def __init__(self, store: BlobStore, places: list[int]) -> None:
        self.root, self.info, self._store, self.places = store.root, store.info, store, places

    def get(self, key: str) -> bytes:
        data = self._store.get(key)
        return flipped(data, self.places.pop(0)) if self.places else data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data = self._store.get_range(key, start, length)
        if self.places and start <= self.places[0] < start + len(data):
            return flipped(data, self.places.pop(0) - start)
        return data


def test_read__a_flipped_bit_is_found_or_changes_nothing(store: BlobStore) -> None:
    data = shards.encode_shard(shard_rows(), receipt())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    found = []
    for at in range(4, footer, 23):
        store.put(KEY, flipped(data, at))
        try:
            assert parquet_rows.read_rows(store, info_of(store, KEY)).equals(shard_rows())
        except StoreError as error:
            found.append(error)
    assert len(found) > 50
    assert all("is not a shard that Winnow wrote, or is damaged" in error.message and error.hint for error in found)


def test_read__damage_that_is_stored(store: BlobStore, read: Reads) -> None:
    data = shards.encode_shard(shard_rows(), receipt())
    store.put(KEY, flipped(data, last_page(data)))
    with pytest.raises(StoreError, match="or is damaged") as caught:
        read(store, info_of(store, KEY))
    assert type(caught.value) is StoreError


def test_read__damage_on_the_way_is_read_again(store: BlobStore, read: Reads) -> None:
    data = shards.encode_shard(shard_rows(), receipt())
    store.put(KEY, data)
    damaging = Damaging(store, [last_page(data)])
    assert read(damaging, info_of(store, KEY)).equals(shard_rows())  # type: ignore[arg-type]
    assert damaging.places == []


def test_read__never_the_same_damage_twice(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))

    def get(key: str) -> bytes:
        data = b"%03d no Parquet" % next(numbers)
        raise OSError(data.decode())

    store.put(KEY, b"x")
    monkeypatch.setattr(store, "get", get)
    with pytest.raises(StoreUnavailable, match="came damaged 4 times") as caught:
        parquet_rows.read_rows(store, info_of(store, KEY))
    assert caught.value.hint


def test_read__an_object_that_is_gone(store: BlobStore, read: Reads) -> None:
    with pytest.raises(BlobMissing):
        read(store, BlobInfo(KEY, 100, "v"))


def test_read__a_compactions_pages_have_checksums(store: BlobStore, read: Reads) -> None:
    with PartsWriter(store, "current/00001/part", shard_rows().schema) as writer:
        writer.add(shard_rows())
        (part,) = writer.finish()
    data = store.get(part.key)
    assert read(store, info_of(store, part.key)).equals(shard_rows())
    store.put(part.key, flipped(data, last_page(data)))
    with pytest.raises(StoreError, match=r"is not a Parquet object that Winnow wrote, or is damaged .*CRC"):
        read(store, info_of(store, part.key))


def test_find_rows__of_a_value_with_and_without_statistics(store: BlobStore, whole_bytes: None) -> None:
    numbers = [3, 1, 3, 2, 9, 3, 7]
    table = pa.table({"name": [f"n{number}" for number in numbers], "place": range(7), "late": ["x"] * 7})
    for told in (["name"], False):
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, row_group_size=2, write_statistics=told)
        store.put("t.parquet", buffer.getvalue().to_pybytes())
        info = info_of(store, "t.parquet")
        assert parquet_rows.find_rows(store, info, "name", "n3", ["place"])["place"].to_pylist() == [0, 2, 5]
        assert parquet_rows.find_rows(store, info, "name", "n4").num_rows == 0
        assert parquet_rows.first_value(store, info, "name") == "n3" or told  # the least of its group, where it is told
        (row,) = parquet_rows.find_below(store, "t", "name", "n9")
        assert row == {"name": "n9", "place": 4, "late": "x"}
        with pytest.raises(StoreError, match="it has no column nmae"):
            parquet_rows.find_rows(store, info, "nmae", "n3")


def test_find_rows__says_what_is_damaged(store: BlobStore, whole_bytes: None) -> None:
    rows = shard_rows()
    data = shards.encode_shard(rows, receipt())
    key = rows["key"][0].as_py()
    store.put(KEY, flipped(data, last_page(data)))
    with pytest.raises(StoreError, match=f"{KEY} is not a shard that Winnow wrote, or is damaged"):
        parquet_rows.find_rows(store, info_of(store, KEY), "key", key)
