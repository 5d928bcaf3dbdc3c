"""Does a compaction hold what reading all runs gives, whatever it goes on from? Does its pointer only go forward?"""

import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.jobs.histories import task
from tests.jobs.nights import NIGHTS, NOON, begin, night, write
from tests.storage.drawn_runs import many_runs as drawn_runs
from tests.storage.many_runs import (
    KIND,
    VECTOR,
    Row,
    Run,
    commit,
    comparable,
    naive_counts,
    naive_current,
    usable,
)
from winnow_jobs.compact import compact
from winnow_jobs.events import Event, Note, silent
from winnow_storage import compaction, compaction_writer
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.committed import look
from winnow_storage.current_view import CurrentView, view_current
from winnow_storage.dataset import current_files, read_current
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.parts import Part
from winnow_storage.uri import parse


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    root = str(tmp_path / "out") if request.param == "local" else f"{request.getfixturevalue('s3_bucket')}/out"
    return open_store(parse(root))


@pytest.fixture
def local(tmp_path: Path) -> BlobStore:
    return open_store(parse(str(tmp_path / "out")))


def compacted(store: BlobStore, notes: list[str] | None = None) -> dict[str, Any]:
    def listen(event: Event) -> None:
        if isinstance(event, Note) and notes is not None:
            notes.append(event.text)

    return compact(store, listen, lambda: NOON)


def on_the_fly(store: BlobStore) -> pa.Table:
    view = CurrentView(store.root, look(store), None)
    return pa.concat_tables([view.schema().empty_table(), *view.tables()])


