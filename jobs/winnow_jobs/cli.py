"""What can be typed after `winnow`? The commands, and the frontier where every error becomes a message and a code."""

import atexit
import gc
import sys
import traceback
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Annotated

import typer

from winnow_jobs.commands.lazy import Loader, lazy_group, named
from winnow_jobs.render import Screen
from winnow_storage.errors import WinnowError


def _models() -> typer.Typer:
    from winnow_jobs.commands import models_made
    from winnow_jobs.commands.fit_anomaly import fit_anomaly
    from winnow_jobs.commands.models import models

    models.command("fit-anomaly")(fit_anomaly)
    models.command()(models_made.export)
    models.command()(models_made.quantize)
    return models


def _exports() -> typer.Typer:
    from winnow_jobs.commands.export import export
    from winnow_jobs.commands.export_labels import export_labels

    export.command("labels")(export_labels)
    return export


COMMANDS: Mapping[str, Loader] = MappingProxyType(
    {
        "validate": named("spec:validate"),
        "plan": named("spec:plan"),
        "run": named("run:run"),
        "resume": named("run:resume"),
        "status": named("people:status"),
        "push": named("people:push"),
        "pull": named("people:pull"),
        "report": named("people:report"),
        "listen": named("listen:listen"),
        "learn": named("learn:learn_command"),
        "loop": named("loop:loop_command"),
        "route": named("route:route"),
        "models": _models,
        "export": _exports,
        "doctor": named("spec:doctor"),
        "verify": named("verify:verify"),
        "compact": named("compact:compact"),
        "evaluate": named("evaluate:evaluate"),
        "consensus": named("consensus:consensus"),
        "explain": named("explain:explain"),
        "search": named("search:search"),
        "duplicates": named("duplicates:duplicates"),
        "operators": named("operators:operators"),
        "demo": named("demo:demo"),
    }
)

app = typer.Typer(
    name="winnow",
    cls=lazy_group(COMMANDS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run vision models over millions of images, keep what they are sure of, send the rest to people.",
    epilog="Exit codes: 0 done, 1 failed, 2 bad spec or usage, 3 partial (every item accounted for, some not done), "
    "4 environment (store, ledger, Ray, Label Studio), 130 interrupted.",
)


def _version(value: bool) -> None:  # noqa: FBT001
    if value:
        typer.echo(f"winnow {version('winnow')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the actors' logs.")] = False,
    say_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Winnow."""
    del say_version  # its callback has answered
    ctx.obj = debug


def main(arguments: list[str] | None = None) -> None:
    """The entry point: run a command, and end the process with its exit code."""
    # what a command makes is modules for the most part; looking through them is a tenth of its start, and, before the
    # interpreter ends, 0.4 s
    gc.set_threshold(100_000)
    atexit.register(_keep_garbage)
    given = sys.argv[1:] if arguments is None else arguments
    # --debug is accepted anywhere in the line, since it is added to a line that just failed
    debug = "--debug" in given
    given = (["--debug"] if debug else []) + [one for one in given if one != "--debug"]
    sys.exit(_run(given, debug=debug))


def _keep_garbage() -> None:
    if "torch" in sys.modules:  # what it brings complains on stderr of what is left
        gc.unfreeze()
    else:
        gc.freeze()


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
