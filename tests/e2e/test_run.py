"""A job over a folder, night after night: what is due, what its record says, how it is tried on less."""

from collections import Counter
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from tests.e2e.winnow import photographs, winnow, write_spec


def a_night_on_which_an_image_is_gone(image: Path, spec: Path, cwd: Path) -> None:
    """After three runs over 23 images."""
    image.unlink()
    gone = winnow("run", spec, "--json", cwd=cwd)
    assert gone.code == 0, gone.err
    assert (gone.record["state"], gone.record["run_id"], gone.record["items"]) == ("nothing_due", "0004", 0)
    assert gone.record["results"] is None
    verified = winnow("verify", "--all", spec, "--json", cwd=cwd)
    assert (verified.code, verified.record["sound"], len(verified.record["runs"])) == (0, True, 4), verified.out
    compacted = winnow("compact", spec, "--json", cwd=cwd)
    assert compacted.code == 0, compacted.err
    assert (compacted.record["rows"], compacted.record["gone"], compacted.record["pending"]) == (22, 1, 0)


def test_run__nights_over_a_growing_folder(tmp_path: Path) -> None:
    photos = photographs(tmp_path / "photos", 20)
    (tmp_path / "photos/broken.jpg").write_bytes(photos[1].read_bytes()[:300])
    (tmp_path / "photos/notes.txt").write_text("not an item")
    spec = write_spec(tmp_path)

    planned = winnow("plan", spec, "--json", cwd=tmp_path)
    assert (planned.code, planned.err) == (0, "")  # nor does torch, which it imports, complain at the end
    assert (planned.record["due_items"], planned.record["other_files"]) == (21, 1)
    assert planned.record["tasks"][0]["why"] == "no run has performed this task"
    assert not (tmp_path / "out").exists()

    first = winnow("run", spec, "--json", cwd=tmp_path)
    assert first.code == 3, first.err
    assert "winnow run" in first.err
    assert "--retry unreadable" in first.err
    record = first.record
    assert record["run_id"] == "0001"
    assert record["state"] == "partial"
    assert record["items"] == 21
    assert record["outcomes"] == {
        "done": 20, "unreadable": 1, "missing": 0, "rejected": 0, "failed": 0, "unavailable": 0,
    }  # fmt: skip
    assert record["shards"] == 3
    assert record["predictions"] == {"vector": 20, "kind": 20}
    assert (record["review"]["selected"], record["review"]["pushed"]) == (0, 0)
    assert record["output"] == str(tmp_path / "out")

    # the README's query, and the same by pandas and polars, over a plain glob
    query = f"SELECT outcome, count(*) FROM '{record['results']}' GROUP BY outcome"
    counts = dict(duckdb.sql(query).fetchall())
    assert counts == {"done": 20, "unreadable": 1}
    results = sorted((tmp_path / "out/runs/0001/results").glob("*.parquet"))
    assert Counter(pd.concat(pd.read_parquet(path) for path in results)["outcome"]) == counts
    assert dict(pl.read_parquet(record["results"])["outcome"].value_counts().iter_rows()) == counts
    marked = duckdb.sql(f"SELECT DISTINCT kind.model FROM '{record['results']}' WHERE outcome = 'done'").fetchall()
    assert marked == [("random:1",)]

    again = winnow("run", spec, "--json", cwd=tmp_path)
    assert again.code == 0, again.err
    assert again.record["state"] == "nothing_due"
    assert "nothing is due" in again.err

    photographs(tmp_path / "photos", 2, first=100)
    photos[0].write_bytes(photographs(tmp_path / "elsewhere", 1, first=500)[0].read_bytes())
    third = winnow("run", spec, "--json", cwd=tmp_path)
    assert third.code == 0, third.err
    assert (third.record["run_id"], third.record["items"], third.record["state"]) == ("0002", 3, "done")

    retried = winnow("run", spec, "--retry", "unreadable", "--tolerate", "unreadable", "--json", cwd=tmp_path)
    assert (retried.code, retried.record["items"], retried.record["state"]) == (0, 1, "partial")

    a_night_on_which_an_image_is_gone(photos[2], spec, tmp_path)
    told = winnow("status", spec, "--json", cwd=tmp_path)
    assert [run["state"] for run in told.record["runs"]] == ["partial", "done", "partial", "done"]


def test_run__a_few_items_first_then_one_task_more(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 12)
    spec = write_spec(tmp_path)
    few = winnow("run", spec, "--limit", "3", "--tasks", "vector", "--json", cwd=tmp_path)
    assert few.code == 0, few.err
    assert few.record["predictions"] == {"vector": 3}
    sampled = winnow("run", spec, "--sample", "4", "--json", cwd=tmp_path)
    assert sampled.record["items"] == 4
    rest = winnow("run", spec, "--profile", "--json", cwd=tmp_path)
    assert rest.code == 0, rest.err
    profile = rest.record["profile"]
    assert profile["bottleneck"] in {"fetch_decode", "vector", "kind", "encode"}
    assert sum(one["share"] for one in profile["stages"]) == pytest.approx(1, abs=0.01)
    assert profile["bare_items_per_s"] > 0
    assert profile["ratio"] is None  # too few shards for a steady rate
    vectors: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for path in sorted((tmp_path / "out/runs").glob("*/results/*.parquet")):
        for row in pq.read_table(path).to_pylist():
            vectors[row["key"]] += row["vector"] is not None
            kinds[row["key"]] += row.get("kind") is not None
    assert len(vectors) == 12
    assert set(vectors.values()) == {1}
    assert set(kinds.values()) == {1}


def test_run__a_changed_spec_does_not_go_on_with_an_open_run(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 8)
    spec = write_spec(tmp_path)
    assert winnow("run", spec, cwd=tmp_path).code == 0
    # reopen: what is left of a run whose driver died before it closed it
    (tmp_path / "out/runs/0001/summary.json").unlink()
    next((tmp_path / "out/runs/0001/results").iterdir()).unlink()
    write_spec(tmp_path, more="limits: {max_pixels: 1000000}\n")
    refused = winnow("run", spec, cwd=tmp_path)
    assert refused.code == 2
    assert "run 0001 of test is still open" in refused.err
    assert "limits.max_pixels: 100000000 -> 1000000" in refused.err
    assert f"winnow resume 0001 --output {tmp_path / 'out'}" in refused.err
    resumed = winnow("resume", "0001", "--output", tmp_path / "out", "--json", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    assert resumed.record["state"] == "done"
    closed = winnow("resume", "0001", "--output", tmp_path / "out", cwd=tmp_path)
    assert closed.code == 2
    assert "is closed (done)" in closed.err
