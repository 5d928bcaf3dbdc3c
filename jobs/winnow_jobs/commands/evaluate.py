"""`winnow evaluate`: a task's predictions against what is true."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer

from winnow_annotation.policies import Policy
from winnow_jobs.acceptance import acceptance_of, other_tests
from winnow_jobs.commands.options import AsJson, split
from winnow_jobs.evaluation.compare import OPERATORS, Resampling
from winnow_jobs.evaluation.limits import broken, read_limits
from winnow_jobs.evaluation.page import write_page
from winnow_jobs.evaluation.rows import Rows, of_compaction, of_current, of_file, of_run
from winnow_jobs.evaluation.task import LABELS, evaluate_rows, truth_of
from winnow_jobs.evaluation.true_items import Coco, with_paths
from winnow_jobs.render import Screen
from winnow_jobs.runs import Runs
from winnow_jobs.spec_source import SpecSource, load_spec
from winnow_jobs.words import counted
from winnow_storage.blobs import open_store
from winnow_storage.errors import StoreError, UsageError
from winnow_storage.uri import parse
from winnow_workers.catalogue import operator_named
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.texts import Normalisation
from winnow_workers.operators.classify import ClassifyParams

BELOW = 1  # exit code where a limit is not kept
CLASSES_SHOWN = 50
_NORMALISE = ("nfkc", "case", "punctuation", "no-space")


def evaluate(
    spec: Annotated[
        Path | None,
        typer.Argument(metavar="SPEC", help="The job spec; not needed for --predictions.", show_default=False),
    ] = None,
    *,
    truth: Annotated[
        str,
        typer.Option(help="A file or folder of what is true (docs/evaluate.md), or the word labels: people's answers."),
    ],
    task: Annotated[
        str | None, typer.Option(help="Which task; not needed if there is only one.", show_default=False)
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="One run's rows; by default the current row of every item.", show_default=False),
    ] = None,
    compaction: Annotated[bool, typer.Option("--compaction", help="The newest compaction's rows.")] = False,
    predictions: Annotated[
        Path | None, typer.Option(help="Rows in a Parquet, JSON or JSON Lines file.", show_default=False)
    ] = None,
    operator: Annotated[
        str | None, typer.Option(help="Of --predictions, where no spec names the task.", show_default=False)
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(help="Names of the values 1, 2, ... of index masks.", show_default=False)
    ] = None,
    purpose: Annotated[
        list[str] | None,
        typer.Option(help="Of people's answers only those: audit,calibrate are the random ones.", show_default=False),
    ] = None,
    box_threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Boxes that score less make no claim; by default those that the task held back (is_output).",
            show_default=False,
        ),
    ] = None,
    box_iou: Annotated[float, typer.Option(min=0.0, max=1.0, help="How well a box must cover.")] = 0.5,
    mask_iou: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="From which mean IoU on an item's masks are ok; by default as the task's policy says, else 0.5.",
            show_default=False,
        ),
    ] = None,
    normalise: Annotated[
        list[str] | None,
        typer.Option(help=f"Of texts, before they are compared: {', '.join(_NORMALISE)}.", show_default=False),
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(min=0, max=100_000, help="Draw items again N times for intervals of mAP, IoU, error rates.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of --bootstrap.")] = 0,
    per_item: Annotated[
        Path | None, typer.Option(help="Write every item's verdict as Parquet.", show_default=False)
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with tables and curves.", show_default=False)] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(help="MEASURE=VALUE: exit code 1 if the measure is below.", show_default=False),
    ] = None,
    fail_over: Annotated[
        list[str] | None,
        typer.Option(help="MEASURE=VALUE: exit code 1 if the measure is above.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a task's predictions with the truth."""
    limits = read_limits(split(fail_under), split(fail_over))
    source = None if spec is None else load_spec(spec)
    name, kind = _task(source, task, operator)
    policy = None if source is None else source.spec.review.policies.get(name)
    by_policy = acceptance_of(policy)
    tau = by_policy.mask_iou if mask_iou is None else mask_iou
    wanted = Acceptance(box_threshold, box_iou, tau, _normalisation(split(normalise)))
    runs = None if source is None else Runs(open_store(parse(source.spec.output.uri, base=source.base)))
    asked = frozenset(split(purpose))
    known = truth_of(truth, runs, name, kind, classes=split(classes), purposes=asked, run=run)
    known = with_paths(known, _tree(source, name))
    rows = _rows(runs, name, kind, policy, known.coco, (run, compaction, predictions))
    record: dict[str, Any] = {"job": None if source is None else source.spec.name}
    record |= evaluate_rows(rows, known, wanted, resampling=Resampling(bootstrap, seed))
    if source is not None:
        record["notes"] += other_tests(kind, wanted, by_policy)
    if rows.by is not None:
        record["notes"] += rows.by.notes(wanted, asked if truth == LABELS else None)
    record["broken"] = [one.record(record["measures"]) for one in broken(limits, record["measures"])]
    items = record.pop("per_item")
    if per_item is not None:
        _write(per_item, lambda: pq.write_table(items, per_item))
    if html is not None:
        _write(html, lambda: write_page(html, record))
    screen = Screen(as_json=as_json)
    if not screen.record(without_nan(record)):
        _show(screen, record)
    if record["broken"]:
        raise typer.Exit(BELOW)


