"""Every operator in one job, over the whole demo corpus and 500 further photographs: does all of it hold?

Prints one JSON line per point: figure is how many images break it. `make bench-operators` runs it, with the demo's
corpus and models.

    python -m tests.benchmarks.every_operator --demo demo --further 500
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.engine.line import say
from tests.e2e.winnow import WINNOW
from tests.every_operator import checks, further_photographs, image_files, write_job

SHOWN = 5


def main() -> int:
    """Run it; 0 if everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="has corpus/ and models/ (winnow demo)")
    parser.add_argument("--further", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shutil.copytree(options.demo / "corpus", folder / "corpus")
        further_photographs(folder / "corpus/further", options.further)
        files = image_files(folder / "corpus")
        command = [WINNOW, "run", write_job(folder, options.demo / "models"), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in (0, 3):  # some of the demo's images are bad on purpose
            return done.returncode
        record = json.loads(done.stdout)
        found = checks(folder, record, len(files))
    setup = f"{len(files)} images ({options.further} beside the demo's), six tasks, one job"
    for name, wrong in found.items():
        say(f"1, every operator: {name}", [len(wrong)], at_most=0, setup=setup, examples=wrong[:SHOWN])
    say(
        "1, every operator: images a second, whole run",
        [record["items_per_s"]],
        setup=setup,
        outcomes=record["outcomes"],
        seconds=record["seconds"],
        stage_seconds=record["stage_seconds"],
    )
    return 0 if not any(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
