"""`winnow run` and `winnow resume`: drive a run, show how it goes, end with its record and exit code."""

import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from winnow_jobs.backfill import Backfill, backfilled
from winnow_jobs.commands.options import AsJson, SpecPath, now, split
from winnow_jobs.events import Listener
from winnow_jobs.job import Ended, find_output, resume_run, run_job
from winnow_jobs.machine import ledger_of
from winnow_jobs.options import Options
from winnow_jobs.plan import Selection, read_since
from winnow_jobs.profile import profile_lines
from winnow_jobs.render import Screen, outcomes_text
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.review_notes import held_lines, review_lines, run_alarms
from winnow_jobs.spec_source import load_spec
from winnow_jobs.words import counted
from winnow_storage.errors import UsageError
from winnow_storage.schemas import Outcome

EXIT_PARTIAL = 3
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 130
NOT_DONE = tuple(outcome for outcome in Outcome if outcome is not Outcome.DONE)

Tasks = Annotated[list[str] | None, typer.Option("--tasks", help="Only these tasks (NAME,NAME).", show_default=False)]
Retry = Annotated[
    list[str] | None,
    typer.Option("--retry", help="Take items that ended so again, such as failed,unreadable.", show_default=False),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="RUN_OR_DATE",
        help="Make the predictions of all runs that began then or later again (0007, or 2026-11-03).",
        show_default=False,
    ),
]
BackfillWhat = Annotated[
    Backfill | None,
    typer.Option(
        "--backfill",
        help="Do earlier work again: predictions, by the heads (tasks with vectors:) that changed and nothing else; "
        "decisions, by all heads, routed anew; all, by every task. Heads take vectors that are committed.",
        show_default=False,
    ),
]
Tolerate = Annotated[
    list[str] | None,
    typer.Option("--tolerate", help="Outcomes that do not make the exit code 3.", show_default=False),
]
Profiled = Annotated[
    bool,
    typer.Option(
        "--profile", help="Show where the time went, beside a bare loop over images in memory that is timed at the end."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N due items.", show_default=False)]
Sample = Annotated[int | None, typer.Option(min=1, help="Only N due items, at random.", show_default=False)]


def selection(
    tasks: list[str] | None, retry: list[str] | None, since: str | None, limit: int | None, sample: int | None
) -> Selection:
    """What the options select.

    Raises:
        UsageError: --retry names no outcome, or --since neither a run nor a date.
    """
    return Selection(
        tasks=tuple(split(tasks)),
        retry=tuple(outcomes(retry, "--retry")),
        since=None if since is None else read_since(since),
        limit=limit,
        sample=sample,
    )


def outcomes(values: list[str] | None, option: str) -> list[Outcome]:
    """The outcomes that an option names.

    Raises:
        UsageError: one of them is none, or is `done`.
    """
    named = split(values)
    for name in named:
        if name not in NOT_DONE:
            raise UsageError(f"{option} {name!r}: no outcome", hint=f"allowed: {', '.join(NOT_DONE)}")
    return [Outcome(name) for name in named]


def run(
    ctx: typer.Context,
    spec: SpecPath,
    *,
    new: Annotated[bool, typer.Option("--new", help="Abandon an open run and begin another.")] = False,
    limit: Limit = None,
    sample: Sample = None,
    tasks: Tasks = None,
    retry: Retry = None,
    since: Since = None,
    backfill: BackfillWhat = None,
    tolerate: Tolerate = None,
    push: Annotated[bool, typer.Option(help="Send the selected review tasks to Label Studio.")] = True,
    profile: Profiled = False,
    as_json: AsJson = False,
) -> None:
    """Run a job: go on with its open run, or begin one over everything that is due."""
    chosen = selection(tasks, retry, since, limit, sample)
    tolerated = outcomes(tolerate, "--tolerate")
    screen = Screen(as_json=as_json)
    resolved = resolve_spec(load_spec(spec))
    chosen = backfilled(chosen, resolved, backfill)
    options = Options(chosen, new=new, push=push, debug=bool(ctx.obj), profile=profile)
    _drive(
        screen,
        lambda listener: run_job(resolved, options, listener, now),
        go_on=["winnow", "run", str(spec), *_flags(chosen)],
        again=["winnow", "run", str(spec), *_flags(chosen.model_copy(update={"retry": (), "since": None}))],
        tolerated=tolerated,
    )


def resume(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="Such as 0007.", show_default=False)],
    *,
    output: Annotated[
        str | None, typer.Option(help="The job's output, if the ledger does not know the run.", show_default=False)
    ] = None,
    tolerate: Tolerate = None,
    push: Annotated[bool, typer.Option(help="Send the selected review tasks to Label Studio.")] = True,
    profile: Profiled = False,
    as_json: AsJson = False,
) -> None:
    """Go on with an open run as it was begun, whatever the spec says now."""
    tolerated = outcomes(tolerate, "--tolerate")
    options = Options(push=push, debug=bool(ctx.obj), profile=profile)
    place = output or find_output(ledger_of(None), run_id)
    _drive(
        Screen(as_json=as_json),
        lambda listener: resume_run(place, run_id, options, listener),
        go_on=["winnow", "resume", run_id, "--output", place],
        again=["winnow", "run", "SPEC"],
        tolerated=tolerated,
    )


