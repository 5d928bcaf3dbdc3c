"""`winnow export labels`: people's answers in other formats."""

from pathlib import Path
from typing import Annotated, Any

import typer

from winnow_jobs.commands.options import AsJson, SpecPath, split
from winnow_jobs.label_export.spread import Spread
from winnow_jobs.label_export.write import LabelFormat, Only, Wanted
from winnow_jobs.label_export.write import export_labels as write_labels
from winnow_jobs.render import Screen
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse


def export_labels(
    spec: SpecPath,
    *,
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="FILE|FOLDER", help="A file, or a folder with one for each task.", show_default=False
        ),
    ],
    form: Annotated[
        LabelFormat,
        typer.Option(
            "--format",
            help="parquet: all; coco: boxes, masks; csv: classes, verdicts, texts; masks: PNG; text: a file an image.",
        ),
    ] = LabelFormat.PARQUET,
    only: Annotated[
        Only | None,
        typer.Option(
            help="rows: every state of every answer (parquet alone); consensus: what an item's answers together say.",
            show_default=False,
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option("--task", help="Only these tasks (NAME,NAME).", show_default=False)
    ] = None,
    purpose: Annotated[
        list[str] | None,
        typer.Option(help="Only answers asked for these: audit,calibrate are the random ones.", show_default=False),
    ] = None,
    spread: Annotated[
        float | None,
        typer.Option(
            metavar="COSINE",
            min=0.5,
            max=1.0,
            help="Classes and verdicts also for images this much like an answered one, such as 0.995.",
            show_default=False,
        ),
    ] = None,
    vectors: Annotated[
        str | None, typer.Option(help="The embed task by whose vectors images are alike.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write people's answers to files: as rows that say who, when and what they saw, or as a truth to train on.

    What was skipped or deleted is among the rows of parquet; of all other formats it is left out, and counted.
    """
    source = load_spec(spec)
    known, chosen = [task.name for task in source.spec.tasks], split(tasks)
    for name in chosen:
        if name not in known:
            raise UsageError(f"--task {name!r}: the spec has no such task", hint=f"it has {', '.join(known)}")
    wanted = Wanted(
        form, to, _only(form, only), frozenset(chosen), frozenset(split(purpose)), _spread(form, only, spread, vectors)
    )
    runs = Runs(open_store(parse(source.spec.output.uri, base=source.base)))
    record = {"job": source.spec.name} | write_labels(runs, wanted)
    screen = Screen(as_json=as_json)
    if not screen.record(record):
        _show(screen, record)


def _spread(form: LabelFormat, only: Only | None, least: float | None, vectors: str | None) -> Spread | None:
    if least is None:
        if vectors is not None:
            raise UsageError("--vectors belongs to --spread", hint="add --spread 0.995, or leave it out")
        return None
    is_told = form is LabelFormat.CSV or (form is LabelFormat.PARQUET and only is Only.CONSENSUS)
    if not is_told:
        raise UsageError(
            "--spread is for one answer an image, of classes and verdicts",
            hint="--format csv, or --format parquet --only consensus",
        )
    return Spread(least, vectors)


def _only(form: LabelFormat, only: Only | None) -> Only:
    if only is None:
        return Only.ROWS if form is LabelFormat.PARQUET else Only.CONSENSUS
    if only is Only.ROWS and form is not LabelFormat.PARQUET:
        raise UsageError(f"--only rows: {form} holds one answer for each item", hint="--format parquet")
    return only


def _show(screen: Screen, record: dict[str, Any]) -> None:
    what = "row" if record["only"] == Only.ROWS else "item"
    screen.say(
        f"{record['job']}: {counted(record['rows'], what)} as {record['format']} in {record['to']} "
        f"({counted(record['files'], 'file')})"
    )
    for task in record["tasks"]:
        left_out = [
            f"{task[name]:,} {words}"
            for name, words in (
                ("skipped", "skipped"),
                ("deleted", "deleted"),
                ("other_interface", "of another interface"),
                ("not_last", "answered again or of an older version"),
                ("empty", "that say nothing"),
            )
            if task[name]
        ]
        rest = f"; left out: {', '.join(left_out)}" if left_out and record["only"] == Only.CONSENSUS else ""
        screen.say(f"  {task['task']}: {counted(task['items'], 'item')}, {counted(task['answers'], 'answer')}{rest}")
        for note in task["notes"]:
            screen.note(note)
