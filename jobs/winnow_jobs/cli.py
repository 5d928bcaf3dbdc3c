"""What can be typed after `winnow`? The commands, and the frontier where every error becomes a message and a code."""

import sys
import traceback
from typing import Annotated

import typer

from winnow_jobs.commands import models_made, people, run, spec
from winnow_jobs.commands.compact import compact
from winnow_jobs.commands.consensus import consensus
from winnow_jobs.commands.demo import demo
from winnow_jobs.commands.duplicates import duplicates
from winnow_jobs.commands.evaluate import evaluate
from winnow_jobs.commands.explain import explain
from winnow_jobs.commands.export import export
from winnow_jobs.commands.export_labels import export_labels
from winnow_jobs.commands.fit_anomaly import fit_anomaly
from winnow_jobs.commands.learn import learn_command
from winnow_jobs.commands.listen import listen
from winnow_jobs.commands.loop import loop_command
from winnow_jobs.commands.models import models
from winnow_jobs.commands.operators import operators
from winnow_jobs.commands.route import route
from winnow_jobs.commands.search import search
from winnow_jobs.commands.verify import verify
from winnow_jobs.render import Screen
from winnow_jobs.resolved import CODE_VERSION
from winnow_storage.errors import WinnowError

app = typer.Typer(
    name="winnow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run vision models over millions of images, keep what they are sure of, send the rest to people.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad spec or usage, 3 partial (every item accounted for, some not done), "
    "4 environment (store, ledger, Ray, Label Studio), 130 interrupted.",
)
for command in (spec.validate, spec.plan, run.run, run.resume, people.status, people.push, people.pull, people.report):
    app.command()(command)
app.command()(listen)
app.command("learn")(learn_command)
app.command("loop")(loop_command)
app.command()(route)
models.command("fit-anomaly")(fit_anomaly)
models.command()(models_made.export)
models.command()(models_made.quantize)
app.add_typer(models, name="models")
export.command("labels")(export_labels)
app.add_typer(export, name="export")
app.command()(spec.doctor)
app.command()(verify)
app.command()(compact)
app.command()(evaluate)
app.command()(consensus)
app.command()(explain)
app.command()(search)
app.command()(duplicates)
app.add_typer(operators, name="operators")
app.command()(demo)


def _version(value: bool) -> None:  # noqa: FBT001
    if value:
        typer.echo(f"winnow {CODE_VERSION}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the actors' logs.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Winnow."""
    del version  # its callback has answered
    ctx.obj = debug


def main(arguments: list[str] | None = None) -> None:
    """The entry point: run a command, and end the process with its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    # --debug is accepted anywhere in the line, since it is added to a line that just failed
    debug = "--debug" in given
    given = (["--debug"] if debug else []) + [one for one in given if one != "--debug"]
    sys.exit(_run(given, debug=debug))


def _run(arguments: list[str], *, debug: bool) -> int:
    screen = Screen(as_json="--json" in arguments)
    try:
        app(arguments)  # ends with SystemExit, also for what typer finds wrong in the line
    except WinnowError as error:
        if debug:
            traceback.print_exc()
        return _say_error(screen, error.message, error.hint, error.exit_code)
    except Exception as error:
        if debug:
            traceback.print_exc()
        hint = "this is a defect of Winnow: run the command with --debug and report what it prints"
        return _say_error(screen, f"{type(error).__name__}: {error}", hint, 1)
    return 0


def _say_error(screen: Screen, message: str, hint: str | None, code: int) -> int:
    if not screen.record({"error": message, "hint": hint, "exit_code": code}):
        screen.err.print(f"error: {message}", markup=False, style="red")
        if hint:
            screen.err.print(f"  next: {hint}", markup=False)
    return code
