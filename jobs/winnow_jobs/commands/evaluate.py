"""`winnow evaluate`: a task's committed predictions against what is true."""

import math
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from winnow_jobs.commands.options import AsJson, SpecPath, split
from winnow_jobs.evaluation.task import evaluate_task
from winnow_jobs.render import Screen
from winnow_jobs.resolved import resolve_spec
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import load_spec
from winnow_storage.blobs import open_store
from winnow_storage.errors import UsageError
from winnow_storage.uri import parse
from winnow_workers.evaluation.acceptance import Acceptance

BELOW = 1  # exit code where a --fail-under is not reached


def evaluate(
    spec: SpecPath,
    *,
    task: Annotated[str, typer.Option(help="Which task of the spec.")],
    truth: Annotated[
        str,
        typer.Option(help="A file or folder of what is true (docs/evaluate.md), or the word labels: people's answers."),
    ],
    run: Annotated[
        str | None,
        typer.Option(help="One run's rows; by default the current row of every item.", show_default=False),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Names of the values 1, 2, ... of index masks.", show_default=False)
    ] = None,
    box_threshold: Annotated[float, typer.Option(help="Boxes below make no claim.")] = 0.5,
    mask_iou: Annotated[float, typer.Option(help="From which mean IoU on an item's masks are ok.")] = 0.5,
    per_item: Annotated[
        Path | None, typer.Option(help="Write key and ok of every item as Parquet.", show_default=False)
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(help="MEASURE=VALUE: exit code 1 if the measure is below.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a task's predictions with the truth."""
    wanted = _limits(fail_under)
    resolved = resolve_spec(load_spec(spec))
    record = evaluate_task(
        resolved,
        Runs(open_store(parse(resolved.output))),
        task,
        truth,
        run_id=run,
        classes=split(classes),
        wanted=Acceptance(box_threshold=box_threshold, mask_iou=mask_iou),
    )
    unknown = sorted(set(wanted) - set(record["measures"]))
    if unknown:
        raise UsageError(
            f"--fail-under {unknown[0]}: there is no such measure of {task}",
            hint=f"measures: {', '.join(record['measures'])}",
        )
    items = record.pop("per_item")
    if per_item is not None:
        columns = {"key": [key for key, _ in items], "ok": [ok for _, ok in items]}
        pq.write_table(pa.table(columns), per_item)
    record["below"] = sorted(
        name for name, least in wanted.items() if not record["measures"][name] >= least  # NaN is below everything
    )  # fmt: skip
    screen = Screen(as_json=as_json)
    if not screen.record(_without_nan(record)):
        _show(screen, record)
    if record["below"]:
        raise typer.Exit(BELOW)


def _limits(options: list[str] | None) -> dict[str, float]:
    found = {}
    for option in split(options):
        name, separator, value = option.partition("=")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UsageError(
                f"--fail-under {option}: {'no number' if separator else 'no ='}", hint="write accuracy=0.95"
            ) from error
    return found


def _show(screen: Screen, record: dict[str, Any]) -> None:
    low, high = record["ok_interval_95"]
    screen.say(
        f"{record['task']} ({record['operator']}) over {record['n']:,} items of {record['rows']:,} rows; "
        f"truth: {record['truth']}"
    )
    if record["failed"]:
        screen.say(f"{record['failed']:,} of them failed in this task and count as wrong")
    for what, keys in (("rows without truth", "without_truth"), ("truth without a row", "without_row")):
        count, some = record[keys]["count"], record[keys]["some"]
        if count:
            screen.say(f"{count:,} {what}: {', '.join(some)}{', ...' if count > len(some) else ''}")
    screen.say(f"ok {record['measures']['ok_share']:.4f} (95 %: {low:.4f} to {high:.4f})")
    rows = [[name, f"{value:.4f}"] for name, value in record["measures"].items() if name != "ok_share"]
    screen.table("", ["measure", "value"], rows)
    if record["confidence"] != "p_ok":
        screen.say(f"ranked by {record['confidence']}: p_ok is null, so there is no calibration error")
    if "classes" in record["tables"]:
        shown = [
            [str(row[0]), *(f"{value:.3f}" for value in row[1:4]), str(row[4])] for row in record["tables"]["classes"]
        ]
        screen.table("classes", ["label", "precision", "recall", "F1", "items"], shown[:50])
    for name in record["below"]:
        screen.say(f"{name} is below what --fail-under asks for")


def _without_nan(value: Any) -> Any:
    """The same with null for what no number can be given for, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
