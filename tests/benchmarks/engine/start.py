"""What does `winnow run` of ten images take beside the least that Ray allows? Whole processes, by turns.

The least: a script that starts Ray by its own means, makes one actor that imports torch, calls it, and ends. Ours
starts less of Ray (`winnow_jobs.lean_ray`).
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.engine.images import jpegs
from tests.benchmarks.engine.line import say

SPEC = """\
name: start
corpus: photos
output: {output}
ledger: sqlite:///{folder}/ledger.db
tasks:
  - {{name: vector, operator: embed, model: torchvision/mobilenet_v3_small, weights: {{random: 1}}}}
run: {{actors: 1}}
"""
BARE = """\
import logging, tempfile
import ray
ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", object_store_memory=128 * 2**20,
         log_to_driver=False, logging_level=logging.ERROR)
@ray.remote(num_cpus=1)
class Actor:
    def hello(self):
        import torch
        return torch.zeros(3).sum().item()
actor = Actor.remote()
assert ray.get(actor.hello.remote()) == 0.0
ray.shutdown()
"""


def main() -> int:
    """Measure; 0 whether it holds or not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        jpegs(folder / "photos", 10)
        (folder / "bare.py").write_text(BARE)
        ratios, seconds = [], []
        for turn in range(options.repeats):
            spec = folder / f"job-{turn}.yaml"
            spec.write_text(SPEC.format(output=folder / f"out-{turn}", folder=folder))
            bare = _timed([sys.executable, folder / "bare.py"])
            ours = _timed([Path(sys.executable).parent / "winnow", "run", spec, "--json"])
            ratios.append(ours / bare)
            seconds.append((round(ours, 2), round(bare, 2)))
    say("9, winnow run of 10 images / a bare Ray script with one torch actor", ratios, at_most=1.3,
        setup="whole processes", seconds=seconds)  # fmt: skip
    return 0


def _timed(command: list[str | Path]) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
