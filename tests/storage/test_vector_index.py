"""Does the index find what is near, is it kept, and made anew only where rows changed?"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.storage.clouds import clustered, table_of, vectors_of
from winnow_storage.blobs import BlobStore, open_store
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.ids import item_id
from winnow_storage.neighbours import nearest
from winnow_storage.uri import parse
from winnow_storage.vector_index import Place, VectorIndex, ensure_index

SMALL = {"cut": "0", "min_rows": 100}  # an id in sixteen ends a segment, of a hundred rows at least
STORED = clustered(2000, 48)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(open_store(parse(str(tmp_path / "out"))), "vector", "5" * 64)


def index_of(place: Place, table: pa.Table, view: str) -> VectorIndex:
    return ensure_index(place, vectors_of(table), view, **SMALL)


def names(store: BlobStore, suffix: str) -> set[str]:
    return {info.key for info in store.walk("indexes/") if info.key.endswith(suffix)}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_index__finds_nearly_all_with_the_very_scores(place: Place, dtype: str) -> None:
    table = table_of(STORED, dtype=dtype)
    index = index_of(place, table, "v1")
    assert (index.built, index.manifest.rows) == (2000, 2000)
    assert len(index.manifest.segments) > 5
    queries = clustered(50, 48, seed=9)
    hits = 0
    for ours, theirs in zip(index.nearest(queries, 10), nearest(vectors_of(table), queries, 10), strict=True):
        expected = dict(zip(theirs.rows["key"].to_pylist(), theirs.scores.tolist(), strict=True))
        both = [key for key in ours.rows["key"].to_pylist() if key in expected]
        hits += len(both)
        scores = dict(zip(ours.rows["key"].to_pylist(), ours.scores.tolist(), strict=True))
        assert [scores[key] for key in both] == [expected[key] for key in both]
        assert ours.rows.schema == theirs.rows.schema
    assert hits >= 0.99 * 500


def test_index__of_the_same_view_is_kept(place: Place) -> None:
    table = table_of(STORED)
    index_of(place, table, "v1")
    again = index_of(place, table, "v1")
    assert again.built == 0
    assert names(place.store, ".usearch") == {
        place.key(f"{segment.graph}.usearch") for segment in again.manifest.segments
    }


def test_index__only_segments_with_new_rows_are_built(place: Place) -> None:
    vector = {f"{number:06d}.jpg": one for number, one in enumerate(STORED)}
    first = index_of(place, table_of(STORED, keys=sorted(vector)), "v1")
    # one item is gone, one has come, in different places
    gone = vector.pop("000300.jpg")
    vector["001200-new.jpg"] = clustered(1, 48, seed=5)[0]
    table = table_of(np.stack([vector[key] for key in sorted(vector)]), keys=sorted(vector))
    second = index_of(place, table, "v2")
    assert second.manifest.rows == 2000
    assert 0 < second.built < 1000
    assert {one.graph for one in first.manifest.segments} & {one.graph for one in second.manifest.segments}
    (found,) = second.nearest(vector["001200-new.jpg"][None], 1)
    assert found.rows["key"].to_pylist() == ["001200-new.jpg"]
    assert "000300.jpg" not in second.nearest(gone[None], 50)[0].rows["key"].to_pylist()


def test_index__deleted_is_built_again(place: Place) -> None:
    table = table_of(STORED[:500])
    index_of(place, table, "v1")
    for key in [*names(place.store, ".usearch")]:
        (Path(place.store.root.path) / key).unlink()
    assert index_of(place, table, "v1").built == 500


def test_index__damaged_is_never_opened(place: Place) -> None:
    index_of(place, table_of(STORED[:500]), "v1")
    for key in names(place.store, ".usearch"):
        place.store.put(key, b"x" * 100)
    with pytest.raises(StoreError, match="is damaged") as raised:
        index_of(place, table_of(STORED[:500]), "v1").nearest(STORED[:1], 3)
    assert raised.value.hint == "remove that object: the same command makes it again"


def test_index__a_manifest_that_nobody_understands_is_made_again(place: Place) -> None:
    index_of(place, table_of(STORED[:500]), "v1")
    place.store.put(place.key("view-v1.json"), b'{"format": 99}')
    assert index_of(place, table_of(STORED[:500]), "v1").built == 0  # the segments stand


def test_index__what_is_left_out_and_more_than_there_is(place: Place) -> None:
    index = index_of(place, table_of(STORED[:30]), "v1")
    own = item_id("c", "000003.jpg")
    (found,) = index.nearest(STORED[3:4], 100, leave_out=[own])
    assert found.rows.num_rows == 29
    assert own not in found.rows["item_id"].to_pylist()
    assert np.all(np.diff(found.scores) <= 0)


def test_index__of_nothing(place: Place) -> None:
    index = index_of(place, table_of(np.empty((0, 4), np.float32)), "v1")
    assert index.manifest.rows == 0


def test_index__another_width(place: Place) -> None:
    with pytest.raises(UsageError, match="the query has 4 numbers, the vectors have 48"):
        index_of(place, table_of(STORED[:30]), "v1").nearest(np.ones((1, 4)), 3)
