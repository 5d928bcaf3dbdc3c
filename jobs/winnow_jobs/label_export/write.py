"""Which files does an export of labels write? Rows in one Parquet file; else a file or a folder for each task."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow_annotation.tasks import BLIND
from winnow_jobs.file_names import path_of, write_file
from winnow_jobs.label_export.answers import (
    Agreed,
    TaskAnswers,
    answer_rows,
    answers_of,
    chosen_labels,
    label_rows,
    sizes_of,
)
from winnow_jobs.label_export.coco import categories_of, coco_document
from winnow_jobs.label_export.mask_files import labels_csv, numbered, painted, palette_of, png
from winnow_jobs.label_export.spread import OPERATORS as SPREAD_OPERATORS
from winnow_jobs.label_export.spread import Spread, spread_answers
from winnow_jobs.label_export.tables import class_csv, text_of
from winnow_jobs.people import label_set_of
from winnow_jobs.runs import Runs
from winnow_storage.errors import ModelError, StoreError, UsageError
from winnow_storage.records import Label
from winnow_storage.schemas import LABELS, UTC_US


class LabelFormat(StrEnum):
    """What `winnow export labels` writes."""

    PARQUET = "parquet"
    COCO = "coco"
    CSV = "csv"
    MASKS = "masks"
    TEXT = "text"


class Only(StrEnum):
    """Every state of every answer, or what those about an item together say."""

    ROWS = "rows"
    CONSENSUS = "consensus"


OPERATORS = {
    LabelFormat.COCO: ("detect", "segment"),
    LabelFormat.CSV: ("classify", "anomaly", "ocr", "embed"),
    LabelFormat.MASKS: ("segment",),
    LabelFormat.TEXT: ("ocr",),
}
_SUFFIX = {LabelFormat.COCO: ".json", LabelFormat.CSV: ".csv", LabelFormat.PARQUET: ".parquet"}
ROWS = pa.schema([*LABELS, pa.field("superseded_by", pa.string()), pa.field("stands", pa.bool_(), nullable=False)])
_TEXTS = ("task", "operator", "item_id", "version", "key", "uri", "value")
ANSWERS = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in _TEXTS),  # value: JSON, as a label's
        pa.field("answers", pa.int32(), nullable=False),
        pa.field("annotators", pa.list_(pa.string()), nullable=False),
        pa.field("purposes", pa.list_(pa.string()), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),  # label_id of each
        pa.field("answered_at", UTC_US),
        pa.field("like", pa.string()),  # key of the near-duplicate that the answers are about
    ]
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be exported, and where to: a file, or a folder. No task and no purpose named means all.

    `spread`: with the near-duplicates of what was answered.
    """

    form: LabelFormat
    to: Path
    only: Only
    tasks: Collection[str] = ()
    purposes: Collection[str] = ()
    spread: Spread | None = None

    @property
    def is_file(self) -> bool:
        """Whether one file is named."""
        return self.to.suffix.lower() == _SUFFIX.get(self.form)


