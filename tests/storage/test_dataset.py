"""Do results read back the same with Winnow, DuckDB, pandas and polars?"""

from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.storage.shard_rows import receipt, shard_rows, vector
from winnow_storage import blobs, dataset, shards, uri
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import StoreError


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    root = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3_bucket")
    return filled(blobs.open_store(uri.parse(root)))


@pytest.fixture
def glob(tmp_path: Path) -> str:
    output = uri.parse(str(tmp_path / "out put"))
    filled(blobs.open_store(output))
    return dataset.results_glob(output, "0001")


def filled(store: BlobStore) -> BlobStore:
    for shard in (0, 1, 2):
        shards.commit_shard(store, shards.encode_shard(shard_rows(shard), receipt(shard)), receipt(shard))
    return store


def test_results_glob__folder_and_bucket() -> None:
    assert dataset.results_glob(uri.parse("/out put"), "0007") == "/out put/runs/0007/results/*.parquet"
    assert dataset.results_glob(uri.parse("s3://b/p"), "0007") == "s3://b/p/runs/0007/results/*.parquet"
    assert dataset.results_glob(uri.parse("s3://b"), "0007") == "s3://b/runs/0007/results/*.parquet"


def test_read_results__all_rows(store: BlobStore) -> None:
    expected = pa.concat_tables([shard_rows(shard) for shard in (0, 1, 2)])
    assert dataset.read_results(store, "0001").equals(expected)


def test_read_results__columns(store: BlobStore) -> None:
    rows = dataset.read_results(store, "0001", ["shard", "kind.label", "vector"])
    assert rows.column_names == ["shard", "kind", "vector"]
    assert rows.schema.field("kind").type == pa.struct([pa.field("label", pa.string())])
    assert rows.column("shard").to_pylist() == [0] * 5 + [1] * 5 + [2] * 5
    assert rows.column("vector").to_pylist()[0]["vector"] == vector(0)


def test_iter_results__shard_by_shard(store: BlobStore) -> None:
    found = list(dataset.iter_results(store, "0001", ["item_id"]))
    assert [(shard, rows.num_rows) for shard, rows in found] == [(0, 5), (1, 5), (2, 5)]


def test_read_results__nothing_committed(store: BlobStore) -> None:
    assert dataset.read_results(store, "0002").num_rows == 0
    assert dataset.read_results(store, "0002", ["outcome", "kind"]).column_names == ["outcome"]


def test_read_results__damaged_shard(store: BlobStore) -> None:
    store.put(shards.shard_key("0001", 1), b"damaged")
    with pytest.raises(StoreError, match=r"00000001\.parquet is not a shard"):
        dataset.read_results(store, "0001")


def test_duckdb__plain_glob(glob: str) -> None:
    counts = duckdb.sql(f"SELECT outcome, count(*) FROM '{glob}' GROUP BY 1 ORDER BY 1").fetchall()
    assert counts == [("done", 12), ("unreadable", 3)]
    query = f"SELECT kind.label, vector.vector, parts.masks[1].size FROM '{glob}' WHERE outcome = 'done' AND shard = 1"
    rows = duckdb.sql(f"{query} ORDER BY item_id").fetchall()
    assert [row[0] for row in rows] == ["label 0", "label 1", "label 0", "label 1"]
    assert [list(row[1]) for row in rows] == [[float(value) for value in vector(number)] for number in range(4)]
    assert list(rows[0][2]) == [4, 3]


def test_pandas__plain_folder(glob: str) -> None:
    frame = pd.read_parquet(glob.removesuffix("/*.parquet"))
    assert frame["outcome"].value_counts().to_dict() == {"done": 12, "unreadable": 3}
    first = frame.sort_values("item_id").iloc[0]
    assert first["kind"]["label"] == "label 0"
    assert list(first["vector"]["vector"]) == vector(0)


def test_polars__plain_glob(glob: str) -> None:
    frame = pl.read_parquet(glob).sort("item_id")
    assert dict(frame.group_by("outcome").len().rows()) == {"done": 12, "unreadable": 3}
    assert frame["kind"].struct.field("label")[0] == "label 0"
    assert list(frame["vector"].struct.field("vector")[0]) == vector(0)
