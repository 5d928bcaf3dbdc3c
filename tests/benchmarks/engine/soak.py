"""Does the engine survive hundreds of seeded kills in the middle of work? The long form of tests/faults/test_kills.py.

`python -m tests.benchmarks.engine.soak --kills 500 --seed 1`. Every failing run prints the command that does it again.
One run more has a ledger that is a server, where PostgreSQL is installed.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.arena import Shape
from tests.faults.campaign import Campaign, Ground, campaign, prepare


def setup() -> str:
    """The machine and the day."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"


def line_of(point: str, done: Campaign, target: int) -> dict[str, object]:
    """What is printed in the end; `target` is how many kills it had to be."""
    figure = {
        "kills": done.kills,
        "runs": len(done.stories),
        "runs_with_harm": len(done.failures),
        "images_redone": sum(story.redone for story in done.stories),
        "images_redone_allowed": sum(story.allowed for story in done.stories),
        "faults": dict(sorted(done.faults.items())),
        "failures": done.failures,
    }
    wanted = (
        f"at least {target} kills in the middle of work, no run with harm, two shards redone per actor that was hit"
    )
    holds = done.kills >= target and not done.failures
    return {"point": point, "figure": figure, "target": wanted, "holds": holds, "setup": setup()}


def main() -> int:
    """Run it; 0 if everything holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--items", type=int, default=Shape().items, help="images of every run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-faults-") as scratch:
        ground = prepare(Path(scratch), Shape(items=options.items))
        done = _campaign(ground, options.seed, "long", options.kills)
        try:
            more = _campaign(ground, options.seed, "ledger", 1)
        except pytest.skip.Exception as reason:
            _tell(f"left out: {reason}")
        else:
            done.stories += more.stories
            done.failures += more.failures
    for failure in done.failures:
        _tell(failure)
    sys.stdout.write(json.dumps(line_of("5, kills, long form", done, options.kills)) + "\n")
    return 1 if done.failures else 0


def _campaign(ground: Ground, seed: int, deck: str, kills: int) -> Campaign:
    """Its line is printed in the end, whatever happens."""
    done = Campaign()
    try:
        campaign(ground, seed, deck, kills=kills, whole=deck == "ledger", tell=_tell, done=done)
    except Exception as error:  # noqa: BLE001  (of the harness or of the machine: a failure like the others)
        done.failures.append("".join(traceback.format_exception(error)))
    return done


def _tell(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


if __name__ == "__main__":
    sys.exit(main())
