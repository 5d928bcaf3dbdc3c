"""How does the demo's second job go? One round of labels teaches a head, then comes a promise about what it accepts.

A first head, taught by a few images, predicts the digit on every scan. People label what is drawn or unsure: here a
script that knows the truth does, in Label Studio. `winnow loop` learns the next head from that, and lets it predict if
the gate passes it. Its own random draws are labelled; on these stands what the run after promises, which an audit then
holds against the truth. How right each head is on images that the job never sees is told by a job of their own.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow_annotation.head_fit import examples_of
from winnow_jobs.backfill import Backfill, backfilled
from winnow_jobs.commands.evaluate import without_nan
from winnow_jobs.demo.annotator import ScriptedAnnotator
from winnow_jobs.demo.digit_scans import Scans, split_scans
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.engine import Engine
from winnow_jobs.evaluation.rows import of_run
from winnow_jobs.evaluation.task import evaluate_rows
from winnow_jobs.evaluation.truth import read_truth
from winnow_jobs.events import Listener, Note, silent
from winnow_jobs.head_learning.fit import HeadKind, fit_head
from winnow_jobs.head_learning.head_task import head_job
from winnow_jobs.job import run_job
from winnow_jobs.loop import LoopOptions, Outside, Step, loop
from winnow_jobs.machine import ledger_of
from winnow_jobs.options import Options
from winnow_jobs.people import pull_labels
from winnow_jobs.plan import Selection
from winnow_jobs.report import write_report
from winnow_jobs.report_evaluations import Evaluation, evaluation_of
from winnow_jobs.resolved import ResolvedSpec, ResolvedTask, resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry, utc_now
from winnow_storage.schemas import Purpose
from winnow_storage.uri import parse
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.heads import Embedding, save_head
from winnow_workers.models.model_file import read_card
from winnow_workers.querying import embed_image

JOB, TASK, MODEL = "demo-digits", "digit", "digit"
FIRST_OF_EACH = 1  # image of each digit that teaches the first head
SPEC = """\
# Made by `winnow demo`: a head that people's labels teach, and a promise about what it accepts. See docs/loop.md.
name: demo-digits
corpus: corpus
output: output
registry: models
ledger: {ledger}
tasks:
  - {{name: look,  operator: embed,    model: builtin/fingerprint}}         # a descriptor without weights
  - {{name: digit, operator: classify, vectors: look, model: models/digit@prod}} # a head; prod names its version
review:
  label_studio: {{url: "{url}", token: "${{LABEL_STUDIO_TOKEN}}", document_root: "{root}"}}
  policies:
    digit: {{max_error: {max_error}, confidence: 0.9}} # of what is accepted at most so much is wrong
  calibrate: {calibrate}                    # uniform, blind draws of each run: gold, and what the promise stands on
  audit: {audit}                        # share of the accepted that people look at, blind
  budget: {budget}
learn: {{gold: {gold}}}                  # share of all images that never teaches: heads are compared on those drawn
run: {{actors: 1}}
"""
HIDDEN_SPEC = """\
# Made by `winnow demo`: the same tasks over images that demo-digits never sees. winnow evaluate measures them.
name: demo-digits-hidden
corpus: hidden
output: hidden-output
registry: models
ledger: {ledger}
tasks:
  - {{name: look,  operator: embed,    model: builtin/fingerprint}}
  - {{name: digit, operator: classify, vectors: look, model: models/digit@prod}}
run: {{actors: 1}}
"""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the job is: images, images that it never sees, and what its review section says."""

    images: int = 1300
    hidden: int = 450
    calibrate: int = 250
    budget: int = 400
    audit: float = 0.1
    max_error: float = 0.05
    gold: float = 0.3


FULL = Scale()


@dataclass(frozen=True, slots=True)
class LoopPlaces:
    """The folders of the second job, below the demo's."""

    root: Path

    @property
    def spec(self) -> Path:
        """The job."""
        return self.root / "job.yaml"

    @property
    def hidden_spec(self) -> Path:
        """The job over what the other one never sees."""
        return self.root / "hidden.yaml"

    @property
    def hidden_truth(self) -> Path:
        """What is true there."""
        return self.root / "hidden.csv"

    def evaluation(self, name: str) -> Path:
        """The record of an evaluation."""
        return self.root / f"{name}.json"


@dataclass(frozen=True, slots=True)
class _Show:
    """What every step of the show needs."""

    places: LoopPlaces
    annotator: ScriptedAnnotator
    truth: Mapping[str, str]
    engine: Engine
    listener: Listener

    def answer(self, *purposes: Purpose) -> int:
        """The script answers what is asked for these purposes; how much."""
        return self.annotator.answer_with(self.truth, project=f"{JOB} / {TASK}", purposes=purposes)

    def say(self, text: str) -> None:
        """To who watches."""
        self.listener(Note(text))


def show_loop(
    folder: Path,
    server: LabelStudioServer,
    annotator: ScriptedAnnotator,
    engine: Engine,
    listener: Listener,
    scale: Scale,
) -> dict[str, Any]:
    """Run it from the beginning, whatever `folder` holds; the record of it.

    Raises:
        WinnowError: as the steps say.
    """
    places = LoopPlaces(folder)
    first, truth = _make(places, server, scale)
    _learn_first(places, first)
    show = _Show(places, annotator, truth, engine, listener)
    show.say(
        f"a second job, over {scale.images:,} scans of digits: its first head was taught by {len(first.labels)} images"
    )
    before = _evaluate(show, "before")
    steps, answers = _one_round(show)
    after = _evaluate(show, "after")
    answers += _promise(show)
    spec = resolve_spec(load_spec(places.spec))
    report = write_report(
        spec,
        Runs(open_store(parse(spec.output))),
        ledger_of(spec.ledger),
        run_id=None,
        truth=None,
        out=None,
        evaluations=[before, after],
    )
    return {
        "spec": str(places.spec),
        "report": report["report"],
        "images": scale.images,
        "answered": answers,
        "steps": [f"{step.name}: {step.text}" for step in steps],
        "promoted": any(step.name == "learn" and step.record.get("promoted") for step in steps),
        "evaluations": [row for view in report["evaluations"] for row in view["rows"]],
        "promises": report["promises"],
        "accepted": _accepted(spec.output, report["run_id"]),
        "audit": report["audit"],
    }