def from_files(store: BlobStore) -> pa.Table:
    found = compaction.latest(store)
    assert found is not None
    return pa.concat_tables([pq.read_table(pa.BufferReader(store.get(part.key))) for part in found.files])


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thousands of small files, of which fsync would be most of the time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("unsynced")
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_compact__goes_on_to_what_reading_all_runs_gives(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    store = open_store(parse(str(folder / "out")))
    standing: list[Run] = []
    for run in data.draw(drawn_runs()):
        standing.append(replace(run, committed=frozenset()))
        begin(store, run, folder)
        for _ in range(data.draw(st.integers(1, 2))):
            for place, one in enumerate(standing):
                more = {shard for shard in range(len(one.shards)) if data.draw(st.booleans())}
                for shard in more - set(one.standing()):
                    commit(store, one, shard=shard)
                standing[place] = replace(one, committed=frozenset(more | set(one.standing())))
            record = compacted(store)
            assert from_files(store).equals(on_the_fly(store))
            assert comparable(from_files(store).to_pylist()) == comparable(naive_current(standing))
            assert (record["pending"], record["gone"]) == naive_counts(standing)
            assert view_current(store.root).compaction is not None


def test_compact__nights(store: BlobStore, tmp_path: Path) -> None:
    write(store, night(1), tmp_path)
    first = compacted(store)
    assert (first["wrote"], first["rows"], first["files"], first["base"]) == (True, 3, 1, None)
    (run,) = look(store).runs
    assert first["covers"] == {"0001": {"shards": 3, "planned": 3, "plan": run.plan}}
    assert first["tasks"] == {"kind": task("kind").digest}
    assert (first["job"], first["snapshot_run"], first["created_at"]) == ("shelves", "0001", NOON.isoformat())
    assert not compacted(store)["wrote"]
    write(store, night(2, "b", snapshot=NIGHTS | {"d.jpg": "v1"}), tmp_path)
    assert view_current(store.root).compaction is None
    before = read_current(store.root)
    notes: list[str] = []
    second = compacted(store, notes)
    assert (second["wrote"], second["rows"], second["pending"], second["base"]) == (True, 3, 1, 1)
    assert "reading compaction 1 and 1 shard of 1 run into" in notes[0]
    after = read_current(store.root)
    assert after.equals(before)
    assert [row["label"] for row in after["kind"].to_pylist()] == ["1a", "2b", "1c"]
    assert [row["run_id"] for row in after["kind"].to_pylist()] == ["0001", "0002", "0001"]
    assert second["superseded"] == []
    write(store, night(3, "c"), tmp_path)
    assert compacted(store)["superseded"] == [f"{store.root}/current/00000001/"]
    assert [store.info(part.key) is not None for part in json_parts(store, 1)] == [True]


def json_parts(store: BlobStore, number: int) -> list[Part]:
    document = json.loads(store.get(f"{compaction.folder_of(number)}_compaction.json"))
    return [Part(**part) for part in document["files"]]


def test_compact__reads_only_what_came_since(local: BlobStore, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        write(local, night(number), tmp_path)
    compacted(local)
    write(local, night(4, "b"), tmp_path)
    reads: list[str] = []
    compact(Watched(local, reads), silent, lambda: NOON)  # type: ignore[arg-type]
    assert {key.split("/")[1] for key in reads if "/results/" in key} == {"0004"}
    assert {row["run_id"] for row in read_current(local.root)["kind"].to_pylist()} == {"0003", "0004"}


class Watched:
    """A store that remembers which objects are read."""

    def __init__(self, store: BlobStore, reads: list[str]) -> None:
        self.root, self.info, self.walk, self.folders = store.root, store.info, store.walk, store.folders
        self.put, self.put_if_absent = store.put, store.put_if_absent
        self._store, self._reads = store, reads

    def get(self, key: str) -> bytes:
        self._reads.append(key)
        return self._store.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._reads.append(key)
        return self._store.get_range(key, start, length)


def test_compact__an_open_run_is_read_again(local: BlobStore, tmp_path: Path) -> None:
    run = night(1)
    begin(local, run, tmp_path)
    commit(local, run, shard=1)
    assert compacted(local)["pending"] == 2
    commit(local, run, shard=0)
    record = compacted(local)
    assert (record["base"], record["pending"], record["rows"]) == (1, 1, 2)


def test_compact__a_late_shard_of_an_older_run_reads_all(local: BlobStore, tmp_path: Path) -> None:
    first, second = night(1, "ab"), night(2, "b")
    begin(local, first, tmp_path)
    write(local, second, tmp_path)
    assert compacted(local)["rows"] == 1
    for shard in (0, 1):
        commit(local, first, shard=shard)
    record = compacted(local)
    assert (record["base"], record["rows"]) == (None, 2)
    assert [row["label"] for row in read_current(local.root)["kind"].to_pylist()] == ["1a", "2b"]


@pytest.mark.parametrize("older", [True, False])
def test_compact__a_run_that_was_removed_and_begun_again(older: bool, local: BlobStore, tmp_path: Path) -> None:
    write(local, night(1), tmp_path)
    if older:
        write(local, night(2, "b"), tmp_path)
    compacted(local)
    shutil.rmtree(tmp_path / "out/runs/0001")
    again = night(1, "ab")
    write(local, replace(again, snapshot=NIGHTS | {"d.jpg": "v1"}), tmp_path)
    assert view_current(local.root).compaction is None
    record = compacted(local)
    assert (record["wrote"], record["base"], record["rows"]) == (True, None, 2)
    assert from_files(local).equals(on_the_fly(local))


def test_compact__a_version_that_comes_back_reads_all(local: BlobStore, tmp_path: Path) -> None:
    write(local, night(1), tmp_path)
    compacted(local)
    write(local, night(2, "a", "v2", {"a.jpg": "v2", "b.jpg": "v1"}), tmp_path)
    record = compacted(local)
    assert (record["base"], record["gone"], record["rows"]) == (1, 1, 2)
    write(local, night(3, "b", snapshot=NIGHTS), tmp_path)
    notes: list[str] = []
    record = compacted(local, notes)
    assert any("back in a version that had left" in note for note in notes)
    assert (record["base"], record["gone"], record["rows"]) == (None, 0, 3)
    assert [row["label"] for row in read_current(local.root)["kind"].to_pylist()] == ["1a", "3b", "1c"]


def test_compact__another_field_reads_all(local: BlobStore, tmp_path: Path) -> None:
    write(local, night(1), tmp_path)
    compacted(local)
    wider = Run("0002", NIGHTS, {"kind": [*KIND, pa.field("margin", pa.float32())], "vector": VECTOR}, [[Row("a.jpg")]])
    write(local, wider, tmp_path)
    assert compacted(local)["base"] is None
    assert read_current(local.root, ["kind.margin"])["kind"].type == pa.struct([pa.field("margin", pa.float32())])


def test_compact__files_and_row_groups_of_a_moderate_size(
    local: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction_writer, "GROUP_ROWS", 4)
    monkeypatch.setattr(compaction_writer, "PART_ROWS", 8)
    keys = [f"{number:02d}.jpg" for number in range(30)]
    rows = [[Row(key, tasks={"kind": usable(label=key)})] for key in keys]
    write(local, Run("0001", dict.fromkeys(keys, "v1"), {"kind": KIND}, rows), tmp_path)
    record = compacted(local)
    found = compaction.latest(local)
    assert found is not None
    assert [part.rows for part in found.files] == [8, 8, 8, 6]
    assert record["bytes"] == sum(part.bytes for part in found.files)
    for part in found.files:
        data = local.get(part.key)
        metadata = pq.read_metadata(pa.BufferReader(data))
        assert (len(data), metadata.num_row_groups) == (part.bytes, 2)
    assert read_current(local.root)["key"].to_pylist() == keys


def test_compact__its_folder_is_a_dataset_of_its_own(local: BlobStore, tmp_path: Path) -> None:
    write(local, night(1), tmp_path)
    write(local, night(2, "a", snapshot={"a.jpg": "v1", "b.jpg": "v1"}), tmp_path)
    record = compacted(local)
    assert (record["gone"], record["rows"]) == (1, 2)
    assert pd.read_parquet(record["folder"])["key"].tolist() == ["a.jpg", "b.jpg"]
    assert duckdb.sql(f"SELECT key FROM '{record['folder']}*.parquet'").fetchall() == [("a.jpg",), ("b.jpg",)]


def test_compact__nothing_committed_yet(local: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no runs yet") as caught:
        compacted(local)
    assert caught.value.hint == "winnow run SPEC"
    begin(local, night(1), tmp_path)
    record = compacted(local)
    assert (record["rows"], record["files"], record["pending"]) == (0, 1, 3)
    assert read_current(local.root).num_rows == 0


def test_compact__two_at_once(store: BlobStore, tmp_path: Path) -> None:
    write(store, night(1), tmp_path)
    start, found = threading.Barrier(4), []

    def work() -> None:
        start.wait()
        found.append(compacted(store))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    named = compaction.latest(store)
    assert named is not None
    assert named.number == max(record["number"] for record in found)
    assert from_files(store).equals(on_the_fly(store))


def test_publish__the_pointer_only_goes_forward(store: BlobStore, tmp_path: Path) -> None:
    write(store, night(1), tmp_path)
    compacted(store)
    old = compaction.latest(store)
    assert old is not None
    write(store, night(2), tmp_path)
    compacted(store)
    new = compaction.latest(store)
    assert new is not None
    assert new.number == 2
    slow = replace(old, number=compaction.claim(store))  # began before run 2, and ends after its compaction
    assert compaction.publish(store, slow) == new
    assert compaction.latest(store) == new
    store.put(compaction.POINTER, old.encode())  # one that was put after it looked, by a process that died
    assert view_current(store.root).compaction is None
    assert compaction.publish(store, slow) == new
    assert compaction.latest(store) == new
    with pytest.raises(StoreError, match="two compactions wrote under one number"):
        compaction.publish(store, replace(slow, rows=99))


def test_readers__the_old_files_stay_while_a_new_compaction_is_made(local: BlobStore, tmp_path: Path) -> None:
    write(local, night(1), tmp_path)
    compacted(local)
    files, view = current_files(local.root), view_current(local.root)
    before = read_current(local.root)
    write(local, night(2, "a"), tmp_path)
    compacted(local)
    assert current_files(local.root) != files
    assert pa.concat_tables([pq.read_table(one) for one in files]).equals(before)
    assert pa.concat_tables(view.tables()).equals(before)


def test_latest__a_foreign_pointer(local: BlobStore) -> None:
    later = json.dumps(json.loads(example()) | {"format": 9}).encode()
    for data, says in ((b"{}", "is not what this version"), (later, "has the format 9")):
        local.put(compaction.POINTER, data)
        with pytest.raises(StoreError, match=says) as caught:
            compaction.latest(local)
        assert caught.value.hint


def example() -> bytes:
    return compaction.Compaction(
        format=1, number=1, job="j", created_at="", snapshot_run="0001", base=None, files=(), left=(), rows=0,
        pending=0, gone=0, dropped=0, covers={}, tasks={},
    ).encode()  # fmt: skip
