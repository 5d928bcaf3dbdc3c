"""How does the demo go? Corpus, models, a real run, a real Label Studio with a scripted annotator, labels, a report;
then a second job whose model learns from labels (`show_loop`).
"""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from winnow_jobs.demo.annotator import ScriptedAnnotator
from winnow_jobs.demo.corpus import make_corpus
from winnow_jobs.demo.label_studio_server import LabelStudioServer, label_studio_server
from winnow_jobs.demo.show_loop import FULL, Scale, show_loop
from winnow_jobs.demo.show_loop import JOB as LOOP_JOB
from winnow_jobs.demo.train import train_models
from winnow_jobs.engine import Engine
from winnow_jobs.events import Listener, Note
from winnow_jobs.job import run_job
from winnow_jobs.machine import ledger_of
from winnow_jobs.options import Options
from winnow_jobs.people import pull_labels
from winnow_jobs.quality import Target
from winnow_jobs.report import Truth, write_report
from winnow_jobs.resolved import ResolvedSpec, resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_storage.blobs import open_store
from winnow_storage.registry import Registry
from winnow_storage.uri import parse

SPEC = """\
# Made by `winnow demo`: five tasks over one corpus of real pixels, the unsure answers to people.
name: demo
corpus: corpus                      # a folder, s3://bucket/prefix, or a .parquet/.csv file with a uri column
output: output                      # runs, routes and labels are written here
registry: models                    # where models/NAME@STAGE is looked up
ledger: {ledger}
tasks:
  - {{name: kind,   operator: classify, model: models/digits@prod}}
  - {{name: text,   operator: ocr}}
  - {{name: parts,  operator: segment,  model: models/shapes@prod}}
  - {{name: defect, operator: anomaly,  model: models/textures@prod}}
  - {{name: vector, operator: embed,    model: models/photos@prod}}
review:
  label_studio: {{url: "{url}", token: "${{LABEL_STUDIO_TOKEN}}", document_root: "{root}"}}
  policies:
    kind:   {{min_p_ok: 0.95}}                           # p_ok is calibrated: a probability
    text:   {{uncalibrated: {{score_below: 0.8}}}}         # no calibrator yet: by the engine's own score
    parts:  {{uncalibrated: {{score_below: 0.35}}}}
    defect: {{uncalibrated: {{score_between: [0.9, 1.15]}}}} # 1.0 is the threshold: near it is unsure
  budget: 60                        # review tasks per run
  audit: 0.01                       # random share of the accepted ones, shown blind
"""
MODELS = {"digits": "digits", "shapes": "shapes", "textures": "textures", "photos": "photos"}
ANSWERS_PER_TASK = 5
TARGETS = {
    "outcomes as expected": Target(at_least=1.0),
    "accuracy": Target(at_least=0.97),
    "character error": Target(at_most=0.02),
    "mean IoU": Target(at_least=0.80),
    "AUROC": Target(at_least=0.95),
}


@dataclass(frozen=True, slots=True)
class DemoPlaces:
    """The folders of a demo."""

    root: Path

    @property
    def corpus(self) -> Path:
        """The images."""
        return self.root / "corpus"

    @property
    def truth(self) -> Path:
        """What is true of them."""
        return self.root / "truth.parquet"

    @property
    def models(self) -> Path:
        """The registry."""
        return self.root / "models"

    @property
    def output(self) -> Path:
        """Runs, routes and labels."""
        return self.root / "output"

    @property
    def loop(self) -> Path:
        """The second job, with all that belongs to it."""
        return self.root / "digits"

    @property
    def spec(self) -> Path:
        """The job."""
        return self.root / "job.yaml"

    @property
    def ledger(self) -> Path:
        """The SQLite ledger."""
        return self.root / "ledger.db"


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo leaves: the record of its run, how people answered, and the report; `loop` of the second job."""

    record: dict[str, Any]
    server: LabelStudioServer


@contextmanager
def demo_session(root: Path, label_studio: Path, listener: Listener, *, scale: Scale = FULL) -> Iterator[DemoResult]:
    """Run the whole demo; Label Studio stays up until the block ends. `scale` is of the second job.

    Raises:
        LabelStudioError: it is not installed or does not start. WinnowError: as the run says.
    """
    places = DemoPlaces(root.absolute())
    prepare(places, listener)
    listener(Note("starting Label Studio (the first time it makes its database, about 40 s)"))
    with label_studio_server(label_studio, places.root / "label-studio", document_root=places.root.parent) as server:
        os.environ["LABEL_STUDIO_TOKEN"] = server.token
        with closing(ScriptedAnnotator(server, places.truth)) as annotator, Engine() as engine:
            annotator.forget_projects("demo / ", f"{LOOP_JOB} / ")
            start_fresh(places, server)
            record = _show(places, annotator, engine, listener)
            record["loop"] = show_loop(places.loop, server, annotator, engine, listener, scale)
        yield DemoResult(record, server)


def prepare(places: DemoPlaces, listener: Listener) -> None:
    """Make the corpus and train the models, unless they are there."""
    places.root.mkdir(parents=True, exist_ok=True)
    if not places.truth.exists():
        listener(Note("making the demo corpus"))
        summary = make_corpus(places.corpus)
        listener(Note(f"  {summary}"))
    registry = Registry(open_store(parse(str(places.models))), now=lambda: datetime.now(UTC))
    if {entry.name for entry in registry.entries(None)} >= set(MODELS):
        return
    listener(Note("training the demo models (under a minute on two cores)"))
    start = time.monotonic()
    for name, path in train_models(places.root / "trained").items():
        register_model(registry, name, path)
    listener(Note(f"  trained in {time.monotonic() - start:.0f} s"))


def register_model(registry: Registry, name: str, path: Path) -> None:
    """Put a trained model file into the registry as its `prod`."""
    from winnow_workers.models.convert import as_model_file

    file = as_model_file(path.read_bytes(), where=str(path), sha256=None, card=None)
    entry = registry.add(name, file.data, file.card)
    registry.promote(name, entry.version, "prod")


def start_fresh(places: DemoPlaces, server: LabelStudioServer) -> None:
    """A new output, a new ledger, and the spec with this Label Studio's address."""
    shutil.rmtree(places.output, ignore_errors=True)
    for leftover in places.root.glob("ledger.db*"):
        leftover.unlink()
    root = places.root.parent
    text = SPEC.format(url=server.url, root=root, ledger=json.dumps(f"sqlite:///{places.ledger}"))
    places.spec.write_text(text, encoding="utf-8")


def _show(places: DemoPlaces, annotator: ScriptedAnnotator, engine: Engine, listener: Listener) -> dict[str, Any]:
    spec: ResolvedSpec = resolve_spec(load_spec(places.spec))
    ended = run_job(spec, Options(), listener, lambda: datetime.now(UTC), engine=engine)
    if ended.push_error is not None:
        raise ended.push_error
    answered = annotator.answer(ANSWERS_PER_TASK)
    listener(Note(f"a scripted annotator answered {answered} review tasks through Label Studio's API"))
    runs, ledger = Runs(open_store(parse(spec.output))), ledger_of(spec.ledger)
    pulled = pull_labels(spec, runs, ledger)
    report = write_report(spec, runs, ledger, run_id=None, truth=Truth(places.truth, TARGETS), out=None)
    return ended.record | {
        "answered": answered,
        "labels": pulled.new,
        "labels_glob": str(places.output / "labels" / "*.parquet"),
        "report": report["report"],
        "quality": report["quality"],
        "spec": str(places.spec),
    }
