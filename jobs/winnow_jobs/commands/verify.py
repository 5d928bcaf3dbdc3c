"""`winnow verify`: check a run's objects in the bucket, say each finding, and index the run in the ledger."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson, now
from winnow_jobs.job import find_output
from winnow_jobs.machine import ledger_of
from winnow_jobs.render import Screen, outcomes_text
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.verify.findings import Finding
from winnow_jobs.verify.index import Indexed, index_output
from winnow_jobs.verify.labels import read_labels
from winnow_jobs.verify.pins import ModelPins
from winnow_jobs.verify.run import OPEN, RunCheck, lost_runs, run_ids, verify_run
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import LedgerError, UsageError
from winnow_storage.records import Label
from winnow_storage.unfinished import unfinished_files
from winnow_storage.uri import parse

EXIT_FINDINGS = 1
SHOWN = 20  # findings of one run that people see; --json has them all


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What writers left when they died, which no reader sees."""

    files: int
    bytes: int
    removed: bool


@dataclass(slots=True)
class Verified:
    """What came of verifying an output, or some of its runs."""

    output: str
    checks: list[RunCheck] = field(default_factory=list)
    label_findings: list[Finding] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    unfinished: Unfinished | None = None  # None: not looked for
    indexed: Indexed | None = None
    index_error: LedgerError | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.label_findings and all(check.is_sound for check in self.checks)

    def record(self) -> dict[str, Any]:
        """As `--json` says it."""
        error = self.index_error
        return {
            "output": self.output,
            "sound": self.is_sound,
            "runs": [check.record() for check in self.checks],
            "labels": {"events": len(self.labels), "findings": [one.record() for one in self.label_findings]},
            "unfinished": None if self.unfinished is None else asdict(self.unfinished),
            "indexed": None if self.indexed is None else asdict(self.indexed),
            "index_error": None if error is None else {"error": error.message, "hint": error.hint},
        }


