"""Do DuckDB, pandas and polars read `current` as Winnow does, and does docs/reading.md say how?"""

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from tests.storage.compactions import compact_all
from tests.storage.many_runs import KIND, VECTOR, Row, Run, failed, naive_current, usable, write_runs
from winnow_storage import blobs, uri
from winnow_storage.current_view import CurrentView, view_current
from winnow_storage.dataset import current_files, iter_current, read_current
from winnow_storage.errors import StoreError
from winnow_storage.uri import Location

DOC = Path(__file__).parents[2] / "docs/reading.md"
SNAPSHOT = {"a.jpg": "v1", "b/\u00fc.jpg": "v2", "c.jpg": "v1", "d.jpg": "v1"}
COLUMNS = [
    ["key"],
    ["kind.label", "key"],
    ["kind.run_id", "kind.label", "vector"],
    ["failed_tasks"],
    ["outcome", "failed_tasks", "kind.label"],
    ["vector.vector.list.element"],
    ["nothing", "kind.nothing"],
]


def vector(number: int) -> list[float]:
    return [number + 0.5, 0, 1, 2]


def runs() -> list[Run]:
    """Three nights: two tasks; then one of them (an item fails, one is new); then the other, on a changed item."""
    first = [
        Row("a.jpg", tasks={"kind": usable(label="a1"), "vector": usable(vector=vector(1))}),
        Row("b/\u00fc.jpg", tasks={"kind": usable(label="b1"), "vector": usable(vector=vector(2))}),
        Row("gone.jpg", tasks={"kind": usable(label="g1"), "vector": usable(vector=vector(3))}),
    ]
    second = [Row("a.jpg", tasks={"kind": failed()}), Row("c.jpg", outcome="unreadable")]
    third = [Row("b/\u00fc.jpg", "v2", tasks={"vector": usable(vector=vector(4))})]
    return [
        Run("0001", {"a.jpg": "v1", "gone.jpg": "v1"}, {"kind": KIND, "vector": VECTOR}, [first[:2], first[2:]]),
        Run("0002", SNAPSHOT, {"kind": [*KIND, pa.field("margin", pa.float32())]}, [second]),
        Run("0010", SNAPSHOT, {"vector": VECTOR}, [third]),
    ]


