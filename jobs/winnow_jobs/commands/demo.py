"""`winnow demo`: everything once, on this machine, with nothing to configure."""

import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson
from winnow_jobs.commands.run import termination_as_interrupt
from winnow_jobs.demo.label_studio_server import LabelStudioServer
from winnow_jobs.render import Screen, outcomes_text

EXIT_INTERRUPTED = 130
LABEL_STUDIO = Path(".venv-label-studio/bin/label-studio")


def demo(
    *,
    folder: Annotated[Path, typer.Option(help="Where the demo's corpus, models and output go.")] = Path("demo"),
    label_studio: Annotated[
        Path | None,
        typer.Option(
            help="Label Studio's executable; $WINNOW_LABEL_STUDIO, or the one that make setup installs.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        bool | None,
        typer.Option(help="Keep Label Studio up until Ctrl-C; by default at a terminal only.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the demo: corpus, models, a run, Label Studio with a scripted annotator, labels, a report.

    Then a second job, about scans of digits, shows the loop: one round of labels from the script, how right the model
    is before and after it, and a promise about what is accepted, with its evidence.
    """
    from winnow_jobs.demo.show import demo_session

    executable = label_studio or Path(os.environ.get("WINNOW_LABEL_STUDIO", LABEL_STUDIO))
    screen = Screen(as_json=as_json)
    try:
        with termination_as_interrupt(), ExitStack() as stack:
            with screen.listening() as listener:
                result = stack.enter_context(demo_session(folder, executable, listener))
            if not screen.record(result.record):
                _show(screen, result.record)
                _show_loop(screen, result.record["loop"])
            if sys.stdout.isatty() if keep is None else keep:
                _keep_up(screen, result.server, [result.record["spec"], result.record["loop"]["spec"]])
    except KeyboardInterrupt:
        screen.note("\nInterrupted. winnow demo starts over from a fresh output and keeps the corpus and the models.")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _show(screen: Screen, record: dict[str, Any]) -> None:
    ended = outcomes_text(record["outcomes"])
    screen.say(f"run {record['run_id']}: {record['items']} images in {record['seconds']:.0f} s: {ended}")
    for one in record["quality"]:
        target = one["target"]
        goal = f" ({target['text']}: {'met' if target['met'] else 'missed'})" if target is not None else ""
        screen.say(f"  {one['task']}: {one['name']} {one['value']:.4f} over {one['n']}{goal}")
    review = record["review"]
    screen.say(
        f"for people: {review['selected']} selected, {review['pushed']} in Label Studio, "
        f"{record['answered']} answered, {record['labels']} labels pulled"
    )
    screen.say(f"results: {record['results']}")
    screen.say(f"labels:  {record['labels_glob']}")
    screen.say(f"report:  {record['report']}")
    screen.say(f"spec:    {record['spec']}")


def _show_loop(screen: Screen, record: dict[str, Any]) -> None:
    screen.say(
        f"\nthe loop, over {record['images']:,} scans of digits: a scripted annotator, which knows the truth, "
        f"answered {record['answered']} questions in Label Studio"
    )
    for one in record["evaluations"]:
        low, high = one["interval"]
        screen.say(
            f"  {one['name']} the round: {one['right']:.1%} of {one['n']} hidden images are right "
            f"(95 % interval {low:.1%} to {high:.1%})"
        )
    if not record["promoted"]:
        screen.say("  the gate kept the first head: the report says why")
    for one in record["promises"]:
        screen.say(f"  promise: {one['text']}")
    accepted = record["accepted"]
    if accepted["accepted"]:
        screen.say(f"  accepted without review: {accepted['accepted']:,} of {accepted['of']:,} predictions")
    for text in (promise["text"] for one in record["audit"] for promise in one["promises"]):
        screen.say(f"  audit: {text}")
    screen.say(f"report:  {record['report']}")
    screen.say(f"spec:    {record['spec']}")


def _keep_up(screen: Screen, server: LabelStudioServer, specs: list[str]) -> None:
    screen.say(f"\nLabel Studio is up at {server.url}  (log in as {server.email}, password {server.password})")
    screen.say("Answer some tasks, then in another terminal, of the first job or of the second:")
    for spec in specs:
        screen.say(f"  LABEL_STUDIO_TOKEN={server.token} {shlex.quote(sys.argv[0])} pull {shlex.quote(spec)}")
    screen.say("Ctrl-C stops it.")
    try:
        Event().wait()
    except KeyboardInterrupt:
        screen.say("stopped")
