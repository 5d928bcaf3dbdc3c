"""Is what a run pinned beside its plan still there? Its calibrators by digest, its models by sha256."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from winnow_jobs.calibrators import calibrator_key, pins_key
from winnow_jobs.resolved import ResolvedTask
from winnow_jobs.runs import PlanDocument
from winnow_jobs.verify.findings import Finding
from winnow_jobs.verify.plan import DAMAGED, REMOVED, RESTORE, digest_object
from winnow_storage.blobs import BlobStore, locate, open_store
from winnow_storage.errors import BlobMissing, ModelError, StoreDenied, StoreError, StoreUnavailable
from winnow_storage.uri import parse
from winnow_workers.confidence.calibrator import Calibrator
from winnow_workers.models.folder import resolve_folder
from winnow_workers.models.reference import ResolvedModel

LEARN = "restore it from a backup; for runs to come, winnow learn SPEC --calibrate again"


def check_calibrators(store: BlobStore, plan: PlanDocument) -> Iterator[Finding]:
    """What is wrong with the calibrators that the run was routed with; nothing where it pinned none.

    Raises:
        StoreDenied, StoreUnavailable: the store does not answer.
    """
    key = pins_key(plan.run_id)
    try:
        pins = json.loads(store.get(key))
    except BlobMissing:
        return
    except ValueError as error:
        yield Finding(key, f"it cannot be read: {error}", DAMAGED, RESTORE)
        return
    tasks = {task.name: task for task in plan.tasks()}
    if not isinstance(pins, dict) or not all(isinstance(one, str) for one in pins.values()):
        yield Finding(key, "it names no calibrator for each task", DAMAGED, RESTORE)
        return
    for name in sorted(pins.keys() - tasks.keys()):
        yield Finding(key, f"it pins a calibrator of {name}, which is no task of the run", DAMAGED, RESTORE)
    for name in sorted(pins.keys() & tasks.keys()):
        yield from _check_calibrator(store, tasks[name], pins[name], key)


def _check_calibrator(store: BlobStore, task: ResolvedTask, digest: str, pins: str) -> Iterator[Finding]:
    key = calibrator_key(task.name, digest)
    try:
        found = Calibrator.model_validate_json(store.get(key))
    except BlobMissing:
        yield Finding(key, f"it is not there, and {pins} pins it", REMOVED, LEARN)
        return
    except ValidationError as error:
        yield Finding(key, f"it is no calibrator: {error.errors(include_url=False)[0]['msg']}", DAMAGED, LEARN)
        return
    if found.digest != digest:
        yield Finding(key, f"its content has the digest {found.digest}, not the one in its name", DAMAGED, LEARN)
    elif found.subject.task_digest != task.digest:
        what = f"it pins {found.id} for {task.name}, which was learned of another model or other parameters"
        yield Finding(pins, what, DAMAGED, RESTORE)


@dataclass(slots=True)
class ModelPins:
    """Looks at every pinned model once, however many runs pin it."""

    _said: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def wrong(self, plan: PlanDocument) -> Mapping[str, str]:
        """By task, what is wrong with its model: nothing of those without a file of their own.

        Raises:
            StoreDenied, StoreUnavailable: a store does not answer.
        """
        said = {task.name: self._model(task.model) for task in plan.tasks()}
        return {name: what for name, what in said.items() if what is not None}

    def _model(self, model: ResolvedModel) -> str | None:
        uri, sha256 = model.weights.uri, model.weights.sha256
        if model.weights.kind not in ("file", "folder") or uri is None or sha256 is None:
            return None
        if (uri, sha256) not in self._said:
            self._said[uri, sha256] = _folder(uri, sha256) if model.weights.kind == "folder" else _file(uri, sha256)
        return self._said[uri, sha256]


def check_models(plan: PlanDocument, wrong: Mapping[str, str], *, is_open: bool) -> tuple[list[Finding], list[str]]:
    """Findings and notes. A closed run needs its models no more; what stands in a registry is never changed."""
    findings, notes = [], []
    for name, what in wrong.items():
        model = plan.spec.task(name).model
        uri = str(model.weights.uri)
        if is_open or uri.startswith(f"{parse(plan.spec.registry).uri}/"):
            again = "restore it from a backup" + ("; winnow resume cannot go on without it" if is_open else "")
            findings.append(Finding(uri, f"{what}; the plan pins it for the task {name}", DAMAGED, again))
        else:
            notes.append(f"the model of {name} ({model.name}) is not what the run had: {what}")
    return findings, notes


def _file(uri: str, sha256: str) -> str | None:
    try:
        root, key = locate(uri)
        store = open_store(root)
        info = store.info(key)
        if info is None:
            return "it is not there"
        found = digest_object(store, info)
    except (StoreDenied, StoreUnavailable):
        raise
    except StoreError as error:
        return f"it cannot be read: {error.message}"
    return None if found == sha256 else f"its sha256 is {found}, not {sha256}"


def _folder(uri: str, sha256: str) -> str | None:
    try:
        found = resolve_folder(f"transformers/{uri}", base=None).digest
    except (StoreDenied, StoreUnavailable):
        raise
    except (ModelError, StoreError) as error:
        return f"it cannot be read: {error.message}"
    return None if found == sha256 else f"the digest of its files is {found}, not {sha256}"
