"""`winnow route --what-if`: what other policies would do with a run's committed predictions."""

from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson, SpecPath, split
from winnow_jobs.render import Screen
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.what_if import what_if
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse

Values = Annotated[list[str] | None, typer.Option(metavar="X,X", help="Try these.", show_default=False)]


def route(
    spec: SpecPath,
    *,
    ask: Annotated[bool, typer.Option("--what-if", help="Only show what would be routed; nothing is written.")] = False,
    run: Annotated[
        str | None,
        typer.Option("--run", help="A run of the job; by default the newest with all shards.", show_default=False),
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="Only these tasks (NAME,NAME).", show_default=False)
    ] = None,
    max_error: Values = None,
    max_loss: Values = None,
    min_recall: Values = None,
    min_p_ok: Values = None,
    budget: Annotated[int | None, typer.Option(min=0, help="With this budget.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Show what other thresholds would accept, send to people and get wrong, over a run that is committed."""
    if not ask:
        raise UsageError(
            "winnow route shows what would be, and needs --what-if",
            hint="winnow route SPEC --what-if; winnow run routes what it has predicted",
        )
    sweep = {
        name: numbers(name, values)
        for name, values in (
            ("max_error", max_error), ("max_loss", max_loss), ("min_recall", min_recall), ("min_p_ok", min_p_ok)
        )
        if values
    }  # fmt: skip
    resolved = resolve_spec(load_spec(spec))
    runs = Runs(open_store(parse(resolved.output)))
    record = what_if(resolved, runs, run_id=run, tasks=split(tasks), sweep=sweep or None, budget=budget)
    screen = Screen(as_json=as_json)
    if not screen.record(record):
        _show(screen, record)


def numbers(name: str, values: list[str]) -> list[float]:
    """The numbers of an option.

    Raises:
        UsageError: one of them is none.
    """
    found = []
    for text in split(values):
        try:
            found.append(float(text))
        except ValueError as error:
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option} {text!r}: no number", hint=f"write {option} 0.01,0.02,0.05") from error
    return found


def _show(screen: Screen, record: dict[str, Any]) -> None:
    screen.say(f"{record['job']} run {record['run_id']}, budget {record['budget']:,}: what would be routed")
    if not record["variants"]:
        screen.say("the spec has no review policies")
        return
    columns = ["task", "policy", "accept", "audit", "calibrate", "review", "hold", "coverage", "expected error", "95 %"]
    screen.table("", columns, [_cells(one) for one in record["variants"]])
    for one in record["variants"]:
        for promise in one["promises"]:
            if not one["changed"] or promise["threshold"] is None:
                screen.note(promise["text"], warning=promise["threshold"] is None)


def _cells(one: dict[str, Any]) -> list[str]:
    routes = one["routes"]
    changed = ", ".join(f"{key} {value:g}" for key, value in one["changed"].items())
    low, high = one["error_interval"]
    known = one["expected_error"] is not None
    return [
        one["task"],
        changed or "as in the spec",
        *(f"{routes.get(name, 0):,}" for name in ("accept", "audit", "calibrate", "review", "hold")),
        f"{one['coverage']:.1%}",
        f"{one['expected_error']:.2%} of {one['labels_accepted']}" if known else "no labels",
        f"{low:.2%} to {high:.2%}" if known else "",
    ]