def _task(source: SpecSource | None, task: str | None, operator: str | None) -> tuple[str, str]:
    if source is None:
        if operator is None:
            raise UsageError(
                "neither a spec nor --operator says what the predictions are",
                hint="winnow evaluate SPEC --task NAME --truth ..., or --predictions FILE --operator classify",
            )
        return task or "prediction", operator
    known = {one.name: operator_named(one.operator).reviewed_as or one.operator for one in source.spec.tasks}
    if task is None:
        measured = [name for name, kind in known.items() if kind in OPERATORS]
        # vectors are there for other tasks, mostly: they are measured where they are named, or there is nothing else
        measured = [name for name in measured if known[name] != "embed"] or measured
        if len(measured) != 1:
            raise UsageError("which task is to be measured?", hint=f"add --task: one of {', '.join(measured)}")
        task = measured[0]
    if task not in known:
        raise UsageError(f"the spec has no task {task!r}", hint=f"tasks: {', '.join(known)}")
    return task, known[task]


def _tree(source: SpecSource | None, task: str) -> Mapping[str, str | None]:
    """The tree of labels of a task of classify; empty where it has none."""
    found = [] if source is None else [one for one in source.spec.tasks if one.name == task]
    if source is None or not found or found[0].operator != "classify":
        return {}
    return ClassifyParams.model_validate(found[0].params).pinned(source.base).tree


def _rows(
    runs: Runs | None,
    task: str,
    operator: str,
    policy: Policy | None,
    coco: Coco | None,
    where: tuple[str | None, bool, Path | None],
) -> Rows:
    run, compaction, file = where
    if sum((run is not None, compaction, file is not None)) > 1:
        raise UsageError("--run, --compaction and --predictions exclude each other", hint="give one of them")
    if file is not None:
        return of_file(file, task, operator, coco)
    if runs is None:
        raise UsageError("there are no predictions without a spec", hint="name the spec, or --predictions FILE")
    if compaction:
        return of_compaction(runs, task, operator, policy)
    return of_current(runs, task, operator, policy) if run is None else of_run(runs, run, task, operator, policy)


def _normalisation(words: list[str]) -> Normalisation:
    for word in words:
        if word not in _NORMALISE:
            raise UsageError(f"--normalise {word!r}: no normalisation", hint=f"allowed: {', '.join(_NORMALISE)}")
    return Normalisation(
        unicode="NFKC" if "nfkc" in words else "NFC",
        space="remove" if "no-space" in words else "squeeze",
        fold_case="case" in words,
        drop_punctuation="punctuation" in words,
    )


def _write(path: Path, write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}", hint="choose another place") from error


def _show(screen: Screen, record: dict[str, Any]) -> None:
    screen.say(
        f"{record['task']} ({record['operator']}), {record['predictions']}: {counted(record['n'], 'item')} of "
        f"{counted(record['rows'], 'row')}; truth: {record['truth']}"
    )
    if record["failed"]:
        screen.say(f"{record['failed']:,} of them failed in this task and count as wrong")
    for what, name in _UNPAIRED:
        count, some = record[name]["count"], record[name]["some"]
        if count:
            screen.say(f"{count:,} {what}: {', '.join(some)}{', ...' if count > len(some) else ''}")
    for note in record["notes"]:
        screen.note(note, warning=True)
    screen.table("", ["measure", "value", "95 % interval"], [_line(record, name) for name in record["measures"]])
    screen.say(_confidence(record))
    if "classes" in record["tables"]:
        shown = [
            [str(one[0]), *(f"{value:.3f}" for value in one[1:4]), str(one[4])] for one in record["tables"]["classes"]
        ]
        screen.table("", ["class", "precision", "recall", "F1", "items"], shown[:CLASSES_SHOWN])
        if len(shown) > CLASSES_SHOWN:
            screen.say(f"... and {len(shown) - CLASSES_SHOWN:,} more: --json has them all")
    for one in record["broken"]:
        screen.say(f"{one['measure']} is {one['value']:.4f}, and must be {one['limit']}")


def _confidence(record: dict[str, Any]) -> str:
    """What items are ranked by, in words."""
    how = f"confidence is {record['confidence']}"
    if record["confidence"] == "p_ok":
        by = record["calibrator"]
        how += ", as the rows have it" if by is None else f" by {by['id']} ({by['which']})"
    if record["without_confidence"]:
        how += f"; {record['without_confidence']:,} items have none and rank last"
    if "ece" not in record["measures"]:
        how += "; it is no probability, so there is no calibration error"
    return how


_UNPAIRED = (
    ("rows without truth", "without_truth"),
    ("truths without a row", "without_row"),
    ("rows of another version than people saw", "other_version"),
    ("rows that the task has not predicted", "not_asked"),
)


def _line(record: dict[str, Any], name: str) -> list[str]:
    found = record["intervals"].get(name)
    value = record["measures"][name]
    interval = "" if found is None else f"{found['low']:.4f} to {found['high']:.4f} ({found['method']})"
    return [name, "undefined" if math.isnan(value) else f"{value:.4f}", interval]


def without_nan(value: Any) -> Any:
    """The same with null for what no number can be given for, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
