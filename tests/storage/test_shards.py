"""Is a shard committed once, told apart from anything else, and known by its footer alone?"""

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.storage.fake_time import FakeTime
from tests.storage.shard_rows import SCHEMA, receipt, shard_rows
from winnow_storage import blobs, shards, uri
from winnow_storage.blobs import BlobInfo, BlobStore
from winnow_storage.errors import BlobMissing, StoreError, StoreUnavailable
from winnow_storage.s3_client import PATIENT


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "local":
        return blobs.open_store(uri.parse(str(tmp_path)))
    return blobs.open_store(uri.parse(f"{request.getfixturevalue('s3_bucket')}/out"))


def test_shard_key__sorts_as_numbers() -> None:
    assert shards.shard_key("0007", 12) == "runs/0007/results/00000012.parquet"


def test_encode_shard__equal_rows_give_equal_bytes() -> None:
    data = shards.encode_shard(shard_rows(), receipt())
    assert data == shards.encode_shard(shard_rows(), receipt())
    table = pq.read_table(pa.BufferReader(data))
    assert table.schema.equals(SCHEMA)
    assert table.equals(shard_rows())


def test_encode_shard__vectors_are_plain_and_everything_is_zstd() -> None:
    metadata = pq.read_metadata(pa.BufferReader(shards.encode_shard(shard_rows(), receipt())))
    columns = [metadata.row_group(0).column(index) for index in range(metadata.num_columns)]
    encodings = {column.path_in_schema: set(column.encodings) for column in columns}
    assert encodings["vector.vector.list.element"] <= {"PLAIN", "RLE"}
    assert encodings["parts.boxes.list.element.list.element"] <= {"PLAIN", "RLE"}
    assert "RLE_DICTIONARY" in encodings["kind.model"]
    assert {column.compression for column in columns} == {"ZSTD"}


def test_encode_shard__no_rows() -> None:
    data = shards.encode_shard(SCHEMA.empty_table(), receipt())
    assert pq.read_table(pa.BufferReader(data)).num_rows == 0


def test_commit_shard__second_is_adopted(store: BlobStore) -> None:
    first, second = receipt(attempt="first"), receipt(attempt="second", seconds={"fetch": 9.0})
    data = shards.encode_shard(shard_rows(), first)
    assert shards.commit_shard(store, data, first) == (first, True)
    assert shards.commit_shard(store, shards.encode_shard(shard_rows(), second), second) == (first, False)
    assert store.get(shards.shard_key("0001", 0)) == data


class Forgetful:
    """A store that puts, and then says that the object was there before."""

    def __init__(self, store: BlobStore) -> None:
        self.root = store.root
        self.info, self.get_range = store.info, store.get_range
        self._store = store

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._store.put_if_absent(key, data)
        return False


def test_commit_shard__own_earlier_put_is_known_by_its_attempt(store: BlobStore) -> None:
    first, second = receipt(attempt="first"), receipt(attempt="second")
    forgetful: BlobStore = Forgetful(store)  # type: ignore[assignment]
    assert shards.commit_shard(forgetful, shards.encode_shard(shard_rows(), first), first) == (first, True)
    assert shards.commit_shard(forgetful, shards.encode_shard(shard_rows(), second), second) == (first, False)


class Out(Forgetful):
    """A store that takes no puts until `back_s`, though each is tried as long as a bucket's requests are."""

    def __init__(self, store: BlobStore, time: FakeTime, back_s: float) -> None:
        super().__init__(store)
        self._time, self._back_s = time, back_s
        self.puts = 0

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._time.retrying().call(lambda: self._put(key, data), lambda _: PATIENT)

    def _put(self, key: str, data: bytes) -> bool:
        if self._time.now_s < self._back_s:
            raise StoreUnavailable("the store sleeps", hint="wake it")
        self.puts += 1
        return self._store.put_if_absent(key, data)


def test_commit_shard__outlasts_minutes_without_a_put(store: BlobStore) -> None:
    time, mine = FakeTime(), receipt()
    out = Out(store, time, back_s=5 * PATIENT.budget_s)
    data = shards.encode_shard(shard_rows(), mine)
    kept: BlobStore = out  # type: ignore[assignment]
    assert shards.commit_shard(kept, data, mine, retrying=time.retrying()) == (mine, True)
    assert time.now_s >= 5 * PATIENT.budget_s
    assert out.puts == 1
    assert [info.key for info in store.walk()] == [shards.shard_key("0001", 0)]
    assert store.get(shards.shard_key("0001", 0)) == data


