"""Drivers that are stopped in the middle: nothing lost, nothing doubled, and the same command goes on."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from tests.e2e.winnow import photographs, start, winnow, write_spec

STOPPED_WITHIN_S = 30.0


def wait_for_commits(results: Path, count: int, deadline_s: float = 120.0) -> None:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if results.is_dir() and len(list(results.glob("*.parquet"))) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} shards within {deadline_s:.0f} s")


def rows_of(results: Path) -> list[dict[str, object]]:
    return [row for path in sorted(results.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_run__kill_nine_of_the_driver_loses_and_doubles_nothing(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 240)
    spec = write_spec(tmp_path, shard_items=8)
    results = tmp_path / "out/runs/0001/results"
    driver = start("run", spec, cwd=tmp_path)
    wait_for_commits(results, 3)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    committed = len(list(results.glob("*.parquet")))
    assert 3 <= committed < 30
    assert not (tmp_path / "out/runs/0001/summary.json").exists()
    ended = winnow("run", spec, "--json", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "going on with 0001" in ended.err
    assert (ended.record["run_id"], ended.record["items"], ended.record["outcomes"]["done"]) == ("0001", 240, 240)
    rows = rows_of(results)
    assert len(rows) == 240
    assert set(Counter(row["key"] for row in rows).values()) == {1}
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == sorted(row["key"] for row in rows)


def test_run__ctrl_c_stops_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    photographs(tmp_path / "photos", 400)
    spec = write_spec(tmp_path, shard_items=8)
    driver = start("run", spec, cwd=tmp_path)
    wait_for_commits(tmp_path / "out/runs/0001/results", 1)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to everything that the command started
    _, said = driver.communicate(timeout=STOPPED_WITHIN_S)
    assert driver.returncode == 130, said
    assert f"go on with:  winnow run {spec}" in said
    assert "Traceback" not in said
    for path in (tmp_path / "out/runs/0001/results").iterdir():
        pq.read_table(path)
