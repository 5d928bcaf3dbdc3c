"""What does a person read after a run? One HTML page that stands alone: outcomes, tasks, quality, what people see."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from winnow_jobs.audit import audit_records
from winnow_jobs.drift_records import drift_view
from winnow_jobs.quality import Target, measure
from winnow_jobs.report_evaluations import Evaluation, evaluation_views
from winnow_jobs.report_heads import head_views
from winnow_jobs.report_people import people_views
from winnow_jobs.report_promises import promise_views
from winnow_jobs.report_tasks import ROUTE_COLUMNS, TaskRoutes, routes_by_task
from winnow_jobs.resolved import ResolvedSpec
from winnow_jobs.review_notes import held_lines, run_alarms
from winnow_jobs.routes import iter_routes
from winnow_jobs.runs import PlanDocument, Runs
from winnow_jobs.support import support_records
from winnow_jobs.views import run_status
from winnow_storage.dataset import iter_results, read_results, results_glob
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.ledger import Ledger
from winnow_storage.uri import parse
from winnow_workers.fetch import Fetcher, Item

THUMBNAIL_PX = 144
REASONS = 20


@dataclass(frozen=True, slots=True)
class Truth:
    """A Parquet file of what is true (see `quality`), and what the measures are to reach."""

    file: Path
    targets: Mapping[str, Target] = field(default_factory=dict)


def write_report(
    spec: ResolvedSpec,
    runs: Runs,
    ledger: Ledger,
    *,
    run_id: str | None,
    truth: Truth | None,
    out: Path | None,
    evaluations: Sequence[Evaluation] = (),
) -> dict[str, Any]:
    """Write the report of a run (the newest that has items by default); where it stands and the measures in it.

    `evaluations` of anything, such as of images that the job never sees, are shown side by side.

    Raises:
        UsageError: there is no run yet, or no such truth file.
        StoreError: the results cannot be read, or the report not written.
    """
    chosen = run_id or _newest_with_items(runs, spec.output)
    plan = runs.plan(chosen)
    context = _context(plan, runs, ledger, truth) | {
        "people": people_views(spec, runs),
        "evaluations": evaluation_views(evaluations),
    }
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
        "evaluations": context["evaluations"],
        "heads": context["heads"],
        "promises": context["summary"].get("review", {}).get("promises", []),
        "audit": context["audits"],
        "support": context["support"],
        "drift": context["drift"],
        "held": context["summary"].get("review", {}).get("held"),
        "warnings": context["warnings"],
    }


def _render(context: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("winnow_jobs", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.j2").render(context)


def _context(plan: PlanDocument, runs: Runs, ledger: Ledger, truth: Truth | None) -> dict[str, Any]:
    names = [task.name for task in plan.tasks()]
    routes = routes_by_task(iter_routes(runs.store, plan.run_id, ROUTE_COLUMNS), names)
    labels = ledger.label_counts(plan.spec.job)
    review = (runs.summary(plan.run_id) or {}).get("review", {})
    audits, support = audit_records(plan.spec, runs), support_records(plan.spec, runs)
    predictions: Counter[str] = Counter()
    for _, receipt in runs.receipts(plan.run_id):
        predictions.update(receipt.predictions)
    return {
        "plan": plan,
        "status": run_status(runs, plan.run_id),
        "summary": runs.summary(plan.run_id) or {},
        "tasks": [
            _task_view(name, plan, routes[name]) | {"predictions": predictions[name], "labels": labels.get(name, 0)}
            for name in names
        ],
        "quality": _quality(plan, runs, truth),
        "warnings": run_alarms({"audit": audits, "support": support, "review": review}),
        "support": support,
        "promises": promise_views(plan, runs, review, audits),
        "heads": head_views(plan),
        "held": held_lines(review),
        "audits": audits,
        "drift": drift_view(runs.store, plan.run_id),
        "reasons": _reasons(runs, plan.run_id),
        "results": results_glob(parse(plan.spec.output), plan.run_id),
    }


def _task_view(name: str, plan: PlanDocument, routes: TaskRoutes) -> dict[str, Any]:
    task = plan.spec.task(name)
    column, bars = routes.confidence()
    fetcher = Fetcher(plan.spec.limits, settings=plan.spec.decode)
    return {
        "task": task,
        "marked_random": task.model.weights.kind == "random",
        "routes": dict(routes.routes),
        "reasons": dict(routes.reasons),
        "confidence": column,
        "bars": bars,
        "examples": [row | {"thumbnail": _thumbnail(row, fetcher)} for row in routes.examples],
    }


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


def _quality(plan: PlanDocument, runs: Runs, truth: Truth | None) -> list[dict[str, Any]]:
    if truth is None:
        return []
    try:
        table = pq.read_table(truth.file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"the truth {truth.file} cannot be read: {error}", hint="give a Parquet file") from error
    tasks = {task.name: task.operator for task in plan.tasks()}
    results = read_results(runs.store, plan.run_id)
    return [one.record() for one in measure(table, results, tasks, targets=truth.targets)]


def _reasons(runs: Runs, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for _, rows in iter_results(runs.store, run_id, ["key", "outcome", "reason"]):
        found += rows.filter(pc.not_equal(rows["outcome"], "done")).slice(0, REASONS - len(found)).to_pylist()
        if len(found) == REASONS:
            break
    return found


def _newest_with_items(runs: Runs, output: str) -> str:
    for run_id in reversed(runs.ids()):
        if runs.plan(run_id).items > 0:  # a run without items only takes down how the corpus is listed
            return run_id
    raise UsageError(f"{output} has no run with items yet", hint="winnow run SPEC")