@pytest.fixture(params=["local", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    place = str(tmp_path / "out") if request.param == "local" else f"{request.getfixturevalue('s3_bucket')}/a/out"
    return filled(uri.parse(place), tmp_path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """`out` below the working directory, as in the doc."""
    monkeypatch.chdir(tmp_path)
    return filled(uri.parse(str(tmp_path / "out")), tmp_path)


def filled(output: Location, folder: Path) -> Location:
    write_runs(blobs.open_store(output), runs(), folder)
    return output


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)


def sql_of_the_doc() -> list[duckdb.DuckDBPyRelation]:
    """The answer of every SELECT in the doc, its statements run in order on one connection."""
    connection = duckdb.connect()
    found = []
    for statement in duckdb.extract_statements("\n".join(blocks("sql"))):
        if statement.type == duckdb.StatementType.SELECT:
            found.append(connection.sql(statement.query))
        else:
            connection.execute(statement)
    return found


def test_read_current__as_a_dictionary_says(output: Location) -> None:
    rows = read_current(output).to_pylist()
    assert rows == naive_current(runs())
    assert [row["key"] for row in rows] == ["a.jpg", "b/\u00fc.jpg", "c.jpg"]
    assert read_current(str(output)).to_pylist() == rows


@pytest.mark.parametrize("columns", [None, *COLUMNS], ids=str)
def test_read_current__the_same_from_files_and_on_the_fly(folder: Location, columns: list[str] | None) -> None:
    output = folder
    assert view_current(output).compaction is None
    merged = read_current(output, columns)
    compact_all(blobs.open_store(output))
    assert view_current(output).compaction is not None
    assert read_current(output, columns).equals(merged)
    whole = read_current(output)
    for name in merged.column_names:
        if merged.schema.field(name).type == whole.schema.field(name).type:
            assert merged[name].equals(whole[name])
    tables = list(iter_current(output, columns))
    assert sum(table.num_rows for table in tables) == (whole.num_rows if merged.column_names else 0)


def test_read_current__a_compaction_that_is_behind_is_not_used(output: Location, tmp_path: Path) -> None:
    compact_all(blobs.open_store(output))
    later = Run("0011", SNAPSHOT, {"kind": KIND}, [[Row("d.jpg", tasks={"kind": usable(label="d")})]])
    write_runs(blobs.open_store(output), [later], tmp_path)
    assert read_current(output).to_pylist() == naive_current([*runs(), later])


def test_read_current__nothing_there(tmp_path: Path) -> None:
    assert read_current(str(tmp_path)).num_rows == 0
    assert read_current(str(tmp_path), ["key", "kind"]).column_names == ["key"]
    with pytest.raises(StoreError, match="no compaction yet") as caught:
        current_files(str(tmp_path))
    assert caught.value.hint == "make one: winnow compact SPEC"


def test_current_files__names_as_readers_take_them(output: Location) -> None:
    compact_all(blobs.open_store(output))
    assert current_files(output) == [f"{output}/current/00000001/part-00000.parquet"]


@pytest.mark.parametrize("compacted", [True, False])
def test_pandas__types_and_embeddings(folder: Location, compacted: bool) -> None:
    if compacted:
        compact_all(blobs.open_store(folder))
    frame = read_current(folder).to_pandas()
    assert frame["shard"].dtype == np.int32
    assert frame["width"].dtype == np.float64  # one of them is null
    assert frame["width"].tolist()[:2] == [640, 640]
    assert frame.loc[2, "outcome"] == "unreadable"
    assert frame.loc[2, "kind"] is None
    embedding = frame.loc[0, "vector"]["vector"]
    assert embedding.dtype == np.float16
    assert embedding.tolist() == vector(1)
    narrow = read_current(folder, ["vector.vector"])["vector"].combine_chunks()
    assert narrow.type == pa.struct([pa.field("vector", pa.list_(pa.float16(), 4))])
    assert narrow.drop_null().field("vector").to_pylist() == [vector(1), vector(4)]


def test_pandas_and_polars__from_the_files(folder: Location) -> None:
    compact_all(blobs.open_store(folder))
    files = current_files("out")
    frame = pd.concat(map(pd.read_parquet, files))
    assert [kind and kind["label"] for kind in frame["kind"]] == ["a1", None, None]
    assert frame["vector"].iloc[1]["vector"].tolist() == vector(4)
    lazy = pl.scan_parquet(files)
    assert lazy.select("key", pl.col("kind").struct.field("label")).collect().rows() == [
        ("a.jpg", "a1"),
        ("b/\u00fc.jpg", None),
        ("c.jpg", None),
    ]
    assert lazy.collect()["vector"].struct.field("vector").to_list()[1] == vector(4)


def test_polars__reads_on_the_fly(folder: Location) -> None:
    frame = pl.from_arrow(read_current(folder, ["key", "vector.vector"]))
    assert isinstance(frame, pl.DataFrame)
    assert frame["vector"].struct.field("vector").to_list() == [vector(1), vector(4), None]


def test_reading_md__its_sql_says_what_read_current_says(folder: Location) -> None:
    compact_all(blobs.open_store(folder))
    from_files, one_task, many_tasks = sql_of_the_doc()
    rows = read_current(folder).to_pylist()
    with_kind = [row for row in rows if row["kind"] is not None]
    assert len(with_kind) == 1
    assert from_files.fetchall() == [(row["key"], row["kind"]["label"], row["kind"]["run_id"]) for row in with_kind]
    assert one_task.fetchall() == [
        (row["key"], row["kind"]["label"], row["kind"]["score"], row["kind"]["run_id"]) for row in with_kind
    ]
    assert many_tasks.columns == ["key", "outcome", "kind", "vector"]
    for found, row in zip(many_tasks.fetchall(), rows, strict=True):
        assert found[:2] == (row["key"], row["outcome"])
        assert without_run(found[2]) == without_run(row["kind"])
        assert without_run(found[3]) == without_run(row["vector"])


def without_run(struct: dict[str, Any] | None) -> dict[str, Any] | None:
    if struct is None:
        return None
    return {name: list(value) if name == "vector" else value for name, value in struct.items() if name != "run_id"}


def test_reading_md__its_python_runs(folder: Location) -> None:
    compact_all(blobs.open_store(folder))
    said = [
        block.replace("s3://acme-results/shelf-audit", "out").replace("num_workers=4", "num_workers=0")
        for block in blocks("python")
    ]
    assert len(said) == 3
    for block in said:
        exec(compile(block, DOC.name, "exec"), {})


def test_view__of_one_moment(folder: Location, tmp_path: Path) -> None:
    view = view_current(folder)
    before = pa.concat_tables(view.tables())
    later = Run("0011", {"a.jpg": "v1"}, {"kind": KIND}, [[Row("a.jpg", tasks={"kind": usable(label="later")})]])
    write_runs(blobs.open_store(folder), [later], tmp_path)
    assert pa.concat_tables(view.tables()).equals(before)
    assert isinstance(view, CurrentView)
    assert read_current(folder).num_rows == 1
