"""`winnow push`, `winnow pull`, `winnow status` and `winnow report`: what people are asked, said, and can read."""

from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.audit import audit_alarms
from winnow_jobs.commands.options import AsJson, SpecPath
from winnow_jobs.drift_records import drift_line, drift_warnings
from winnow_jobs.machine import ledger_of
from winnow_jobs.people import pull_labels, push_pending, sync_ledger
from winnow_jobs.render import Screen, outcomes_text
from winnow_jobs.report import Truth, write_report
from winnow_jobs.report_evaluations import read_evaluation
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.review_notes import waiting_lines
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.support import support_alarms
from winnow_jobs.views import status_record
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.uri import parse

RUNS_SHOWN = 20  # a year of nights is more than a screen

RunId = Annotated[
    str | None,
    typer.Option("--run", help="A run of the job; by default the newest that has items.", show_default=False),
]


def push(spec: SpecPath, *, as_json: AsJson = False) -> None:
    """Send the selected review tasks to Label Studio; what is there already is not sent again."""
    resolved = resolve_spec(load_spec(spec))
    runs, ledger = Runs(open_store(parse(resolved.output))), ledger_of(resolved.ledger)
    sync_ledger(runs, ledger)
    screen = Screen(as_json=as_json)
    with screen.listening() as listener:
        pushed = push_pending(resolved, runs, ledger, listener)
    record = {"job": resolved.job, "sent": pushed.sent, "already": pushed.already, "swept": pushed.swept}
    if not screen.record(record):
        sent = counted(pushed.sent, "review task")
        screen.say(f"{resolved.job}: {sent} sent to Label Studio, {pushed.already:,} there already")


def pull(spec: SpecPath, *, as_json: AsJson = False) -> None:
    """Bring people's answers from Label Studio into the bucket and the ledger."""
    resolved = resolve_spec(load_spec(spec))
    runs, ledger = Runs(open_store(parse(resolved.output))), ledger_of(resolved.ledger)
    pulled = pull_labels(resolved, runs, ledger)
    screen = Screen(as_json=as_json)
    record = {
        "job": resolved.job,
        "new": pulled.new,
        "changed": pulled.changed,
        "gone": pulled.gone,
        "tasks": pulled.tasks,
    }
    if not screen.record(record):
        screen.say(
            f"{resolved.job}: {counted(pulled.new, 'new label')}, {pulled.changed:,} changed, {pulled.gone:,} deleted"
        )


def status(spec: SpecPath, *, as_json: AsJson = False) -> None:
    """Show a job's runs, what people were asked and what they answered."""
    resolved = resolve_spec(load_spec(spec))
    record = status_record(resolved, Runs(open_store(parse(resolved.output))), ledger_of(resolved.ledger))
    screen = Screen(as_json=as_json)
    if not screen.record(record):
        _show_status(screen, record)


def _show_status(screen: Screen, record: dict[str, Any]) -> None:
    screen.say(f"{record['job']} at {record['output']}")
    if not record["runs"]:
        screen.say("no runs yet: winnow run SPEC")
        return
    rows = [
        [
            run["run_id"],
            run["state"],
            f"{run['shards_committed']}/{run['shards']}",
            str(run["items"]),
            outcomes_text(run["outcomes"]) if run["items"] else "the listing only",
        ]
        for run in record["runs"][-RUNS_SHOWN:]
    ]
    if len(record["runs"]) > RUNS_SHOWN:
        screen.say(f"the newest {RUNS_SHOWN} of {len(record['runs']):,} runs; --json has them all")
    screen.table("", ["run", "state", "shards", "items", "outcomes"], rows)
    for task, counts in record["review"].items():
        states = ", ".join(f"{count} {state}" for state, count in counts["tasks"].items())
        screen.say(f"{task}: review tasks: {states or 'none'}; {counted(counts['labels'], 'label')}")
    for text in [
        *waiting_lines(record["held"]),
        *(f"run {one['run_id']}: {one['text']}" for one in record["promises"]),
    ]:
        screen.say(text)
    for one in record["audit"]:
        found = one["all"]
        low, high = found["error_interval"]
        screen.say(
            f"{one['task']}: audited {found['answered']:,} of the accepted, {found['wrong']:,} wrong "
            f"({found['error']:.2%}, 95 % interval {low:.2%} to {high:.2%})"
        )
    if record["drift"] is not None:
        screen.say(drift_line(record["drift"]))
    for text in [*audit_alarms(record["audit"]), *support_alarms(record["support"]), *drift_warnings(record["drift"])]:
        screen.note(text, warning=True)


def report(
    spec: SpecPath,
    *,
    run: RunId = None,
    truth: Annotated[
        Path | None, typer.Option(help="A Parquet file with the truth, to measure against.", show_default=False)
    ] = None,
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="A record of winnow evaluate --json to show; several are shown side by side, in this order.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; beside the run by default.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the HTML report of a run."""
    resolved = resolve_spec(load_spec(spec))
    runs, ledger = Runs(open_store(parse(resolved.output))), ledger_of(resolved.ledger)
    record = write_report(
        resolved,
        runs,
        ledger,
        run_id=run,
        truth=None if truth is None else Truth(truth),
        out=out,
        evaluations=[read_evaluation(one) for one in evaluation or ()],
    )
    screen = Screen(as_json=as_json)
    if not screen.record(record):
        for measure in record["quality"]:
            screen.say(f"{measure['task']}: {measure['name']} {measure['value']:.4f} over {measure['n']}")
        screen.say(f"report: {record['report']}")
