"""What must people be told of a run's review: promises that labels do not support, draws that the budget cut?

Sentences from the `review` part of a run's record, for the end of a run, the status and the report.
"""

from collections.abc import Mapping
from typing import Any

from winnow_jobs.audit import audit_alarms
from winnow_jobs.drift_records import drift_warnings
from winnow_jobs.support import support_alarms
from winnow_jobs.words import counted


def run_alarms(record: Mapping[str, Any]) -> list[str]:
    """Everything that people must be told at the end of a run, from its record, most serious first."""
    said = audit_alarms(record.get("audit", ())) + support_alarms(record.get("support", ()))
    return [*said, *review_warnings(record["review"])]


def review_warnings(review: Mapping[str, Any]) -> list[str]:
    """Everything that does not go as the spec asks, most serious first."""
    return [*_unsupported(review), *_cut(review), *drift_warnings(review)]


def review_lines(review: Mapping[str, Any]) -> list[str]:
    """What is promised, and by which evidence."""
    return [one["text"] for one in review.get("promises", ()) if one["threshold"] is not None]


def held_lines(review: Mapping[str, Any]) -> list[str]:
    """What competed again of what earlier runs held, and what will."""
    found = []
    for task, routes in review.get("held_over", {}).items():
        done = ", ".join(f"{count:,} {name}" for name, count in routes.items())
        found.append(f"{task}: of {counted(sum(routes.values()), 'prediction')} that earlier runs held: {done}")
    return found + waiting_lines(review.get("held"))


def waiting_lines(held: Mapping[str, Any] | None) -> list[str]:
    """How many held predictions compete again in the next run, and how many do not."""
    if held is None:
        return []
    tasks = sorted({*held["waiting"], *held["left_out"]})
    return [
        f"{task}: {counted(held['waiting'].get(task, 0), 'held prediction')} will compete again"
        + (f"; {held['left_out'][task]:,} surer ones will not, they are too many" if task in held["left_out"] else "")
        for task in tasks
    ]


def _unsupported(review: Mapping[str, Any]) -> list[str]:
    found = []
    for one in review.get("promises", ()):
        if one["threshold"] is not None:
            continue
        routes = review.get("routes", {}).get(one["task"], {})
        done = ", ".join(f"{counted(count, 'prediction')} {name}" for name, count in routes.items())
        found.append(f"{one['text']}. Meanwhile nothing is accepted under it (this run: {done or 'no predictions'})")
    return found


def _cut(review: Mapping[str, Any]) -> list[str]:
    found = []
    for task, one in review.get("draws", {}).items():
        if one["calibrated"] < one["wanted"]:
            found.append(
                f"{task}: {one['calibrated']} of {one['wanted']} draws to calibrate fit in the budget"
                f"{_supports(one['calibrated'])}; raise review.budget or lower review.calibrate"
            )
        # draws that were taken to calibrate are not audited as well: a few fewer are no cut
        if one["audited"] < one["audit_drawn"] - one["calibrated"]:
            found.append(
                f"{task}: {one['audited']} of {one['audit_drawn']} audit draws fit in the budget"
                f"{_supports(one['audited'])}; raise review.budget or lower review.audit"
            )
    return found


def _supports(labels: int) -> str:
    """What so many labels can still show, at best: without a single error, with 90 % certainty."""
    if labels == 0:
        return ": they can show nothing"
    return f": at best, without one error, they show an error below {1 - 0.1 ** (1 / labels):.2%} with 90 % certainty"
