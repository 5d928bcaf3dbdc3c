"""Are embeddings read as they were committed, whatever runs, failures and compactions there are?"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.storage.compactions import compact_all
from tests.storage.many_runs import KIND, VECTOR, Row, Run, failed, usable, write_runs
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.current_view import view_current
from winnow_storage.errors import StoreError
from winnow_storage.ids import item_id
from winnow_storage.uri import parse
from winnow_storage.vectors import current_vectors, run_vectors, unit

SNAPSHOT = {f"{name}.jpg": "v1" for name in "abcdef"}


def row(name: str, *values: float, **also: dict[str, object]) -> Row:
    return Row(f"{name}.jpg", "v1", {"vector": usable(vector=list(values))} | also)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    """Two runs: the second one redoes b, fails at a, and has another task beside it."""
    local = open_store(parse(str(tmp_path / "out")))
    first = Run(
        "0001",
        SNAPSHOT,
        {"vector": VECTOR},
        [[row("a", 1, 0, 0, 0), row("b", 0, 1, 0, 0)], [row("c", 0, 0, 0.5, 0), Row("d.jpg", outcome="unreadable")]],
    )
    second = Run(
        "0002",
        SNAPSHOT,
        {"vector": VECTOR, "kind": KIND},
        [
            [Row("a.jpg", tasks={"vector": failed(), "kind": usable(label="x")}), row("b", 0, 0, 0, 2)],
            [row("e", 3, 0, 0, 0)],
        ],
    )
    write_runs(local, [first, second], tmp_path)
    return local


@pytest.mark.parametrize("compacted", [False, True])
def test_current__the_newest_usable_vectors_by_key(store: BlobStore, compacted: bool) -> None:
    if compacted:
        compact_all(store)
    blocks = list(current_vectors(view_current(store.root), "vector").blocks())
    rows = pa.concat_tables([block.rows for block in blocks])
    assert rows["key"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg", "e.jpg"]
    assert rows["run_id"].to_pylist() == ["0001", "0002", "0001", "0002"]
    found = np.concatenate([block.vectors for block in blocks])
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0.5, 0], [3, 0, 0, 0]]
    assert {block.stored for block in blocks} == {"float16"}


def test_current__only_what_some_runs_made(store: BlobStore) -> None:
    blocks = current_vectors(view_current(store.root), "vector", runs=["0002"]).blocks()
    assert [key for block in blocks for key in block.rows["key"].to_pylist()] == ["b.jpg", "e.jpg"]
    assert list(current_vectors(view_current(store.root), "vector", runs=[]).blocks()) == []


def test_run__what_it_committed_alone(store: BlobStore) -> None:
    blocks = list(run_vectors(store, "0001", "vector").blocks())
    assert [block.rows["key"].to_pylist() for block in blocks] == [["a.jpg", "b.jpg"], ["c.jpg"]]
    assert blocks[0].rows["run_id"].to_pylist() == ["0001", "0001"]


def test_of_items__in_the_order_of_the_rows(store: BlobStore) -> None:
    wanted = [item_id("corpus", f"{name}.jpg") for name in "eca"] + ["unknown"]
    vectors = current_vectors(view_current(store.root), "vector")
    found = vectors.of_items(wanted)
    assert found.rows["key"].to_pylist() == ["a.jpg", "c.jpg", "e.jpg"]
    assert found.vectors.shape == (3, 4)
    assert vectors.of_items([]).vectors.shape[0] == 0


def test_current__a_task_without_vectors(store: BlobStore) -> None:
    with pytest.raises(StoreError, match="the rows of the task 'kind' hold no vectors"):
        list(current_vectors(view_current(store.root), "kind").blocks())


def test_unit__zeros_stay() -> None:
    found = unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float16))
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]))
