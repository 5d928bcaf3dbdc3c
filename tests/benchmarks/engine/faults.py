"""What do faults do to a run here, and what do two runners do to one checkpoint of Ray Data? The short form.

`python -m tests.benchmarks.engine.faults` kills processes in the middle of work; `--peer` starts two
runners of a Ray Data job on one CheckpointConfig, and two drivers on one run of ours, and counts rows.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.engine.soak import line_of, setup
from tests.faults.arena import Driver, Shape, arena_in, corpus_in
from tests.faults.campaign import campaign, prepare
from tests.faults.processes import end_session
from tests.faults.verdict import rows_in

KILLS = 25
ROWS, FILES = 1000, 40  # Ray Data checkpoints a file at a time: the rows of a file are its shard
ROW_S = 0.01
RUNNERS = 2
END_S = 300.0


def kills(seed: int, count: int) -> dict[str, object]:
    """The engine under the faults of `make test`."""
    with tempfile.TemporaryDirectory(prefix="winnow-faults-") as scratch:
        done = campaign(prepare(Path(scratch), Shape()), seed, "short", kills=count, whole=True, tell=_tell)
    return line_of("5, kills, short form", done, count)


def peer() -> dict[str, object]:
    """Two runners at once over the same thousand rows, of Ray Data and of ours."""
    with tempfile.TemporaryDirectory(prefix="winnow-peer-") as scratch:
        figure = {"ray_data": _two_runners(Path(scratch) / "ray"), "winnow": _two_drivers(Path(scratch) / "winnow")}
    ours = figure["winnow"]
    return {
        "point": "5, two runners on one checkpoint",
        "figure": figure,
        "target": "ours: every row once",
        "holds": ours["rows"] == ROWS and ours["doubled"] == 0,
        "setup": setup(),
    }


def _two_runners(folder: Path) -> dict[str, Any]:
    (folder / "in").mkdir(parents=True)
    size = ROWS // FILES
    for number in range(FILES):
        ids = pa.table({"id": pa.array(range(number * size, (number + 1) * size), pa.int64())})
        pq.write_table(ids, folder / f"in/{number:03d}.parquet")
    command = [sys.executable, "-m", "tests.benchmarks.engine.faults", "--runner", folder]
    with (folder / "said").open("wb") as said:
        runners = [subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True) for _ in range(RUNNERS)]
        try:
            codes = [runner.wait(END_S) for runner in runners]
        finally:
            for runner in runners:
                end_session(runner.pid)
    found = [
        row for path in sorted((folder / "out").rglob("*.parquet")) for row in pq.read_table(path)["id"].to_pylist()
    ]
    return {"exits": codes, "rows": len(found), "doubled": len(found) - len(set(found))}


def run_ray_data(folder: Path) -> None:
    """One runner, as Ray Data documents it: a unique id, and a checkpoint that survives the job."""
    import ray
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    ray.init(address="local", include_dashboard=False, object_store_memory=256 * 2**20)
    DataContext.get_current().checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=str(folder / "checkpoint"), delete_checkpoint_on_success=False
    )
    rows = ray.data.read_parquet(str(folder / "in"), override_num_blocks=FILES)
    rows.map(_think, num_cpus=0.5).write_parquet(str(folder / "out"))


def _think(row: dict[str, Any]) -> dict[str, Any]:
    import time

    time.sleep(ROW_S)
    return row | {"answer": row["id"] * 2}


def _two_drivers(folder: Path) -> dict[str, Any]:
    corpus = corpus_in(folder / "corpus", ROWS)
    shape = Shape(items=ROWS, shard_items=ROWS // FILES, actors=1, item_s=ROW_S, sync_s=0.0)
    with arena_in(folder / "run", corpus, shape) as arena:
        drivers: list[Driver] = [arena.start() for _ in range(RUNNERS)]
        codes = [driver.process.wait(END_S) for driver in drivers]
        keys = rows_in(arena.out)["key"].to_pylist()
    return {"exits": codes, "rows": len(keys), "doubled": len(keys) - len(set(keys))}


def main() -> int:
    """Run it; 0 whether it holds or not: the line says it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--peer", action="store_true", help="two runners on one checkpoint")
    parser.add_argument("--runner", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runner is not None:
        run_ray_data(options.runner)
        return 0
    line = peer() if options.peer else kills(options.seed, options.kills)
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
