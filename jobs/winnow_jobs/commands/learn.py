"""`winnow learn`: what people's answers teach, such as how sure one may be of a prediction."""

import getpass
from pathlib import Path
from typing import Annotated

import typer

from winnow_jobs.commands.learn_heads import learn_heads_command
from winnow_jobs.commands.options import AsJson, SpecPath, now, split
from winnow_jobs.head_learning.fit import HeadKind
from winnow_jobs.head_learning.learn_heads import HeadOptions
from winnow_jobs.learn import Learned, learn, told, told_aside
from winnow_jobs.render import Screen
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse


def learn_command(
    spec: SpecPath,
    *,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Fit what turns scores into p_ok.")] = False,
    tasks: Annotated[
        list[str] | None, typer.Option("--tasks", help="Only these tasks (NAME,NAME).", show_default=False)
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="A Parquet or CSV file with the truth of a uniform random sample, instead of people's labels.",
            show_default=False,
        ),
    ] = None,
    neighbours: Annotated[
        str | None,
        typer.Option(
            help="An embed task of the spec: p_ok also heeds what is true of the labelled items that look most alike.",
            show_default=False,
        ),
    ] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Learn heads of classify tasks with vectors:, from all labels.")
    ] = False,
    head: Annotated[
        HeadKind, typer.Option(help="linear: a logistic regression. knn: the nearest labelled items vote.")
    ] = HeadKind.LINEAR,
    promote: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Let this stage name the new head, such as prod, if the gate passes it.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds in which a head is tried.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Learn from people's labels: with --calibrate how sure one may be of predictions, with --heads to predict.

    Calibrators take labels of uniform random draws (purpose calibrate), never those of audit or review; the next run
    routes by them. Heads take all labels but those of gold items, on which each is compared with the current one; it is
    used only where the gate passes it and --promote says so. Rows, and the routes of earlier runs, stay as they are.
    """
    if heads and not calibrate:
        _refuse(("--truth", truth), ("--neighbours", neighbours), belong_to="--calibrate")
        options = HeadOptions(head, seed, promote, getpass.getuser())
        learn_heads_command(spec, split(tasks), options, Screen(as_json=as_json))
        return
    if heads or not calibrate:
        what = "both --calibrate and --heads were" if heads else "nothing to learn was"
        raise UsageError(
            f"winnow learn: {what} named", hint="winnow learn SPEC --calibrate, or winnow learn SPEC --heads"
        )
    _refuse(("--promote", promote), belong_to="--heads")
    resolved = resolve_spec(load_spec(spec))
    runs = Runs(open_store(parse(resolved.output)))
    found = learn(resolved, runs, tasks=split(tasks), truth=truth, neighbours=neighbours, at=now())
    screen = Screen(as_json=as_json)
    errors = {name: one for name, one in found.items() if isinstance(one, UsageError)}
    learned = {name: one for name, one in found.items() if isinstance(one, Learned)}
    if errors and not learned:
        raise next(iter(errors.values()))
    refused = {name: {"error": error.message, "hint": error.hint} for name, error in errors.items()}
    if screen.record({"job": resolved.job, "learned": {n: o.record() for n, o in learned.items()}, "refused": refused}):
        return
    for name, one in learned.items():
        _tell(screen, name, one)
    for error in errors.values():
        screen.note(error.message, warning=True)


def _refuse(*given: tuple[str, object], belong_to: str) -> None:
    for name, value in given:
        if value is not None:
            raise UsageError(f"{name} belongs to {belong_to}", hint=f"leave it out, or give {belong_to}")


def _tell(screen: Screen, name: str, one: Learned) -> None:
    calibrator = one.calibrator
    others = sorted((loss, form) for form, loss in calibrator.log_losses.items() if form != calibrator.form)
    screen.say(f"{name}: {one.text}")
    loss = calibrator.log_losses[calibrator.form]
    screen.say(f"  held-out log loss {loss:.4f}; next best {others[0][1]} {others[0][0]:.4f}")
    if calibrator.parts is not None:
        parts = calibrator.parts
        screen.say(f"  parts: {parts.form}, from {parts.parts}, {parts.right} of them right")
    if calibrator.subject.mask_iou is not None:
        screen.say(f"  right is a mean IoU of at least {calibrator.subject.mask_iou:g} (mask_iou of the task's policy)")
    if calibrator.neighbours is not None:
        screen.say(f"  heeds labelled items that look alike, by {calibrator.neighbours.task}")
    if one.left_out:
        screen.note(f"{name}: labels {told(one.left_out)}")
    if one.set_aside:
        screen.note(f"{name}: {told_aside(one.set_aside)}")
