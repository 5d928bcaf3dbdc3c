"""Is a run's summary what its receipts and its routes add up to?"""

import json
from collections.abc import Iterator
from typing import Any

from winnow_jobs.routes import TO_PEOPLE, Counts
from winnow_jobs.runs import PlanDocument
from winnow_jobs.verify.findings import Finding
from winnow_jobs.verify.results import Results
from winnow_jobs.verify.rows import without_zeros
from winnow_storage.blobs import BlobStore
from winnow_storage.errors import BlobMissing
from winnow_storage.schemas import Outcome

CLOSED = ("done", "partial", "failed", "abandoned")
EDITED = "the summary was edited, or put back from another run"
AGAIN = "restore it from a backup; or remove it, and winnow resume closes the run again with the right one"


def summary_key(run_id: str) -> str:
    """Where the summary of a run stands."""
    return f"runs/{run_id}/summary.json"


def read_summary(store: BlobStore, run_id: str) -> tuple[dict[str, Any] | None, list[Finding]]:
    """The summary, None while the run is open; or what is wrong with it."""
    key = summary_key(run_id)
    try:
        document = json.loads(store.get(key))
    except BlobMissing:
        return None, []
    except ValueError as error:
        return None, [Finding(key, f"it cannot be read: {error}", EDITED, AGAIN)]
    if not isinstance(document, dict) or document.get("state") not in CLOSED or document.get("run_id") != run_id:
        return None, [Finding(key, f"it is not the summary of run {run_id}", EDITED, AGAIN)]
    return document, []


def check_summary(
    summary: dict[str, Any], plan: PlanDocument, results: Results | None, routes: Counts | None
) -> Iterator[Finding]:
    """Numbers of a summary that are not the plan's, nor what receipts and routes add up to where those are sound."""
    expected: dict[str, object] = {"job": plan.spec.job, "items": plan.items, "shards": plan.shards}
    if results is not None:
        done = results.outcomes.get(Outcome.DONE, 0)
        expected |= {
            "state": "done" if done == plan.items else "partial",
            "bytes": results.bytes,
            "copied": results.copied,
            "outcomes": without_zeros(results.outcomes),
            "predictions": without_zeros(results.predictions),
            "errors": without_zeros(results.errors),
        }
    review = summary.get("review", {})
    said = {name: summary.get(name) for name in expected}
    if routes is not None:
        to_people = sum(count for counts in routes.values() for name, count in counts.items() if name in TO_PEOPLE)
        expected |= {"review.selected": to_people, "review.routes": routes}
        said |= {"review.selected": review.get("selected"), "review.routes": review.get("routes")}
    for name, wanted in expected.items():
        found = said[name]
        found = without_zeros(found) if name in ("outcomes", "predictions", "errors") and found else found
        if found != wanted:
            what = f"it says {name} {found}; what the run left adds up to {wanted}"
            yield Finding(summary_key(plan.run_id), what, EDITED, AGAIN)