def test_commit_shard__a_store_that_stays_out(store: BlobStore) -> None:
    time = FakeTime()
    out: BlobStore = Out(store, time, back_s=float("inf"))  # type: ignore[assignment]
    data = shards.encode_shard(shard_rows(), receipt())
    with pytest.raises(StoreUnavailable, match="the store sleeps") as caught:
        shards.commit_shard(out, data, receipt(), retrying=time.retrying())
    assert caught.value.hint == "wake it"
    assert shards.PATIENCE.budget_s <= time.now_s <= shards.PATIENCE.budget_s + PATIENT.budget_s
    assert list(store.walk()) == []


class Damaging:
    """A store whose ranged reads come damaged, each in its own way, as often as it is told to."""

    def __init__(self, store: BlobStore, times: int) -> None:
        self.root = store.root
        self.info = store.info
        self._store, self._left = store, times

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data = self._store.get_range(key, start, length)
        self._left -= 1
        return data if self._left < 0 else data.replace(b'"attempt":"first"', b'"attempt":"f%04d"' % self._left)


def test_read_receipt__damage_on_the_way_is_no_strange_object(store: BlobStore) -> None:
    data = shards.encode_shard(shard_rows(), receipt())
    shards.commit_shard(store, data, receipt())
    for times in range(4):
        damaging: BlobStore = Damaging(store, times)  # type: ignore[assignment]
        assert shards.read_receipt(damaging, shards.shard_key("0001", 0)) == receipt()
    with pytest.raises(StoreUnavailable, match="came damaged 4 times") as caught:
        shards.read_receipt(Damaging(store, 99), shards.shard_key("0001", 0))  # type: ignore[arg-type]
    assert caught.value.hint