def _flags(chosen: Selection) -> list[str]:
    flags = [("--tasks", ",".join(chosen.tasks)), ("--retry", ",".join(chosen.retry))]
    flags += [("--since", chosen.since or "")]
    flags += [("--limit", str(chosen.limit or "")), ("--sample", str(chosen.sample or ""))]
    return [word for flag, value in flags if value for word in (flag, value)]


def _drive(
    screen: Screen,
    work: Callable[[Listener], Ended],
    *,
    go_on: list[str],
    again: list[str],
    tolerated: list[Outcome],
) -> None:
    try:
        with termination_as_interrupt(), screen.listening() as listener:
            ended = work(listener)
    except KeyboardInterrupt:
        screen.note(f"\nInterrupted. What was committed stays committed; go on with:  {shlex.join(go_on)}")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not screen.record(ended.record):
        _show(screen, ended.record)
    for text in run_alarms(ended.record):
        screen.note(text, warning=True)
    code = _exit_code(screen, ended.record, tolerated, again)
    if ended.push_error is not None:
        screen.note(
            f"the results are committed, but nothing could be sent to people:\n  {ended.push_error.message}",
            warning=True,
        )
        push_again = shlex.join(["winnow", "push", again[2]])
        screen.note(f"  next: {ended.push_error.hint or 'look at Label Studio'}; then {push_again}")
        code = EXIT_ENVIRONMENT
    raise typer.Exit(code)


def _show(screen: Screen, record: dict[str, Any]) -> None:
    if record["state"] == "nothing_due":
        screen.say(f"{record['job']}: nothing is due")
    else:
        screen.say(
            f"{record['job']} run {record['run_id']}: {record['state']}, {counted(record['items'], 'item')} in "
            f"{record['seconds']:.1f} s ({record['items_per_s']:.1f} items/s): {outcomes_text(record['outcomes'])}"
        )
        for task, count in record["predictions"].items():
            errors = record["errors"].get(task, 0)
            text = f"  {task}: {counted(count, 'prediction')}"
            screen.say(text + (f", {counted(errors, 'error')}" if errors else ""))
        if record["copied"]:
            screen.say(f"  copied from others of the same bytes: {counted(record['copied'], 'item')}")
        if record.get("from_vectors"):
            screen.say(f"  from committed vectors, nothing was fetched: {counted(record['from_vectors'], 'item')}")
    if "profile" in record:
        for line in profile_lines(record["profile"]):
            screen.say(line)
    review = record["review"]
    if review["selected"] or review["pushed"]:
        screen.say(f"for people: {review['selected']} selected, {review['pushed']} pushed to Label Studio")
    for text in [*held_lines(review), *(f"promised: {text}" for text in review_lines(review))]:
        screen.say(text)
    if record["results"]:
        screen.say(f"results: {record['results']}")


def _exit_code(screen: Screen, record: dict[str, Any], tolerated: list[Outcome], again: list[str]) -> int:
    if record["state"] != "partial":
        return 0
    left = {name: count for name, count in record["outcomes"].items() if name in NOT_DONE and count}
    final = [name for name in left if name != Outcome.UNAVAILABLE]
    if final:
        screen.note(f"to take what did not end done again:  {shlex.join([*again, '--retry', ','.join(final)])}")
    if Outcome.UNAVAILABLE in left:
        lost = counted(left[Outcome.UNAVAILABLE], "item")
        screen.note(f"{lost} could not be fetched; the next winnow run takes what is unavailable again")
    return 0 if set(left) <= set(tolerated) else EXIT_PARTIAL


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Schedulers stop a job with SIGTERM, a closed terminal with SIGHUP: both end it as cleanly as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
