"""What does routing cost? Memory and time of routing a run with two predictions an item, one of them under a policy.

The run is the first one of the planning benchmark. Prints one JSON line for each point.

    python -m tests.benchmarks.engine.routing --items 1000000
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.engine.planning import peak_bytes, step
from winnow_jobs.review import route_run
from winnow_jobs.routes import routes_key
from winnow_jobs.runs import Runs
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse

MEMORY_TARGET_BYTES = 2 * 2**30  # at 10 million predictions


def route_step(folder: Path) -> dict[str, Any]:
    """What a driver does when all shards are committed."""
    runs = Runs(open_store(parse(str(folder / "out"))))
    (folder / "out" / routes_key("0001")).unlink(missing_ok=True)
    start = time.process_time()
    record = route_run(runs.store, runs.plan("0001"))
    return {
        "cpu_seconds": time.process_time() - start,
        "peak_bytes": peak_bytes(),
        "object_bytes": (folder / "out" / routes_key("0001")).stat().st_size,
        "predictions": sum(count for routes in record["routes"].values() for count in routes.values()),
        "selected": record["selected"],
    }


def measure(folder: Path, items: int) -> dict[str, Any]:
    """The one point."""
    base = step("nothing", folder, items)["peak_bytes"]
    step("first", folder, items)
    step("commit", folder, items)
    one = step("route", folder, items, module="routing")
    count = one["predictions"]
    return {
        "point": "7, routing",
        "figure": f"{one['peak_bytes'] / 2**20:.0f} MiB peak ({base / 2**20:.0f} MiB of it is the program itself), "
        f"{one['cpu_seconds'] / count * 1e6:.1f} us of CPU a prediction, {one['object_bytes'] / count:.0f} bytes each; "
        f"{count} predictions, {one['selected']} to people",
        "target": "2048 MiB at 10,000,000 predictions",
        "holds": one["peak_bytes"] <= MEMORY_TARGET_BYTES and count == 2 * items and one["selected"] > 0,
    }


def main() -> int:
    """Run it; 0 whether it holds or not: the line says it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="where the output is made (a temporary folder by default)")
    parser.add_argument("--step", choices=["route"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step is not None:
        sys.stdout.write(json.dumps(route_step(options.folder)) + "\n")
        return 0
    setup = f"{options.items} items, {os.cpu_count()} cores, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        line = measure(Path(scratch), options.items) | {"setup": setup}
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
