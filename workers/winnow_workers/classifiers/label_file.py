"""What does a label file say? A label set, or a tree of labels, from a text, CSV or JSON file.

| file | content |
|---|---|
| .txt | a label on each line, in the order of the model's outputs |
| .csv | a column `label`, in that order; with a column `parent` (empty at the top) a tree |
| .json | a list of labels, or a tree ({animal: [cat, dog]}, or each label with its parent) |
"""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path

from winnow_storage.blobs import locate, open_store
from winnow_storage.errors import BlobMissing, SpecError
from winnow_storage.uri import parse
from winnow_workers.classifiers.label_tree import Parents, checked_parents, read_tree

_HINT = "a label file is .txt (a label a line), .csv (label, perhaps parent) or .json (a list or a tree)"


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Either of them."""

    labels: tuple[str, ...] = ()
    tree: Parents = field(default_factory=dict)


def read_label_file(place: str, *, base: Path | None) -> LabelFile:
    """The labels of a file or object; a relative place is relative to `base`.

    Raises:
        SpecError: it is not there, or does not say labels.
        StoreError: the store cannot be reached or refuses.
    """
    uri = parse(place, base=base).uri
    root, key = locate(uri)
    try:
        text = open_store(root).get(key).decode("utf-8-sig")
    except BlobMissing as error:
        raise SpecError(f"there is no label file at {uri}", hint="correct label_file: in the task") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{uri} is not UTF-8 ({error.reason})", hint="save it as UTF-8") from error
    reader = {"txt": _text, "csv": _csv, "json": _json}.get(uri.rpartition(".")[2].lower())
    if reader is None:
        raise SpecError(f"{uri} is no label file that is known", hint=_HINT)
    try:
        found = reader(text)
    except (ValueError, csv.Error) as error:
        raise SpecError(f"{uri}: {error}", hint=_HINT) from error
    if not found.labels and not found.tree:
        raise SpecError(f"{uri} holds no label", hint=_HINT)
    return found


def _text(text: str) -> LabelFile:
    return LabelFile(labels=tuple(line.strip() for line in text.splitlines() if line.strip()))


def _csv(text: str) -> LabelFile:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    if "label" not in (reader.fieldnames or ()):
        raise ValueError(f"the columns are {', '.join(reader.fieldnames or ()) or 'none'}; one must be label")
    pairs: list[tuple[str, str | None]] = []
    for row in reader:
        if not (row["label"] or "").strip():
            raise ValueError(f"line {reader.line_num}: the label is empty")
        pairs.append((row["label"].strip(), (row.get("parent") or "").strip() or None))
    if "parent" in (reader.fieldnames or ()):
        return LabelFile(tree=checked_parents(pairs))
    return LabelFile(labels=tuple(label for label, _ in pairs))


def _json(text: str) -> LabelFile:
    value = json.loads(text)
    if isinstance(value, list):
        if not all(isinstance(one, str) and one.strip() for one in value):
            raise ValueError("the list holds something else than labels")
        return LabelFile(labels=tuple(value))
    return LabelFile(tree=read_tree(value))