def verify(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN_ID]... [SPEC]", help="Runs, such as 0007, and their job.", show_default=False),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every run of the output.")] = False,
    output: Annotated[
        str | None,
        typer.Option(help="The job's output, if there is no spec and the ledger is lost.", show_default=False),
    ] = None,
    index: Annotated[bool, typer.Option(help="Note in the ledger what the bucket says.")] = True,
    clean: Annotated[
        bool, typer.Option("--clean", help="With --all, of a folder: remove files that writers left when they died.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check what runs left in the bucket, object by object, and rebuild the ledger's index from it."""
    named = [word for word in words or [] if word.isdecimal()]
    specs = [word for word in words or [] if not word.isdecimal()]
    place, ledger_url = _place(named, specs, output, every=every)
    if clean and not every:
        raise UsageError("--clean looks at a whole output, so it needs --all", hint="winnow verify --all --clean SPEC")
    runs = Runs(open_store(parse(place)))
    screen = Screen(as_json=as_json)
    verified = Verified(place)
    chosen = run_ids(runs) if every else named
    if not chosen:
        raise UsageError(f"there are no runs at {place}", hint="check the output; winnow run SPEC begins one")
    models = ModelPins()
    with screen.listening() as listener:
        for run_id in chosen:
            verified.checks.append(verify_run(runs, run_id, listener, models=models))
        if every:
            verified.checks += lost_runs(chosen)
            verified.unfinished = _unfinished(runs, clean=clean)
        verified.labels, verified.label_findings = read_labels(runs.store)
    if index:
        _index(runs, verified, ledger_url)
    if not screen.record(verified.record()):
        _show(screen, verified)
    if not verified.is_sound:
        raise typer.Exit(EXIT_FINDINGS)
    if verified.index_error is not None:
        raise typer.Exit(LedgerError.exit_code)


def _place(named: list[str], specs: list[str], output: str | None, *, every: bool) -> tuple[str, str | None]:
    """The output, and the ledger's URL if the spec names one.

    Raises:
        UsageError: no run, or no output, or two of them.
    """
    if every == bool(named):
        raise UsageError(
            "say which runs to verify: their ids, or --all for every run of an output, and not both",
            hint="winnow verify 0007 SPEC   or   winnow verify --all SPEC",
        )
    if len(specs) + (output is not None) > 1:
        raise UsageError("one output at a time: either one SPEC or --output", hint="winnow verify --all SPEC")
    if specs:
        source = load_spec(Path(specs[0]))
        return str(parse(source.spec.output.uri, base=source.base)), source.spec.ledger
    if output is not None:
        return output, None
    if every:
        raise UsageError("--all needs to know which output", hint="winnow verify --all SPEC")
    try:
        return find_output(ledger_of(None), named[0]), None
    except UsageError as error:
        raise UsageError(error.message, hint=f"winnow verify {named[0]} SPEC, or --output URI-OF-THE-OUTPUT") from error


def _unfinished(runs: Runs, *, clean: bool) -> Unfinished:
    found = list(unfinished_files(runs.store.root, now_s=now().timestamp()))
    for path, _ in found if clean else ():
        path.unlink(missing_ok=True)
    return Unfinished(len(found), sum(size for _, size in found), removed=clean)


def _index(runs: Runs, verified: Verified, ledger_url: str | None) -> None:
    plans = [check.plan for check in verified.checks if check.plan is not None]
    if not plans:
        return
    try:
        with ledger_of(ledger_url or plans[-1].spec.ledger) as ledger:
            verified.indexed = index_output(runs, ledger, verified.checks, verified.labels)
    except LedgerError as error:  # what was found must be said all the same
        verified.index_error = error


def _show(screen: Screen, verified: Verified) -> None:
    screen.say(verified.output)
    screen.table("", ["run", "state", "shards", "rows", "outcomes", ""], [_row(check) for check in verified.checks])
    for check in verified.checks:
        _show_findings(screen, check.findings)
        for note in check.notes:
            screen.say(f"run {check.run_id}: {note}")
        if check.state == OPEN and check.plan is not None:
            sound = "all of them sound" if check.is_sound else f"{_findings(len(check.findings))}"
            screen.say(
                f"run {check.run_id}: open, {check.results.shards} of {check.plan.shards} shards committed, {sound}"
            )
    _show_findings(screen, verified.label_findings)
    if (left := verified.unfinished) is not None and left.files:
        next_step = "removed" if left.removed else "winnow verify --all --clean SPEC removes them"
        screen.say(
            f"{counted(left.files, 'unfinished file')} of writers that died, {left.bytes / 2**20:,.1f} MiB: {next_step}"
        )
    if verified.indexed is not None:
        _show_indexed(screen, verified.indexed)
    if verified.index_error is not None:
        screen.note(f"the ledger was not brought up to date: {verified.index_error.message}", warning=True)
        screen.note(f"  next: {verified.index_error.hint or 'winnow doctor SPEC'}")


def _row(check: RunCheck) -> list[str]:
    shards = "?" if check.plan is None else f"{check.results.shards}/{check.plan.shards}"
    rows = "?" if check.plan is None else f"{check.results.rows}/{check.plan.items}"
    verdict = "sound" if check.is_sound else _findings(len(check.findings))
    return [check.run_id, check.state, shards, rows, outcomes_text(check.results.outcomes), verdict]


def _findings(count: int) -> str:
    return counted(count, "finding")


def _show_findings(screen: Screen, findings: Sequence[Finding]) -> None:
    for finding in findings[:SHOWN]:
        screen.say(f"{finding.key}\n  {finding.what}\n  likely: {finding.cause}\n  next: {finding.next}")
    if len(findings) > SHOWN:
        screen.say(f"and {len(findings) - SHOWN} more: --json has them all")


def _show_indexed(screen: Screen, indexed: Indexed) -> None:
    new = f"{counted(indexed.new_review_tasks, 'review task')} and {counted(indexed.new_labels, 'label')}"
    screen.say(f"ledger: {counted(indexed.runs, 'run')} indexed; new to it: {new}")
    if indexed.left_out:
        screen.say(f"  not indexed, since what they say cannot be trusted: {', '.join(indexed.left_out)}")
    if indexed.not_pushed:
        tasks = counted(indexed.not_pushed, "review task")
        screen.say(f"  not known to be sent: {tasks}; winnow push finds those that were")
