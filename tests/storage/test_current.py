"""Is the current row of every item what a dictionary says, whatever the runs did?"""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.drawn_runs import many_runs
from tests.storage.many_runs import (
    KIND,
    VECTOR,
    Row,
    Run,
    begin,
    commit,
    comparable,
    failed,
    naive_counts,
    naive_current,
    usable,
    write_runs,
)
from winnow_storage import blobs, current, uri
from winnow_storage.blobs import BlobStore
from winnow_storage.committed import look
from winnow_storage.current import committed_types, resolve
from winnow_storage.current_types import current_schema
from winnow_storage.errors import StoreError
from winnow_storage.shards import shard_key


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return blobs.open_store(uri.parse(str(tmp_path / "out")))


def resolved(store: BlobStore) -> tuple[list[dict[str, object]], tuple[int, int, int]]:
    committed = look(store)
    types = committed_types(store, committed.runs)
    windows = list(resolve(store, committed, types))
    rows = pa.concat_tables([current_schema(types).empty_table(), *(window.rows for window in windows)])
    counts = (
        sum(one.pending for one in windows),
        sum(one.gone for one in windows),
        sum(one.dropped for one in windows),
    )
    return rows.to_pylist(), counts


OWN = {"kind": KIND, "vector": VECTOR}


def one_item(*structs: dict[str, object] | None, task: str = "kind", outcome: str | None = None) -> list[Run]:
    """A run for each struct, over one item."""
    return [
        Run(f"{number:04d}", {"a.jpg": "v1"}, {task: OWN[task]}, [[Row("a.jpg", tasks={task: struct})]])
        for number, struct in enumerate(structs, start=1)
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(runs=many_runs(), window=st.sampled_from([1, 2, 8192]))
def test_resolve__as_a_dictionary_says(runs: list[Run], window: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("runs")
    store = blobs.open_store(uri.parse(str(folder / "out")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # of thousands of small files it would be most of the time
        patch.setattr(current, "WINDOW_ROWS", window)
        write_runs(store, runs, folder)
        rows, (pending, gone, dropped) = resolved(store)
    assert comparable(rows) == comparable(naive_current(runs))
    assert (pending, gone, dropped) == (*naive_counts(runs), 0)


def test_resolve__a_failed_retry_hides_nothing(store: BlobStore, tmp_path: Path) -> None:
    write_runs(store, one_item(usable(label="cat"), failed()), tmp_path)
    (row,), _ = resolved(store)
    assert row["outcome"] == "failed"
    assert row["reason"] == "failed in 0002"
    assert row["run_id"] == "0002"
    assert row["failed_tasks"] == []
    assert row["kind"] == {
        **dict.fromkeys(["preproc", "score_kind", "p_ok", "calibrator", "error"]),
        "model": "sha256-of-it",
        "score": 0.5,
        "label": "cat",
        "run_id": "0001",
    }


def test_resolve__a_task_that_only_failed_is_listed_until_it_is_predicted(store: BlobStore, tmp_path: Path) -> None:
    runs = one_item(failed(), usable(label="dog"))
    other = Run("0003", {"a.jpg": "v1"}, {"vector": VECTOR}, [[Row("a.jpg", tasks={"vector": failed()})]])
    write_runs(store, [runs[0], other], tmp_path)
    (row,), _ = resolved(store)
    assert (sorted(row["failed_tasks"]), row["kind"], row["vector"]) == (["kind", "vector"], None, None)
    write_runs(store, [runs[1]], tmp_path)
    (row,), _ = resolved(store)
    assert (row["failed_tasks"], row["kind"]["label"], row["run_id"]) == (["vector"], "dog", "0003")


def test_resolve__what_is_known_of_the_bytes_outlives_a_night_without_the_store(
    store: BlobStore, tmp_path: Path
) -> None:
    first, second = one_item(usable(label="cat"), None)
    second = Run(second.run_id, second.snapshot, second.tasks, [[Row("a.jpg", outcome="unavailable")]])
    write_runs(store, [first, second], tmp_path)
    (row,), _ = resolved(store)
    assert (row["outcome"], row["width"], row["content_sha256"]) == ("unavailable", 640, "digest of a.jpg")
    assert row["kind"]["label"] == "cat"
    assert row["uri"] == "s3://now-0002/a.jpg"


def test_resolve__another_corpus_id_makes_other_items(store: BlobStore, tmp_path: Path) -> None:
    write_runs(store, one_item(usable(label="cat")), tmp_path)
    key = look(store).snapshot[0].key
    items = pq.read_table(pa.BufferReader(store.get(key)))
    sink = pa.BufferOutputStream()
    pq.write_table(items.set_column(0, items.schema.field("item_id"), pa.array(["another"])), sink)
    store.put(key, sink.getvalue().to_pybytes())
    plan = store.get("runs/0001/plan.json")
    size = store.info(key)
    assert size is not None
    old = next(iter(look(store).snapshot)).bytes
    store.put("runs/0001/plan.json", plan.replace(f'"bytes":{old}'.encode(), f'"bytes":{size.bytes}'.encode()))
    rows, counts = resolved(store)
    assert (rows, counts) == ([], (1, 1, 0))


OLD, NEW = pa.list_(pa.float16(), 8), pa.list_(pa.float16(), 4)
CHANGES: dict[str, tuple[pa.Field, object, pa.Field, object]] = {
    "wider": (pa.field("own", pa.int32()), 7, pa.field("own", pa.int64()), 7),
    "more precise": (pa.field("own", pa.float16()), 0.5, pa.field("own", pa.float32()), 0.5),
    "a field more inside": (
        pa.field("own", pa.list_(pa.struct([pa.field("a", pa.int32())]))),
        [{"a": 1}],
        pa.field("own", pa.list_(pa.struct([pa.field("a", pa.int32()), pa.field("b", pa.string())]))),
        [{"a": 1, "b": None}],
    ),
    "another width": (pa.field("own", OLD), [0.0] * 8, pa.field("own", NEW), None),
    "another kind": (pa.field("own", pa.string()), "x", pa.field("own", pa.list_(pa.string())), None),
    "a value that does not fit": (pa.field("own", pa.string()), "x", pa.field("own", pa.int64()), None),
    "too large": (pa.field("own", pa.int64()), 1 << 40, pa.field("own", pa.int32()), None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_resolve__a_field_of_another_type(change: str, store: BlobStore, tmp_path: Path) -> None:
    old, value, new, expected = CHANGES[change]
    snapshot = {"a.jpg": "v1", "b.jpg": "v1", "c.jpg": "v1"}
    first = Run("0001", snapshot, {"kind": [old]}, [[Row(key, tasks={"kind": usable(own=value)}) for key in snapshot]])
    second = Run("0002", snapshot, {"kind": [new]}, [[Row("b.jpg", tasks={"kind": usable(own=None)})]])
    write_runs(store, [first, second], tmp_path)
    rows, (_, _, dropped) = resolved(store)
    kept = expected is not None
    assert dropped == (0 if kept else 3)
    assert [None if row["kind"] is None else row["kind"]["own"] for row in rows] == [expected, None, expected]
    assert [row["kind"] is not None for row in rows] == [kept, True, kept]
    assert {row["outcome"] for row in rows} == {"done"}


def test_resolve__one_value_that_does_not_fit_drops_one_prediction(store: BlobStore, tmp_path: Path) -> None:
    keys = [f"{number:03d}.jpg" for number in range(100)]
    snapshot = dict.fromkeys(keys, "v1")
    values = {key: "no number" if key == "041.jpg" else str(number) for number, key in enumerate(keys)}
    old, new = pa.field("own", pa.string()), pa.field("own", pa.int64())
    rows = [Row(key, tasks={"kind": usable(own=values[key])}) for key in keys]
    second = Run("0002", snapshot, {"kind": [new]}, [[Row("000.jpg", tasks={"kind": failed()})]])
    write_runs(store, [Run("0001", snapshot, {"kind": [old]}, [rows]), second], tmp_path)
    found, (_, _, dropped) = resolved(store)
    assert dropped == 1
    assert [row["key"] for row in found if row["kind"] is None] == ["041.jpg"]
    assert [row["kind"]["own"] for row in found if row["kind"]] == [n for n in range(100) if n != 41]


def test_resolve__fields_come_and_go(store: BlobStore, tmp_path: Path) -> None:
    snapshot = {"a.jpg": "v1", "b.jpg": "v1"}
    label, top, margin = pa.field("label", pa.string()), pa.field("top", pa.int32()), pa.field("margin", pa.float32())
    old = Run("0001", snapshot, {"kind": [label, top]}, [[Row("a.jpg", tasks={"kind": usable(label="x", top=3)})]])
    new = Run(
        "0002", snapshot, {"kind": [label, margin]}, [[Row("b.jpg", tasks={"kind": usable(label="y", margin=1)})]]
    )
    write_runs(store, [old, new], tmp_path)
    rows, _ = resolved(store)
    assert [(row["kind"]["label"], row["kind"]["top"], row["kind"]["margin"]) for row in rows] == [
        ("x", 3, None),
        ("y", None, 1.0),
    ]
    assert list(rows[0]["kind"])[-4:] == ["label", "margin", "top", "run_id"]


def test_resolve__rows_that_are_not_sorted(store: BlobStore, tmp_path: Path) -> None:
    keys = {"a.jpg": "v1", "b.jpg": "v1"}
    for shards in ([[Row("b.jpg"), Row("a.jpg")]], [[Row("b.jpg")], [Row("a.jpg")]], [[Row("a.jpg")], [Row("a.jpg")]]):
        place = blobs.open_store(uri.parse(str(tmp_path / f"out-{len(shards)}-{len(shards[0])}-{shards[0][0].key}")))
        write_runs(place, [Run("0001", keys, {"kind": KIND}, shards)], tmp_path)
        with pytest.raises(StoreError, match="not sorted by key"):
            resolved(place)


def test_resolve__a_damaged_shard(store: BlobStore, tmp_path: Path) -> None:
    write_runs(store, one_item(usable(label="x"), usable(label="y"), usable(label="z")), tmp_path)
    store.put(shard_key("0002", 0), b"damaged")
    with pytest.raises(StoreError, match=r"0002/results/00000000\.parquet is not a shard that Winnow wrote"):
        resolved(store)


def test_look__nothing_there(store: BlobStore) -> None:
    assert look(store).newest is None


def test_look__a_run_without_a_plan_is_none(store: BlobStore, tmp_path: Path) -> None:
    write_runs(store, one_item(usable(label="x")), tmp_path)
    store.put("runs/0002/snapshot/00000-abc.parquet", b"put by a driver that died before its plan")
    committed = look(store)
    assert [run.run_id for run in committed.runs] == ["0001"]
    assert committed.newest is not None
    assert (committed.newest.planned, len(committed.newest.objects)) == (1, 1)


def test_look__a_plan_of_another_version(store: BlobStore) -> None:
    store.put("runs/0001/plan.json", b'{"shards": 1, "snapshot_key": "x"}')
    with pytest.raises(StoreError, match="not a plan that this version") as caught:
        look(store)
    assert caught.value.hint


def test_resolve__reads_each_shard_once_and_few_ahead(store: BlobStore, tmp_path: Path) -> None:
    keys = [f"{number:03d}.jpg" for number in range(24)]
    snapshot = dict.fromkeys(keys, "v1")
    runs = [
        Run(
            f"{number:04d}",
            snapshot,
            {"kind": KIND},
            [[Row(key, tasks={"kind": usable(label=str(number))})] for key in keys],
        )
        for number in (1, 2)
    ]
    for run in runs:
        begin(store, run, tmp_path)
    for shard in range(len(keys)):
        for run in runs:
            commit(store, run, shard=shard)
    counted = Counted(store)
    committed = look(store)
    types = committed_types(store, committed.runs)
    seen = 0
    for window in resolve(counted, committed, types):  # type: ignore[arg-type]
        seen += window.rows.num_rows
        assert counted.shards() <= 2 * seen + current.AHEAD + 2
    assert (seen, counted.shards()) == (24, 48)
    assert len(set(counted.read)) == len(counted.read)


class Counted:
    """A store that remembers what was read."""

    def __init__(self, store: BlobStore) -> None:
        self.root = store.root
        self._get: Callable[[str], bytes] = store.get
        self._lock = threading.Lock()
        self.read: list[str] = []

    def get(self, key: str) -> bytes:
        with self._lock:
            self.read.append(key)
        return self._get(key)

    def shards(self) -> int:
        with self._lock:
            return sum("/results/" in key for key in self.read)
