"""`winnow explain`: where the answer of one item comes from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from winnow_jobs.commands.options import AsJson
from winnow_jobs.machine import ledger_of
from winnow_jobs.render import Screen
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_storage.blobs import open_store
from winnow_storage.errors import LedgerError, StoreError
from winnow_storage.uri import parse

if TYPE_CHECKING:
    from winnow_storage.ledger import Ledger


def explain(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The job spec.", show_default=False)],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="An item: its key, item_id or uri.", show_default=False)],
    *,
    task: Annotated[str | None, typer.Option(help="Only this task.", show_default=False)] = None,
    run: Annotated[str | None, typer.Option(help="As one run had it.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Say where the answer of an item comes from: object, decoding, model, scores, route, people, consensus, decision.

    What is read is a few row groups of every run, and of labels what is about the item, whatever the job's size.
    """
    from winnow_jobs.explain.record import Asked
    from winnow_jobs.explain.record import explain as explained
    from winnow_jobs.explain.told import lines

    source = load_spec(spec)
    runs = Runs(open_store(parse(source.spec.output.uri, base=source.base)))
    studio = source.spec.review.label_studio
    screen = Screen(as_json=as_json)
    record = explained(
        runs,
        Asked(item, task, run),
        ledger=lambda: _ledger(source.spec.ledger, screen),
        server=None if studio is None else studio.url,
    )
    if not screen.record(record):
        for line in lines(record):
            screen.say(line)
    for note in (*record["notes"], *record["damaged"]):
        screen.note(note, warning=True)
    if record["damaged"]:
        raise typer.Exit(StoreError.exit_code)


def _ledger(url: str | None, screen: Screen) -> "Ledger | None":
    """None where it cannot be opened: it only knows how far review tasks got."""
    try:
        return ledger_of(url)
    except LedgerError as error:
        screen.note(f"{error.message}; next: {error.hint}", warning=True)
        return None
