"""Does the loop close itself? Rounds of `winnow loop` against a real Label Studio, with a script that answers.

Images of scikit-learn's digits, embedded by the fingerprint that needs no weights; 400 others, which the job never
sees, tell how right the head that prod names truly is after each round. The first head is learned from 20 images. The
script answers everything that it is asked, rightly.

    python -m tests.benchmarks.annotation.loop --rounds 10
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from tests.annotation.people import Person
from tests.benchmarks.engine.line import say
from tests.jobs.head_learning.digits_job import DigitsJob, put_first_head, vectors_of, write_digits, write_loop_spec
from tests.jobs.whole_nights import night
from tests.servers.label_studio import running_label_studio
from winnow_jobs.commands.options import now
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.events import silent
from winnow_jobs.loop import LoopOptions, Outside, Step, loop
from winnow_storage.registry import Registry
from winnow_workers.heads import load_head

IMAGES, HIDDEN, FIRST = 1200, 400, 20
SPEC: dict[str, Any] = {"budget": 60, "calibrate": 25, "gold": 0.5}


def accuracy(registry: Registry, hidden: DigitsJob) -> float:
    """Of what prod names, on the hidden images."""
    head = load_head(registry.read(registry.resolve("kind@prod")))
    vectors, names = vectors_of(hidden)
    said = np.array(head.labels)[head.logits(vectors[FIRST:]).argmax(axis=1)]
    return float((said == np.array(names[FIRST:])).mean())


@contextmanager
def answering(server: LabelStudioServer) -> Iterator[None]:
    """Somebody answers everything in the project, all the time."""
    ended = threading.Event()

    def answer() -> None:
        while not ended.wait(1.0):
            person = Person(server)
            for project in person.ask("GET", "/api/projects/?page_size=1000")["results"]:
                for task in person.tasks(project["id"]):
                    if not task["annotations"] and not ended.is_set():
                        person.choose(task["id"], task["data"]["key"][5])

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def furthest_fall(told: Sequence[float], of: int) -> float:
    """How far any round fell below the best one before it, in standard errors of that one's share of `of` images.

    The error is that of a binomial share, by Agresti and Coull, so that a share of 1 has one too.
    """
    falls = [0.0]
    for best, now_is in zip(accumulate(told, max), told[1:], strict=False):
        share = (best * of + 2) / (of + 4)
        falls.append((best - now_is) / float(np.sqrt(share * (1 - share) / of)))
    return max(falls)


def main() -> None:
    """Print a line per point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="which images are those of the job, and which hidden")
    given = parser.parse_args()
    rounds: int = given.rounds
    numbers = np.random.default_rng(given.seed).permutation(IMAGES + HIDDEN).tolist()
    with tempfile.TemporaryDirectory() as scratch, running_label_studio(Path(scratch)) as server:
        os.environ["LABEL_STUDIO_TOKEN"] = server.token
        folder = Path(scratch) / "job"
        write_digits(folder, numbers[:IMAGES])
        hidden = DigitsJob(write_digits(Path(scratch) / "hidden", numbers[IMAGES:]))
        night(hidden.job().spec)
        spec = write_loop_spec(folder, url=server.url, root=Path(scratch), **SPEC)
        registry = DigitsJob(folder).registry
        put_first_head(registry, hidden, FIRST)
        told, steps, begun = [accuracy(registry, hidden)], list[Step](), time.monotonic()
        with answering(server):
            for step in loop(spec, LoopOptions(rounds, wait_s=120.0), Outside(silent, now)):
                steps.append(step)
                if step.name == "learn":
                    told.append(accuracy(registry, hidden))
    learned = [step.record for step in steps if step.name == "learn"]
    setup = (
        f"{IMAGES} digits, seed {given.seed}, fingerprint vectors, linear heads, 60 questions a round, {rounds} rounds "
        f"of winnow loop, a real Label Studio, {HIDDEN - FIRST} hidden images"
    )
    shown = {
        "accuracies": [round(one, 4) for one in told],
        "labels": [one.get("labels") for one in learned],
        "promoted": sum(one.get("promoted") is not None for one in learned),
        "unanswered": [step.record["unanswered"] for step in steps if step.name == "pull"],
        "took_s": round(time.monotonic() - begun),
    }
    say("loop: rounds that ended, with nobody touching it", [len(learned)], at_least=rounds, setup=setup, **shown)
    say("loop: accuracy on hidden images gained from first to last", [told[-1] - told[0]], at_least=0.001, setup=setup)
    fall = furthest_fall(told, HIDDEN - FIRST)
    say("loop: furthest fall below the best round before, in standard errors", [fall], at_most=2, setup=setup)


if __name__ == "__main__":
    main()
