"""Is a run in the bucket what its plan says? Every object read once, and held against the others."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from winnow_jobs.events import Listener, silent
from winnow_jobs.routes import Counts, is_routed, routes_key
from winnow_jobs.runs import PlanDocument, Runs, next_run_id, plan_key
from winnow_jobs.verify.findings import Finding
from winnow_jobs.verify.pins import ModelPins, check_calibrators, check_models
from winnow_jobs.verify.plan import EDITED, REMOVED, RESTORE, check_plan, check_snapshot
from winnow_jobs.verify.results import Results, check_results, missing_shards
from winnow_jobs.verify.routes import DAMAGED, check_routes
from winnow_jobs.verify.summary import check_summary, read_summary
from winnow_storage.errors import StoreDenied, StoreError, StoreUnavailable, UsageError
from winnow_storage.ids import digest_bytes
from winnow_storage.shards import read_seal, results_prefix, seal_key

OPEN, ABANDONED, UNKNOWN = "open", "abandoned", "unknown"


@dataclass(slots=True)
class RunCheck:
    """What came of checking one run."""

    run_id: str
    state: str = UNKNOWN
    plan: PlanDocument | None = None  # None where it cannot be read
    summary: dict[str, Any] | None = None  # None while it is open, and where it cannot be read
    results: Results = field(default_factory=Results)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def record(self) -> dict[str, Any]:
        """As `--json` says it."""
        return {
            "run_id": self.run_id,
            "job": None if self.plan is None else self.plan.spec.job,
            "state": self.state,
            "sound": self.is_sound,
            "shards": None if self.plan is None else self.plan.shards,
            "shards_committed": self.results.shards,
            "items": None if self.plan is None else self.plan.items,
            "rows": self.results.rows,
            "outcomes": dict(self.results.outcomes),
            "findings": [finding.record() for finding in self.findings],
            "notes": self.notes,
        }


def run_ids(runs: Runs) -> list[str]:
    """Every run of an output, also one that has shards and lost its plan; oldest first."""
    names = sorted((name for name in runs.store.folders("runs/") if name.isdecimal()), key=int)
    return [name for name in names if runs.store.info(plan_key(name)) is not None or _has_results(runs, name)]


def lost_runs(found: Sequence[str]) -> list[RunCheck]:
    """The runs of which nothing is left between the others: runs are numbered without gaps, the oldest may be gone."""
    numbers = [int(run_id) for run_id in found]
    between = range(numbers[0], numbers[-1]) if numbers else range(0)
    what = "the run is not there, although older and newer ones are"
    again = "restore the run's folder from a backup; else the next winnow run takes its items again"
    lost = [next_run_id(str(number - 1)) for number in between if number not in numbers]
    return [RunCheck(run_id, findings=[Finding(plan_key(run_id), what, REMOVED, again)]) for run_id in lost]


def verify_run(runs: Runs, run_id: str, listener: Listener = silent, *, models: ModelPins | None = None) -> RunCheck:
    """Check every object of a run, in memory for a few shards, whatever the size of the run.

    `models` remembers which ones were looked at for other runs.

    Raises:
        UsageError: there is no such run. StoreDenied, StoreUnavailable: the store does not answer.
    """
    check = RunCheck(run_id)
    plan = check.plan = _read_plan(runs, check)
    if plan is None:
        return check
    # a run writes shards, routes, summary: looked at in the other order, what stands had everything before it
    summary, check.findings = read_summary(runs.store, run_id)
    check.summary = summary
    if summary is not None or not check.findings:
        check.state = OPEN if summary is None else summary["state"]
    has_routes = is_routed(runs.store, run_id)
    check.findings += check_plan(plan)
    check.findings += check_snapshot(runs.store, plan)
    _check_pins(runs, check, plan, models or ModelPins())
    plan_digest = digest_bytes(runs.store.get(plan_key(run_id)))
    sealed = _read_seal(runs, check, plan)
    is_open = check.state == OPEN
    results = check_results(runs.store, plan, plan_digest, listener, is_open=is_open, sealed=sealed)
    check.results = results
    if results.late:
        shards = "1 shard was" if results.late == 1 else f"{results.late} shards were"
        check.notes.append(f"{shards} committed after the run was abandoned: the next run takes their images")
    if results.replaced:
        images = "1 image was" if results.replaced == 1 else f"{results.replaced} images were"
        check.notes.append(f"{images} replaced between the listing and the reading")
    if results.unproved:
        images = "1 image was" if results.unproved == 1 else f"{results.unproved} images were"
        check.notes.append(f"{images} copied from rows that are not there any more")
    check.findings += results.findings
    may_lack = check.state == ABANDONED and sealed is None  # by an older version, which sealed no run
    if check.state != OPEN and not may_lack:
        check.findings += missing_shards(plan, results)
    is_complete = results.sound and (not results.missing or may_lack)
    routes = _check_routes(runs, check, plan, is_complete=is_complete, may_lack=may_lack) if has_routes else None
    if not has_routes and check.state not in (OPEN, UNKNOWN):
        check.findings.append(
            Finding(routes_key(run_id), "it is not there, although the run is closed", REMOVED, RESTORE)
        )
    if summary is not None and check.state != ABANDONED:
        check.findings += check_summary(summary, plan, results if is_complete else None, routes)
    return check


def _check_pins(runs: Runs, check: RunCheck, plan: PlanDocument, models: ModelPins) -> None:
    check.findings += check_calibrators(runs.store, plan)
    findings, notes = check_models(plan, models.wrong(plan), is_open=check.state == OPEN)
    check.findings += findings
    check.notes += notes


def _read_seal(runs: Runs, check: RunCheck, plan: PlanDocument) -> Collection[int] | None:
    """The shards that count; None if no seal says it."""
    key = seal_key(check.run_id)
    try:
        sealed = read_seal(runs.store, check.run_id)
    except (StoreDenied, StoreUnavailable):
        raise
    except StoreError as error:
        check.findings.append(Finding(key, error.message, DAMAGED, error.hint or RESTORE))
        return None
    if sealed is not None and check.state not in (OPEN, ABANDONED, UNKNOWN) and len(sealed) != plan.shards:
        what = f"it names {len(sealed)} shards where the plan has {plan.shards}, although the run is closed"
        check.findings.append(Finding(key, what, EDITED, RESTORE))
    return sealed


def _check_routes(
    runs: Runs, check: RunCheck, plan: PlanDocument, *, is_complete: bool, may_lack: bool
) -> Counts | None:
    routes = check_routes(runs.store, plan, check.results.usable if is_complete else None, may_lack=may_lack)
    check.findings += routes.findings
    if may_lack and routes.unrouted > 0:
        check.notes.append(
            f"{routes.unrouted} predictions were committed after the run was abandoned: nobody sees them"
        )
    if not is_complete:
        check.notes.append("its routes and summary are held against the shards once those are sound")
    return None if routes.findings else routes.counts


def _read_plan(runs: Runs, check: RunCheck) -> PlanDocument | None:
    key = plan_key(check.run_id)
    if runs.store.info(key) is None:
        if not _has_results(runs, check.run_id):
            raise UsageError(
                f"{runs.store.root} has no run {check.run_id}",
                hint=f"winnow verify --all --output {runs.store.root} looks at every run that is there",
            )
        what = "it is not there, although shards of the run are"
        check.findings.append(Finding(key, what, REMOVED, RESTORE))
        return None
    try:
        return runs.plan(check.run_id)
    except StoreError as error:
        if not isinstance(error.__cause__, ValidationError):
            raise  # the store does not answer
        check.findings.append(Finding(key, f"{error.message} ({_first_of(error.__cause__)})", EDITED, RESTORE))
        return None


def _first_of(invalid: ValidationError) -> str:
    first = invalid.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _has_results(runs: Runs, run_id: str) -> bool:
    return next(runs.store.walk(results_prefix(run_id)), None) is not None
