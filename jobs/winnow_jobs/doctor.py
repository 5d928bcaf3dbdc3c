"""Could a job run here? Each thing it needs, checked one by one, with what to do about each failure."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from winnow_jobs.draft import list_items
from winnow_jobs.machine import ledger_of
from winnow_jobs.people import client_of
from winnow_jobs.resolved import CODE_VERSION, ResolvedSpec, ResolvedTask, resolve_spec
from winnow_jobs.spec_source import SpecSource
from winnow_storage.blobs import open_store
from winnow_storage.errors import WinnowError
from winnow_storage.probe import require_conditional_puts
from winnow_storage.uri import parse
from winnow_workers.pipeline import Pipeline, WorkerConfig


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    ok: bool
    detail: str
    hint: str | None = None

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def examine(source: SpecSource) -> list[Finding]:
    """Every check of a spec; one that fails does not stop the next.

    Raises:
        nothing of ours: what goes wrong is a finding.
    """
    spec, found = _resolve(source)
    findings = [found]
    if spec is not None:
        findings += [_check(name, check) for name, check in _checks(spec)]
    return findings


def _resolve(source: SpecSource) -> tuple[ResolvedSpec | None, Finding]:
    try:
        spec = resolve_spec(source)
    except WinnowError as error:
        return None, Finding("spec and models", ok=False, detail=error.message, hint=error.hint)
    return spec, Finding("spec and models", ok=True, detail=f"{len(spec.tasks)} tasks, every model found")


def _checks(spec: ResolvedSpec) -> Iterator[tuple[str, Callable[[], str]]]:
    yield "corpus", lambda: _corpus(spec)
    yield "output", lambda: _output(spec)
    yield "ledger", lambda: _ledger(spec)
    yield "ray and device", lambda: _ray(spec)
    for task in spec.tasks:
        yield f"model of {task.name}", partial(_model, spec, task)
    if spec.review.label_studio is not None:
        yield "label studio", lambda: _label_studio(spec)


def _check(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ok=True, detail=check())
    except WinnowError as error:
        return Finding(name, ok=False, detail=error.message, hint=error.hint)


def _corpus(spec: ResolvedSpec) -> str:
    listing = list_items(spec)
    for _ in listing:
        pass  # its counts are final when it was read
    return f"{listing.items} items at {spec.corpus.uri}, {listing.others} other files"


def _output(spec: ResolvedSpec) -> str:
    store = open_store(parse(spec.output))
    require_conditional_puts(store, single_writer=spec.single_writer)
    if spec.single_writer:
        return f"{spec.output} is writable; exactly-once depends on output.single_writer being true"
    return f"{spec.output} is writable and lets exactly one writer win"


def _ledger(spec: ResolvedSpec) -> str:
    ledger = ledger_of(spec.ledger)
    return f"open, {len(ledger.runs(output=parse(spec.output).uri))} runs of this output known"


def _ray(spec: ResolvedSpec) -> str:
    from winnow_jobs.cluster import Cluster  # Ray costs a second to import

    with Cluster() as cluster:
        placement = cluster.placement(spec.run, shards=2**31)
    return f"{placement.actors} actors on {placement.device}, {placement.threads} threads each"


def _model(spec: ResolvedSpec, task: ResolvedTask) -> str:
    config = WorkerConfig(spec.job, "0000", "", spec.output, (), CODE_VERSION, (task.config(),), spec.limits)
    pipeline = Pipeline(config)
    pipeline.open()
    pipeline.close()
    return f"{task.model.name} loads ({task.model.digest[:20]})"


def _label_studio(spec: ResolvedSpec) -> str:
    client = client_of(spec)
    return f"{client.url} knows {client.whoami()}"