@dataclass(slots=True)
class _Written:
    """The files of one task, and what is said of them; `empty`: answers that say nothing in this format."""

    files: list[Path] = field(default_factory=list)
    empty: int = 0
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Beside the counts of the answers."""
        return {"empty": self.empty, "files": len(self.files), "notes": self.notes}


def export_labels(runs: Runs, wanted: Wanted) -> dict[str, Any]:
    """Write the files; the record of what is in them, and what is not.

    Raises:
        UsageError: nobody answered, the format is for other operators, or a file cannot be written.
        StoreError: as the store says, or labels are damaged.
    """
    events = chosen_labels(runs.store, tasks=wanted.tasks, purposes=wanted.purposes)
    if not events:
        about = f" about {', '.join(sorted(wanted.tasks))}" if wanted.tasks else ""
        asked = f" for {' or '.join(sorted(wanted.purposes))}" if wanted.purposes else ""
        raise UsageError(f"nobody has answered anything{about}{asked} yet", hint="winnow pull SPEC")
    needs_sizes = wanted.form in (LabelFormat.COCO, LabelFormat.MASKS)
    answers = answers_of(runs.store, events, sizes_of(runs) if needs_sizes else None)
    if wanted.spread is not None:
        answers = spread_answers(runs, answers, wanted.spread)
    if wanted.form is LabelFormat.PARQUET:
        path = wanted.to if wanted.is_file else wanted.to / "labels.parquet"
        written = {of.task: _Written(notes=_selected(of) + _of_spread(of, wanted)) for of in answers}
        _write_rows(path, events if wanted.only is Only.ROWS else None, answers)
        files = [path]
    else:
        answers = _fitting(answers, wanted)
        written = {of.task: _WRITERS[wanted.form](runs, of, wanted) for of in answers}
        for of in answers:
            written[of.task].notes += _selected(of) + _of_spread(of, wanted)
        files = [file for one in written.values() for file in one.files]
    return {
        "output": str(runs.store.root),
        "format": str(wanted.form),
        "only": str(wanted.only),
        "to": str(wanted.to),
        "rows": len(events) if wanted.only is Only.ROWS else sum(len(of.items) for of in answers),
        "files": len(files),
        "tasks": [
            {"task": of.task, "operator": of.operator, **of.counts(), **written[of.task].record()} for of in answers
        ],
    }


def _fitting(answers: Sequence[TaskAnswers], wanted: Wanted) -> list[TaskAnswers]:
    fitting = [of for of in answers if of.operator in OPERATORS[wanted.form]]
    if not fitting or (wanted.tasks and len(fitting) < len(answers)):
        other = next(of for of in answers if of not in fitting)
        forms = [str(form) for form, operators in OPERATORS.items() if other.operator in operators]
        raise UsageError(
            f"answers about {other.task} ({other.operator}) have no {wanted.form}",
            hint=f"--format {' or '.join([*forms, 'parquet'])}",
        )
    if wanted.is_file and len(fitting) > 1:
        names = ", ".join(of.task for of in fitting)
        raise UsageError(f"{wanted.to} is one file, and these are several tasks: {names}", hint="--task, or a folder")
    return fitting


def _selected(of: TaskAnswers) -> list[str]:
    shown = sum(label.purpose not in BLIND for one in of.items if one.like is None for label in one.labels)
    if not shown:
        return []
    whom = "are of items sent for being unsure, or with the model's answer in view: they hold for those, not for all"
    return [f"{shown:,} answers about {of.task} {whom} (--purpose audit,calibrate takes the random, blind ones)"]


def _of_spread(of: TaskAnswers, wanted: Wanted) -> list[str]:
    if wanted.spread is None:
        return []
    if of.operator not in SPREAD_OPERATORS:
        return [f"answers about {of.task} do not spread: what {of.operator} finds stands elsewhere in another image"]
    differ = f"; {of.contradicting:,} more are like several whose answers differ" if of.contradicting else ""
    how = f"cosine at least {wanted.spread.least:g}, column like"
    what = f"{of.spread:,} images have the answer about {of.task} of one they are like"
    return [f"{what} ({how}): nobody looked at them, so nothing is measured by them{differ}"]


def _write_rows(path: Path, events: Sequence[Label] | None, answers: Sequence[TaskAnswers]) -> None:
    rows, schema = (answer_rows(answers), ANSWERS) if events is None else (label_rows(events), ROWS)
    table = pa.Table.from_pylist(rows, schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_file(path, sink.getvalue().to_pybytes())


def _write_csv(_runs: Runs, of: TaskAnswers, wanted: Wanted) -> _Written:
    text, empty = class_csv(of.operator, of.items)
    return _Written([write_file(_file(of, wanted), text.encode())], empty)


def _write_coco(runs: Runs, of: TaskAnswers, wanted: Wanted) -> _Written:
    found = _Written()
    categories = _categories(runs, of, found)
    document = coco_document(f"{of.task}: what people answered", categories, of.items)
    unsized = sum("width" not in image for image in document["images"])
    if unsized:
        found.notes.append(f"of {unsized:,} images neither rows nor answers say a width and height")
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    found.files.append(write_file(_file(of, wanted), text.encode()))
    return found


def _write_texts(_runs: Runs, of: TaskAnswers, wanted: Wanted) -> _Written:
    found, taken = _Written(), set[Path]()
    for one in of.items:
        text = text_of(one)
        if text is None:
            found.empty += 1
        else:
            found.files.append(write_file(_named(wanted.to / of.task, one, ".txt", taken, found), text.encode()))
    return found


def _write_masks(runs: Runs, of: TaskAnswers, wanted: Wanted) -> _Written:
    found, taken, overlaps = _Written(), set[Path](), 0
    numbers = numbered(_categories(runs, of, found))
    palette = palette_of(len(numbers))
    folder = wanted.to / of.task
    for one in of.items:
        picture = painted(one, numbers)
        if picture is None:
            found.empty += 1
            continue
        overlaps += picture.overlaps
        found.files.append(write_file(_named(folder, one, ".png", taken, found), png(picture.values, palette)))
    write_file(folder / "labels.csv", labels_csv(numbers, palette).encode())
    if overlaps:
        found.notes.append(f"on {overlaps:,} images labels overlap; the smaller one is on top: --format coco has both")
    if found.empty:
        found.notes.append(f"{found.empty:,} images without any mask have no file: nothing says how large they are")
    found.notes.append(f"winnow evaluate --truth {folder} --classes {','.join(numbers)}")
    return found


_WRITERS: dict[LabelFormat, Callable[[Runs, TaskAnswers, Wanted], _Written]] = {
    LabelFormat.CSV: _write_csv,
    LabelFormat.COCO: _write_coco,
    LabelFormat.TEXT: _write_texts,
    LabelFormat.MASKS: _write_masks,
}


def _categories(runs: Runs, of: TaskAnswers, found: _Written) -> list[str]:
    """In the order of the task's label set as its newest run had it, if that can still be read."""
    tasks = [task for plan in reversed(runs.plans()) for task in plan.tasks() if task.name == of.task]
    labels: tuple[str, ...] = ()
    try:
        labels = label_set_of(tasks[0].config()).labels if tasks else ()
    except (ModelError, StoreError) as error:
        found.notes.append(f"the label set cannot be read, so labels are those that people used: {error.message}")
    return categories_of(labels, of.items)


def _file(of: TaskAnswers, wanted: Wanted) -> Path:
    return wanted.to if wanted.is_file else wanted.to / f"{of.task}{_SUFFIX[wanted.form]}"


def _named(folder: Path, one: Agreed, suffix: str, taken: set[Path], found: _Written) -> Path:
    """By the key without its own suffix, as `winnow evaluate` looks for it."""
    stem = one.key.rpartition(".")[0] or one.key
    path = path_of(folder, stem, one.item_id, suffix, taken=taken)
    taken.add(path)
    if path.relative_to(folder).as_posix() != f"{stem}{suffix}":
        found.notes.append(f"{one.key} is {path.relative_to(folder)}: its name is taken, or cannot be a file's")
    return path
