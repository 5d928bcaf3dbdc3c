"""How is one peer's job run? In a process of its own, `python -m tests.benchmarks.engine.peers SIDE TASK` (JSON)."""

import argparse
import json
import sys
from pathlib import Path

from tests.benchmarks.engine.peers.task import Task


def main() -> int:
    """Do the task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["ray-documented", "ray-tuned", "daft", "loader", "loader-threads"])
    parser.add_argument("task", help="the fields of Task as JSON")
    options = parser.parse_args()
    task = Task(**json.loads(options.task))
    Path(task.output).mkdir(parents=True)
    if options.side.startswith("ray"):
        from tests.benchmarks.engine.peers import ray_data

        ray_data.run(task, tuned=options.side == "ray-tuned")
    elif options.side == "daft":
        from tests.benchmarks.engine.peers import daft_job

        daft_job.run(task)
    else:
        from tests.benchmarks.engine.peers import loader

        loader.run(task, threads=task.workers if options.side == "loader-threads" else 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
