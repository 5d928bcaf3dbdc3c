"""What does a person read after a run? One HTML page that stands alone: outcomes, tasks, quality, what people see."""

import base64
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from winnow_jobs.quality import Target, measure
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review import TO_PEOPLE, read_routes
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.views import run_status
from winnow_storage.dataset import read_results, results_glob
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.ledger import Ledger
from winnow_storage.uri import parse
from winnow_workers.decode import DecodeLimits
from winnow_workers.fetch import Fetcher, Item

BINS = 20
EXAMPLES_PER_TASK = 6
THUMBNAIL_PX = 144
REASONS = 20


@dataclass(frozen=True, slots=True)
class Truth:
    """A Parquet file of what is true (see `quality`), and what the measures are to reach."""

    file: Path
    targets: Mapping[str, Target] = field(default_factory=dict)


def write_report(
    spec: ResolvedSpec, runs: Runs, ledger: Ledger, *, run_id: str | None, truth: Truth | None, out: Path | None
) -> dict[str, Any]:
    """Write the report of a run (the newest by default); where it stands and the measures in it.

    Raises:
        UsageError: there is no run yet, or no such truth file.
        StoreError: the results cannot be read, or the report not written.
    """
    chosen = run_id or runs.newest()
    if chosen is None:
        raise UsageError(f"{spec.output} has no runs yet", hint="winnow run SPEC")
    plan = runs.plan(chosen)
    context = _context(plan, runs, ledger, truth)
    page = _render(context).encode()
    if out is None:
        key = f"runs/{chosen}/report.html"
        runs.store.put(key, page)
        place = str(parse(spec.output) / key)
    else:
        try:
            out.write_bytes(page)
        except OSError as error:
            raise StoreError(
                f"the report {out} cannot be written: {error.strerror}", hint="choose another --out"
            ) from error
        place = str(out.absolute())
    return {
        "job": spec.job,
        "run_id": chosen,
        "report": place,
        "outcomes": context["status"]["outcomes"],
        "quality": context["quality"],
    }


def _render(context: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("winnow_jobs", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(context)


def _context(plan: PlanDocument, runs: Runs, ledger: Ledger, truth: Truth | None) -> dict[str, Any]:
    status = run_status(runs, plan.run_id)
    results = read_results(runs.store, plan.run_id)
    routes = read_routes(runs.store, plan.run_id)
    labels = ledger.label_counts(plan.spec.job)
    return {
        "plan": plan,
        "status": status,
        "summary": runs.summary(plan.run_id) or {},
        "tasks": [_task_view(task.name, plan, results, routes, labels) for task in plan.tasks()],
        "quality": _quality(plan, results, truth),
        "reasons": _reasons(results),
        "results": results_glob(parse(plan.spec.output), plan.run_id),
    }


def _task_view(
    name: str, plan: PlanDocument, results: pa.Table, routes: pa.Table | None, labels: dict[str, int]
) -> dict[str, Any]:
    task = plan.spec.task(name)
    own = None if routes is None else routes.filter(pc.equal(routes["task"], name))
    column, values = _confidence(own)
    return {
        "task": task,
        "marked_random": task.model.weights.kind == "random",
        "predictions": _predicted(results, name),
        "routes": {} if own is None else dict(Counter(own["route"].to_pylist())),
        "reasons": {} if own is None else dict(Counter(own["reason"].to_pylist())),
        "labels": labels.get(name, 0),
        "confidence": column,
        "bars": _histogram(values),
        "examples": [] if own is None else _examples(own, plan.spec.limits),
    }


def _predicted(results: pa.Table, name: str) -> int:
    if name not in results.column_names:
        return 0  # no shard is committed yet
    struct = results[name]
    ran = pc.and_(pc.is_valid(struct), pc.is_null(pc.struct_field(struct, "error")))
    return int(pc.sum(ran).as_py() or 0)


def _confidence(routes: pa.Table | None) -> tuple[str, list[float]]:
    if routes is None:
        return "", []
    for column in ("p_ok", "score"):
        values = [one for one in routes[column].to_pylist() if one is not None]
        if values:
            return column, values
    return "", []


def _histogram(values: list[float]) -> list[dict[str, float]]:
    """Counts over equal bins from the least to the greatest value, heights scaled to 1."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = (high - low) / BINS or 1.0
    counts = Counter(min(int((value - low) / width), BINS - 1) for value in values)
    top = max(counts.values())
    return [
        {
            "from": low + place * width,
            "to": low + (place + 1) * width,
            "count": counts[place],
            "height": counts[place] / top,
        }
        for place in range(BINS)
    ]


def _examples(routes: pa.Table, limits: DecodeLimits) -> list[dict[str, Any]]:
    rows = [row for row in routes.to_pylist() if row["route"] in TO_PEOPLE][:EXAMPLES_PER_TASK]
    fetcher = Fetcher(limits)
    return [row | {"thumbnail": _thumbnail(row, fetcher)} for row in rows]


def _thumbnail(row: Mapping[str, Any], fetcher: Fetcher) -> str | None:
    item = Item(row["item_id"], row["key"], row["uri"], row["version"], None, frozenset())
    try:
        fetched = fetcher.fetch(item, needed_side_px=THUMBNAIL_PX)
    except StoreError:
        return None
    if fetched.decoded is None:
        return None  # the page is about the run; an image that went away since is no reason to fail it
    image = Image.fromarray(fetched.decoded.pixels)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _quality(plan: PlanDocument, results: pa.Table, truth: Truth | None) -> list[dict[str, Any]]:
    if truth is None:
        return []
    try:
        table = pq.read_table(truth.file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"the truth {truth.file} cannot be read: {error}", hint="give a Parquet file") from error
    tasks = {task.name: task.operator for task in plan.tasks()}
    return [one.record() for one in measure(table, results, tasks, targets=truth.targets)]


def _reasons(results: pa.Table) -> list[dict[str, Any]]:
    rows = results.filter(pc.not_equal(results["outcome"], "done")).select(["key", "outcome", "reason"])
    return list(rows.slice(0, REASONS).to_pylist())
