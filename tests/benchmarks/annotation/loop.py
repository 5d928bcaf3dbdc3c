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
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from tests.annotation.people import Person
from tests.benchmarks.engine.line import say
from tests.jobs.head_learning.digits_job import DigitsJob, write_digits
from tests.jobs.whole_nights import night
from tests.servers.label_studio import running_label_studio
from winnow_annotation.head_fit import examples_of
from winnow_jobs.commands.options import now
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.events import silent
from winnow_jobs.head_learning.fit import HeadKind, fit_head
from winnow_jobs.head_learning.head_task import head_job
from winnow_jobs.loop import LoopOptions, Outside, loop
from winnow_jobs.similar.space import current_space
from winnow_jobs.spec_source import load_spec
from winnow_storage.registry import Registry
from winnow_workers.heads import Embedding, load_head, save_head

IMAGES, HIDDEN, FIRST = 1200, 400, 20
SPEC = """\
name: digits
corpus: corpus
output: out
registry: registry
ledger: "sqlite:///{folder}/ledger.db"
tasks:
  - {{name: look, operator: embed, model: builtin/fingerprint}}
  - {{name: kind, operator: classify, vectors: look, model: models/kind@prod}}
review:
  label_studio: {{url: "{url}", document_root: "{root}"}}
  policies: {{kind: {{}}}}
  budget: 60
  calibrate: 25
learn: {{gold: 0.5}}
run: {{actors: 1}}
"""


def vectors_of(digits: DigitsJob) -> tuple[np.ndarray, list[str]]:
    """The current vectors of a job, and the digits in the names of their images."""
    blocks = list(current_space(digits.runs, "look").vectors.blocks())
    keys = [key for block in blocks for key in block.rows["key"].to_pylist()]
    return np.concatenate([block.vectors for block in blocks]), [key[5] for key in keys]


def first_head(spec: Path, registry: Registry, hidden: DigitsJob) -> None:
    """A head of the hidden corpus' first images, which it is then not measured on."""
    look = head_job(load_spec(spec), []).tasks[0].vectors
    vectors, names = vectors_of(hidden)
    embedding = Embedding(task="look", task_digest=look.digest, dimensions=vectors.shape[1])
    fitted = fit_head(examples_of(vectors[:FIRST], names[:FIRST]), embedding, HeadKind.LINEAR, seed=0)
    entry = registry.add("kind", save_head(fitted.head), {})
    registry.promote("kind", entry.version, "prod")


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


def main() -> None:
    """Print a line per point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch, running_label_studio(Path(scratch)) as server:
        os.environ["LABEL_STUDIO_TOKEN"] = server.token
        folder = Path(scratch) / "job"
        write_digits(folder, range(IMAGES))
        hidden = DigitsJob(write_digits(Path(scratch) / "hidden", range(IMAGES, IMAGES + HIDDEN)))
        night(hidden.job().spec)
        spec = folder / "job.yaml"
        spec.write_text(SPEC.format(folder=folder, url=server.url, root=scratch))
        registry = DigitsJob(folder).registry
        first_head(spec, registry, hidden)
        told, labels, promoted = [accuracy(registry, hidden)], [], 0
        with answering(server):
            for step in loop(spec, LoopOptions(rounds, wait_s=120.0), Outside(silent, now)):
                if step.name == "learn":
                    labels.append(step.record.get("labels"))
                    promoted += step.record.get("promoted") is not None
                    told.append(accuracy(registry, hidden))
    setup = (
        f"{IMAGES} digits, fingerprint vectors, linear heads, 60 questions a round, {rounds} rounds of winnow loop, "
        f"a real Label Studio, {HIDDEN - FIRST} hidden images"
    )
    shown = {"accuracies": [round(one, 4) for one in told], "labels": labels, "promoted": promoted}
    say(
        "loop: accuracy on hidden images gained over the rounds",
        [told[-1] - told[0]],
        at_least=0.0,
        setup=setup,
        **shown,
    )
    noise = 2 * max(float(np.sqrt(one * (1 - one) / (HIDDEN - FIRST))) for one in told)
    drop = max([before - after for before, after in pairwise(told)], default=0.0)
    say("loop: the most that a round lost, within noise", [drop], at_most=round(noise, 3), setup=setup)


if __name__ == "__main__":
    main()