class Overwriting(Forgetful):
    """A store that ignores the condition of a put without a word."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self._store.put(key, data)
        return True


def test_commit_shard__a_store_that_overwrites_keeps_the_first(store: BlobStore) -> None:
    first, second = receipt(attempt="first"), receipt(attempt="second")
    overwriting: BlobStore = Overwriting(store)  # type: ignore[assignment]
    data = shards.encode_shard(shard_rows(), first)
    assert shards.commit_shard(overwriting, data, first) == (first, True)
    assert shards.commit_shard(overwriting, shards.encode_shard(shard_rows(), second), second) == (first, False)
    assert store.get(shards.shard_key("0001", 0)) == data


def test_commit_shard__eight_at_once_agree(store: BlobStore) -> None:
    start, found = threading.Barrier(8), []

    def commit(number: int) -> None:
        mine = receipt(attempt=str(number))
        data = shards.encode_shard(shard_rows(), mine)
        start.wait()
        found.append(shards.commit_shard(store, data, mine))

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert sum(created for _, created in found) == 1
    assert len({committed.attempt for committed, _ in found}) == 1


@pytest.mark.parametrize("change", [{"plan_digest": "other"}, {"items_digest": "other"}])
def test_commit_shard__another_shard_is_there(store: BlobStore, change: dict[str, str]) -> None:
    there = receipt(**change)
    data = shards.encode_shard(shard_rows(), there)
    shards.commit_shard(store, data, there)
    with pytest.raises(StoreError, match="other items or another plan") as caught:
        shards.commit_shard(store, shards.encode_shard(shard_rows(), receipt()), receipt())
    assert "nothing was overwritten" in str(caught.value)
    assert store.get(shards.shard_key("0001", 0)) == data


def test_commit_shard__too_large(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shards.encode_shard(shard_rows(), receipt())
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", len(data) - 1)
    with pytest.raises(StoreError, match=f"is {len(data):,} bytes; the limit is {len(data) - 1:,}"):
        shards.commit_shard(store, data, receipt())
    with pytest.raises(StoreError, match=r"lower run\.shard_items"):
        shards.encode_shard(shard_rows(), receipt())
    assert list(store.walk()) == []


def foreign() -> Iterator[bytes]:
    data = shards.encode_shard(shard_rows(), receipt())
    yield b""
    yield b"not parquet at all"
    yield data[: len(data) // 2]
    yield data.replace(b'"run_id":"0001"', b'"run_xx":"0001"')
    sink = pa.BufferOutputStream()
    pq.write_table(shard_rows(), sink)
    yield sink.getvalue().to_pybytes()


@pytest.mark.parametrize("data", list(foreign()), ids=["empty", "text", "cut", "other-fields", "no-receipt"])
def test_read_receipt__not_ours(store: BlobStore, data: bytes) -> None:
    key = shards.shard_key("0001", 0)
    store.put(key, data)
    for call in (
        lambda: shards.read_receipt(store, key),
        lambda: shards.commit_shard(store, shards.encode_shard(shard_rows(), receipt()), receipt()),
    ):
        with pytest.raises(StoreError, match=r"00000000\.parquet is not a shard that Winnow wrote") as caught:
            call()
        assert caught.value.hint
    assert store.get(key) == data


def test_read_receipt__missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissing):
        shards.read_receipt(store, shards.shard_key("0001", 0))


class Counted:
    """A store that remembers which ranges were read."""

    def __init__(self, store: BlobStore) -> None:
        self.root = store.root
        self.info, self.walk = store.info, store.walk
        self._store = store
        self.read_bytes = 0

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.read_bytes += length
        return self._store.get_range(key, start, length)


def test_read_receipt__reads_the_footer_only(store: BlobStore) -> None:
    random = pa.array([bytes([number % 251]) * 7 + str(number**7).encode() for number in range(60_000)])
    rows = pa.table({"noise": random})
    data = shards.encode_shard(rows, receipt())
    shards.commit_shard(store, data, receipt())
    counted = Counted(store)
    assert shards.read_receipt(counted, shards.shard_key("0001", 0)) == receipt()  # type: ignore[arg-type]
    assert counted.read_bytes <= 65536 < len(data) / 4


def test_committed_shards__by_number(store: BlobStore) -> None:
    assert shards.committed_shards(store, "0001") == {}
    for number in (12, 3, 200_000):
        mine = receipt(number)
        shards.commit_shard(store, shards.encode_shard(shard_rows(number), mine), mine)
    store.put("runs/0001/results/_notes.txt", b"")
    store.put("runs/00010/results/00000001.parquet", b"")
    found = shards.committed_shards(store, "0001")
    assert list(found) == [3, 12, 200_000]
    assert all(isinstance(info, BlobInfo) and info == store.info(info.key) for info in found.values())


def test_committed_shards__a_stranger_would_spoil_the_glob(store: BlobStore) -> None:
    store.put("runs/0001/results/copy of 00000001.parquet", b"")
    with pytest.raises(StoreError, match=r"copy of 00000001\.parquet is no shard"):
        shards.committed_shards(store, "0001")


def test_seal__what_is_committed_after_it_does_not_count(store: BlobStore) -> None:
    def commit(number: int) -> None:
        mine = receipt(number)
        shards.commit_shard(store, shards.encode_shard(shard_rows(number), mine), mine)

    for number in (0, 1, 4):
        commit(number)
    assert shards.read_seal(store, "0001") is None
    assert list(shards.seal(store, "0001")) == [0, 1, 4]
    commit(2)
    assert list(shards.committed_shards(store, "0001")) == [0, 1, 4]
    assert list(shards.seal(store, "0001")) == [0, 1, 4]  # the first one stands
    assert shards.read_seal(store, "0001") == {0, 1, 4}
    assert store.get(shards.seal_key("0001")) == b"[[0,1],[4,4]]"


def test_seal__of_a_run_without_shards(store: BlobStore) -> None:
    assert shards.seal(store, "0001") == {}
    assert shards.read_seal(store, "0001") == frozenset()


@pytest.mark.parametrize("data", [b"", b"[[0]]", b'{"shards": 3}', b"[[-1, 2]]"])
def test_seal__a_damaged_one_is_named(store: BlobStore, data: bytes) -> None:
    store.put(shards.seal_key("0001"), data)
    with pytest.raises(StoreError, match=r"runs/0001/seal\.json is damaged") as raised:
        shards.committed_shards(store, "0001")
    assert raised.value.hint is not None


def test_ranges() -> None:
    assert shards.ranges([]) == []
    assert shards.ranges([0, 1, 2, 5, 7, 8]) == [(0, 2), (5, 5), (7, 8)]
