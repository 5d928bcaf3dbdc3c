"""A job over images of digits with stored vectors, and people who answered: what heads are learned from."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_digits

from tests.jobs.whole_nights import night
from winnow_annotation.gate.gold import is_reserved
from winnow_annotation.head_fit import examples_of
from winnow_annotation.pull import _put
from winnow_jobs.head_learning.fit import HeadKind, fit_head
from winnow_jobs.head_learning.head_task import HeadJob, head_job
from winnow_jobs.runs import Runs
from winnow_jobs.similar.space import current_space
from winnow_jobs.spec import JobSpec
from winnow_jobs.spec_source import SpecSource
from winnow_storage.blobs import open_store
from winnow_storage.dataset import read_results
from winnow_storage.ids import item_id
from winnow_storage.records import Label
from winnow_storage.registry import Registry
from winnow_storage.schemas import Purpose
from winnow_storage.uri import parse
from winnow_workers.heads import Embedding, save_head

AT = datetime(2026, 11, 25, tzinfo=UTC)
SIDE_PX = 32
HEAD = {"name": "kind", "operator": "classify", "vectors": "look", "model": "models/kind@prod"}
LOOK = {"name": "look", "operator": "embed", "model": "builtin/fingerprint"}
LOOP_SPEC = """\
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
  policies: {{kind: {policy}}}
  budget: {budget}
  calibrate: {calibrate}
learn: {{gold: {gold}}}
run: {{actors: 1, device: cpu, shard_items: {shard_items}}}
"""


@dataclass(frozen=True)
class DigitsJob:
    """Its folder; the digit in every image is in its name: `0012-7.png`."""

    folder: Path

    @property
    def keys(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "corpus").iterdir())

    def source(self, *, tasks: Sequence[dict[str, Any]] = (LOOK, HEAD), **more: Any) -> SpecSource:
        places = {"corpus": "corpus", "output": "out", "registry": "registry"}
        spec = JobSpec.model_validate({"name": "digits", "tasks": tasks, **places, **more})
        return SpecSource(spec, self.folder / "job.yaml")

    def job(self, **more: Any) -> HeadJob:
        return head_job(self.source(**more), [])

    @property
    def versions(self) -> dict[str, str]:
        rows = read_results(self.runs.store, "0001", ["key", "version"])
        return dict(zip(rows["key"].to_pylist(), rows["version"].to_pylist(), strict=True))

    @property
    def runs(self) -> Runs:
        return Runs(open_store(parse(str(self.folder / "out"))))

    @property
    def registry(self) -> Registry:
        return Registry(open_store(parse(str(self.folder / "registry"))))

    def answer(
        self, keys: Iterable[str], purpose: str = Purpose.REVIEW, *, wrong: bool = False, by: str = "ann"
    ) -> None:
        """Somebody says the digit of these, or the next higher one."""
        versions = self.versions
        labels = [_label(key, versions[key], str((int(key[5]) + wrong) % 10), purpose, by) for key in keys]
        if labels:
            _put(labels, self.runs.store)


def make_digits(folder: Path, count: int) -> DigitsJob:
    """The first images of scikit-learn's digits, embedded by a run."""
    made = DigitsJob(write_digits(folder, range(count)))
    night(made.job().spec)
    return made


def write_digits(folder: Path, numbers: Iterable[int]) -> Path:
    """These images in `folder`/corpus; the folder."""
    data = load_digits()
    (folder / "corpus").mkdir(parents=True)
    for number in numbers:
        pixels = np.clip(data.images[number] * 16, 0, 255).astype(np.uint8)
        large = cv2.resize(pixels, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / "corpus" / f"{number:04d}-{data.target[number]}.png"), large)
    return folder


def write_loop_spec(folder: Path, *, url: str, root: Path, budget: int, **more: Any) -> Path:
    """The spec of a loop over a folder's digits, whose Label Studio at `url` has `root` as its document root.

    `more`: calibrate, gold, shard_items and policy, as the spec has them.
    """
    usual = {"calibrate": 0, "gold": 0.2, "shard_items": "auto", "policy": "{}"}
    path = folder / "job.yaml"
    path.write_text(LOOP_SPEC.format(folder=folder, url=url, root=root, budget=budget, **usual | more))
    return path


def vectors_of(digits: DigitsJob) -> tuple[np.ndarray, list[str]]:
    """(n, d) the current vectors of a job, and the digits in the names of their images."""
    blocks = list(current_space(digits.runs, "look").vectors.blocks())
    keys = [key for block in blocks for key in block.rows["key"].to_pylist()]
    return np.concatenate([block.vectors for block in blocks]), [key[5] for key in keys]


def put_first_head(registry: Registry, digits: DigitsJob, count: int) -> None:
    """A head of a job's first images, which prod names."""
    vectors, names = vectors_of(digits)
    look = digits.job().tasks[0].vectors
    embedding = Embedding(task="look", task_digest=look.digest, dimensions=vectors.shape[1])
    fitted = fit_head(examples_of(vectors[:count], names[:count]), embedding, HeadKind.LINEAR, seed=0)
    entry = registry.add("kind", save_head(fitted.head), {})
    registry.promote("kind", entry.version, "prod")


def reserved(digits: DigitsJob, share: float = 0.2) -> set[str]:
    """Keys of items that never teach."""
    return {key for key in digits.keys if is_reserved("digits", "kind", key, share=share)}


def _label(key: str, version: str, said: str, purpose: str, by: str) -> Label:
    name = f"{key}-{purpose}-{by}"
    return Label(
        label_id=name,
        event="created",
        dedupe_key=f"{key}-{purpose}",
        job="digits",
        task="kind",
        operator="classify",
        item_id=item_id("digits", key),
        version=version,
        key=key,
        uri=f"file:///{key}",
        purpose=purpose,
        run_id="0001",
        server="http://ls",
        annotation_id=name,
        project_id=1,
        ls_task_id=1,
        annotator=by,
        created_at=AT,
        updated_at=AT,
        was_cancelled=False,
        lead_time_s=1.0,
        value=json.dumps({"label": said}),
        raw="[]",
        config_hash="c",
        model=None,
        shown=None,
    )
