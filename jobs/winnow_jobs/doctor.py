"""Could a job run here? Each thing it needs, checked one by one, with what to do about each failure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from winnow_jobs.draft import list_items
from winnow_jobs.machine import ledger_of
from winnow_jobs.people import client_of
from winnow_jobs.resolved import CODE_VERSION, ResolvedSpec, ResolvedTask, resolve_spec
from winnow_jobs.spec_source import SpecSource
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import SpecError, WinnowError
from winnow_storage.probe import require_conditional_puts
from winnow_storage.uri import parse
from winnow_workers.fetch import Fetcher, Item
from winnow_workers.pipeline import Pipeline, WorkerConfig

FIRST_IMAGES = 8  # that are tried: a few bad files are no fault of the job


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
    yield "an image", lambda: an_image(spec)
    yield "output", lambda: _output(spec)
    yield "ledger", lambda: _ledger(spec)
    yield "ray and device", lambda: _ray(spec)
    for task in spec.tasks:
        yield f"model of {task.name}", partial(model_loads, spec, task)
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


def an_image(spec: ResolvedSpec) -> str:
    """Which of the first images of the corpus can be read, with the job's `limits` and `decode`, and as what.

    Raises:
        SpecError: none of them.
        StoreError: the corpus refuses us.
    """
    fetcher = Fetcher(spec.limits, settings=spec.decode)
    said: list[str] = []
    for row in _first_rows(list_items(spec)):
        item = Item(row["item_id"], row["key"], row["uri"], row["version"], row["bytes"], frozenset())
        found = fetcher.fetch(item, needed_side_px=None)
        if found.decoded is not None:
            size = f"{found.decoded.width_px} x {found.decoded.height_px} px"
            shown = f"what is transparent is shown on {spec.decode.background}"
            return f"{item.key}: {found.decoded.format}, {size}; {shown}"
        said.append(f"{item.key}: {found.signal.reason if found.signal else 'nothing came'}")
    if not said:
        raise SpecError("the corpus holds no image", hint="check corpus.uri and corpus.include")
    raise SpecError(
        f"{said[0]}; none of the first {counted(len(said), 'image')} can be read",
        hint="see docs/decoding.md for formats, and limits: for what may be raised",
    )


def _first_rows(listing: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in listing:
        rows += batch.slice(0, FIRST_IMAGES - len(rows)).to_pylist()
        if len(rows) >= FIRST_IMAGES:
            break
    return rows


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


def model_loads(spec: ResolvedSpec, task: ResolvedTask) -> str:
    """Open a task as an actor does.

    Raises:
        ModelError: its model cannot be used.
    """
    config = WorkerConfig(
        spec.job, "0000", "", spec.output, (), CODE_VERSION, (task.config(),), spec.limits, decode=spec.decode
    )
    pipeline = Pipeline(config)
    pipeline.open()
    pipeline.close()
    return f"{task.model.name} loads ({task.model.digest[:20]})"


def _label_studio(spec: ResolvedSpec) -> str:
    client = client_of(spec)
    return f"{client.url} knows {client.whoami()}"
