"""Does the loop go on, whenever it is killed? `kill -9` of `winnow loop` at the end of its steps and inside of them.

`python -m tests.benchmarks.annotation.loop_kills --kills 16 --seed 1`: the command itself, with Ray, against a real
Label Studio where a script answers everything. By turns a kill comes as soon as a step has said that it is done, and at
a seeded moment of the step after it. The last loop is not disturbed; then bucket, ledger, registry and Label Studio are
compared.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.annotation.people import Person
from tests.benchmarks.annotation.loop import SPEC, answering
from tests.benchmarks.engine.line import say
from tests.jobs.head_learning.digits_job import DigitsJob, put_first_head, write_digits, write_loop_spec
from tests.jobs.head_learning.loop_checks import harm
from tests.jobs.whole_nights import night
from tests.servers.label_studio import running_label_studio
from winnow_jobs.demo.label_studio_server import LabelStudioServer

IMAGES, FIRST = 600, 20
ROUNDS = 2  # the first of which asks again
STEPS = ("run", "pull", "consensus", "learn", "run")  # of the first round, and of the loop's first run before it
STARTING_S = 20.0  # how long it takes, about, until the first step is done


class Loop:
    """The command, line by line; `took` has the seconds of each step when it was last seen whole."""

    def __init__(self, spec: Path, server: LabelStudioServer, took: dict[int, float]) -> None:
        winnow = Path(sys.executable).parent / "winnow"
        command = [winnow, "loop", spec, "--rounds", str(ROUNDS), "--wait", "120"]
        environ = os.environ | {"LABEL_STUDIO_TOKEN": server.token, "PYTHONUNBUFFERED": "1"}
        self._log = (spec.parent / "loop.log").open("ab")
        self._process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self._took, self._since = took, time.monotonic()

    def until(self, steps: int) -> None:
        """That many more of its steps are done; fewer if it ends before."""
        assert self._process.stdout is not None
        for place in range(steps):
            if not self._process.stdout.readline():
                return
            now = time.monotonic()
            self._took[place], self._since = now - self._since, now

    def kill(self) -> bool:
        """Whether it was still at work."""
        self._process.kill()
        return self._ended() < 0

    def wait(self) -> int:
        """Its exit code."""
        assert self._process.stdout is not None
        self._process.stdout.read()
        return self._ended()

    def _ended(self) -> int:
        with self._process, self._log:
            return self._process.wait(600)


def main() -> int:
    """Run it; 0 if everything holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun, dice = time.monotonic(), random.Random(given.seed)
    kills, misses, took = Counter[str](), 0, dict[int, float]()
    with tempfile.TemporaryDirectory(prefix="winnow-loop-") as scratch, running_label_studio(Path(scratch)) as server:
        folder = write_digits(Path(scratch) / "job", range(IMAGES))
        digits = DigitsJob(folder)
        hidden = DigitsJob(write_digits(Path(scratch) / "hidden", range(IMAGES, IMAGES + 2 * FIRST)))
        night(hidden.job().spec)
        put_first_head(digits.registry, hidden, FIRST)
        spec = write_loop_spec(folder, url=server.url, root=Path(scratch), **SPEC)
        os.environ["LABEL_STUDIO_TOKEN"] = server.token
        with answering(server):
            while kills.total() < given.kills and misses < given.kills:
                turn = kills.total()
                place, is_inside = turn // 2 % len(STEPS), turn % 2 == 1
                loop = Loop(spec, server, took)
                loop.until(place if is_inside else place + 1)
                if is_inside:
                    time.sleep(dice.uniform(0, took.get(place, STARTING_S)))
                if loop.kill():
                    kills[f"{'in' if is_inside else 'after'} {STEPS[place]} ({place + 1})"] += 1
                else:
                    misses += 1
            code = Loop(spec, server, took).wait()
        found = harm(spec, Person(server))
        runs, labels = len(digits.runs.ids()), sum(1 for _ in digits.runs.store.walk("labels/"))
        history = [event.version for event in digits.registry.history("kind")]
    if code != 0:
        found["the loop that nobody disturbed failed"] = code
    say(
        "loop: lost, doubled or damaged after kills of winnow loop",
        [float(len(found))],
        at_most=0,
        setup=f"{IMAGES} digits, a real Label Studio, Ray, seed {given.seed}",
        kills=dict(kills),
        misses=misses,
        runs=runs,
        pulls_with_answers=labels,
        promoted=history,
        harm=found,
        took_s=round(time.monotonic() - begun),
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