def _make(places: LoopPlaces, server: LabelStudioServer, scale: Scale) -> tuple[Scans, dict[str, str]]:
    """The images and the specs, in a folder of nothing else.

    The images that teach first, and what is true of those of the job.
    """
    shutil.rmtree(places.root, ignore_errors=True)
    first, corpus, hidden = split_scans(first_of_each=FIRST_OF_EACH, images=scale.images, hidden=scale.hidden)
    corpus.write(places.root / "corpus")
    hidden.write(places.root / "hidden")
    places.hidden_truth.write_text(hidden.truth_csv(), encoding="utf-8")
    ledger = json.dumps(f"sqlite:///{places.root / 'ledger.db'}")
    text = SPEC.format(
        ledger=ledger,
        url=server.url,
        root=places.root.parents[1],  # as the server was told
        max_error=scale.max_error,
        calibrate=scale.calibrate,
        audit=scale.audit,
        budget=scale.budget,
        gold=scale.gold,
    )
    places.spec.write_text(text, encoding="utf-8")
    places.hidden_spec.write_text(HIDDEN_SPEC.format(ledger=ledger), encoding="utf-8")
    return first, dict(corpus.labels)


def _learn_first(places: LoopPlaces, first: Scans) -> None:
    """A head of a few images, as prod: without one there is nothing to predict with, so nobody to be asked."""
    job = head_job(load_spec(places.spec), [])
    look = job.tasks[0].vectors
    vectors = np.stack([_embedded(look, job.spec, data) for data in first.files.values()])
    embedding = Embedding(task=look.name, task_digest=look.digest, dimensions=vectors.shape[1])
    fitted = fit_head(examples_of(vectors, list(first.labels.values())), embedding, HeadKind.LINEAR, seed=0)
    taught = {"labels": len(first.labels)}
    data = save_head(fitted.head, trained_on=f"{FIRST_OF_EACH} scan of each digit", metrics=taught)
    registry = Registry(open_store(parse(job.spec.registry)))
    card = read_card(data, where=f"models/{MODEL}")
    entry = registry.add(MODEL, data, {} if card is None else card.model_dump(mode="json"))
    registry.promote(MODEL, entry.version, "prod", by="winnow demo")


def _embedded(look: ResolvedTask, spec: ResolvedSpec, data: bytes) -> NDArray[np.float64]:
    """The vector (width,) of an image in these bytes, as the task makes it."""
    return embed_image(look.config(), lambda: data, spec.limits, spec.decode)


def _evaluate(show: _Show, name: str) -> Evaluation:
    """What the head that prod names now says of the hidden images, beside what is true."""
    spec = resolve_spec(load_spec(show.places.hidden_spec))
    ended = run_job(spec, Options(), silent, utc_now, engine=show.engine)
    rows = of_run(Runs(open_store(parse(spec.output))), ended.record["run_id"], TASK, "classify")
    record = evaluate_rows(rows, read_truth(show.places.hidden_truth, "classify"), Acceptance())
    del record["per_item"]
    show.places.evaluation(name).write_text(json.dumps(without_nan(record)), encoding="utf-8")
    found = evaluation_of(name, record)
    show.say(f"{found.record.measures.ok_share:.1%} of {found.record.n:,} hidden images are right {name} the round")
    return found


def _one_round(show: _Show) -> tuple[Sequence[Step], int]:
    """`winnow loop` with one round, answered by the script; its steps, and how much was answered."""
    steps: list[Step] = []
    answers = 0
    for step in loop(show.places.spec, LoopOptions(rounds=1), Outside(show.listener, utc_now, engine=show.engine)):
        steps.append(step)
        show.say(f"loop, {step.name}: {step.text}")
        if step.name == "run" and not answers:
            answers = show.answer(Purpose.CALIBRATE, Purpose.REVIEW)
            show.say(f"a scripted annotator, which knows the truth, answered {answers} of them in Label Studio")
    return steps, answers


def _promise(show: _Show) -> int:
    """The new head's own draws are answered, and the next run promises by them; then what it accepted is audited."""
    answers = show.answer(Purpose.CALIBRATE)
    show.say(f"the script answered {answers} blind draws of what the new head said: the promise will stand on these")
    spec = resolve_spec(load_spec(show.places.spec))
    runs, ledger = Runs(open_store(parse(spec.output))), ledger_of(spec.ledger)
    pull_labels(spec, runs, ledger)
    decided = Options(backfilled(Selection(), spec, Backfill.DECISIONS))
    ended = run_job(spec, decided, show.listener, utc_now, engine=show.engine)
    if ended.push_error is not None:
        raise ended.push_error
    audited = show.answer(Purpose.AUDIT)
    pull_labels(spec, runs, ledger)
    show.say(f"the script answered {audited} blind audits of what was accepted")
    return answers + audited


def _accepted(output: str, run_id: str) -> dict[str, int]:
    """Of the predictions of a run, those that were accepted without review, the audited ones among them."""
    summary = Runs(open_store(parse(output))).summary(run_id) or {}
    routes = summary.get("review", {}).get("routes", {}).get(TASK, {})
    return {"accepted": routes.get("accept", 0) + routes.get("audit", 0), "of": sum(routes.values())}
