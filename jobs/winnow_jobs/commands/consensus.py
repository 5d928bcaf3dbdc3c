"""`winnow consensus`: what people's answers say together, who is good at it, and who is asked next."""

from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson, SpecPath, now, split
from winnow_jobs.machine import ledger_of
from winnow_jobs.people import ask_further, sync_ledger
from winnow_jobs.render import Screen
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse

_SHOWN = 10


def consensus(
    spec: SpecPath,
    *,
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="Only these tasks (NAME,NAME).", show_default=False)
    ] = None,
    send: Annotated[bool, typer.Option("--push/--no-push", help="Ask further people in Label Studio at once.")] = True,
    as_json: AsJson = False,
) -> None:
    """Take people's answers together: one for each item, how good each person is, and who is asked next.

    Run it after winnow pull. Rows are appended below consensus/; where the posterior is under review.consensus.sure,
    another person is asked, up to review.max_overlap; disputes go to review.adjudicate; labels that look wrong are
    looked at again (review.second_look).
    """
    from winnow_jobs.consensus.further import settle  # with scipy and scikit-learn, which take seconds to import

    resolved = resolve_spec(load_spec(spec))
    there = [task.name for task in resolved.tasks]
    chosen = split(tasks)
    for name in chosen:
        if name not in there:
            raise UsageError(f"--tasks {name!r}: the spec has no such task", hint=f"it has {', '.join(there)}")
    runs, ledger = Runs(open_store(parse(resolved.output))), ledger_of(resolved.ledger)
    screen = Screen(as_json=as_json)
    record = settle(resolved, runs, tasks=chosen, at=now())
    sync_ledger(runs, ledger)
    with screen.listening() as listener:
        record |= ask_further(resolved, runs, ledger, listener) if send else {"sent": 0, "reopened": 0}
    if not screen.record(record):
        _show(screen, record)


def _show(screen: Screen, record: dict[str, Any]) -> None:
    for task in record["tasks"]:
        if not task["items"]:
            screen.say(f"{task['task']}: nobody has answered anything yet: winnow pull SPEC")
            continue
        states = ", ".join(f"{count:,} {state}" for state, count in task["states"].items())
        alike = "" if task["agreement"] is None else f"; two people agree in {task['agreement']:.3f}"
        screen.say(
            f"{task['task']}: {counted(task['items'], 'item')}, {task['answers_per_item']:.2f} answers each: "
            f"{states}{alike}"
        )
        rows = [_person(one) for one in task["annotators"]]
        screen.table("", ["person", "answers", "right", "of gold", "agrees with others"], rows)
        for one in task["disputes"][:_SHOWN]:
            screen.say(f"  disputed: {one['key']} ({', '.join(one['annotators'])})")
        for purpose, count in task["asked"].items():
            if count:
                screen.say(f"  {counted(count, 'question')} of purpose {purpose}")
    screen.say(f"{counted(record['sent'], 'review task')} sent, {record['reopened']:,} put before another person")


def _person(one: dict[str, Any]) -> list[str]:
    gold = f"{one['gold_right']:.4g} of {one['gold']}" if one["gold"] else "none asked"
    alike = "nobody else answered" if one["agreement"] is None else f"{one['agreement']:.3f}"
    return [one["annotator"], f"{one['answers']:,}", f"{one['accuracy']:.3f}", gold, alike]
