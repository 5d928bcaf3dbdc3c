"""What is true of an item? One record per item, whatever the file; which items of a run they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from winnow_storage.errors import UsageError
from winnow_workers.classifiers.label_tree import path_to

Rle = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object of an image: its box in xyxy px, and its mask where the file has one."""

    label: str
    box: tuple[float, float, float, float]
    rle: Rle | None = None
    area: float = 0.0
    crowd: bool = False


@dataclass(frozen=True, slots=True)
class TrueItem:
    """What is true of one item; only what its operator asks for is set.

    `neighbours`: whether each that people could judge shows the same, the nearest first. Pixels of `ignored` count
    neither way. `anomalous_where` is an image file, white where the item is anomalous.
    """

    label: str | None = None
    path: tuple[str, ...] | None = None  # from the top of a tree of labels down to `label`
    labels: tuple[str, ...] | None = None
    objects: tuple[TrueObject, ...] | None = None
    masks: Mapping[str, Rle] | None = None
    ignored: Rle | None = None
    text: str | None = None
    anomalous: bool | None = None
    anomalous_where: Path | None = None
    neighbours: tuple[bool, ...] | None = None


@dataclass(frozen=True, slots=True)
class Coco:
    """The ids of a COCO file: of images to keys, of categories to labels."""

    keys: Mapping[Any, str]
    labels: Mapping[Any, str]


@dataclass(frozen=True, slots=True)
class TruthSet:
    """By key as the truth writes it. `is_stem`: keys are without suffix.

    `versions` are those that people saw, where the source knows them; `has_where`: the truth says where anomalies are,
    so that an item without a file of that is normal everywhere.
    """

    items: Mapping[str, TrueItem]
    where: str
    is_stem: bool = False
    classes: tuple[str, ...] = field(default=())
    versions: Mapping[str, str] = field(default_factory=dict)
    has_where: bool = False
    coco: Coco | None = None
    notes: tuple[str, ...] = ()


def with_paths(truth: TruthSet, tree: Mapping[str, str | None]) -> TruthSet:
    """Every true label with its path in the task's tree.

    Raises:
        UsageError: a true label is not in the tree.
    """
    if not tree:
        return truth
    items = {}
    for key, item in truth.items.items():
        if item.label is not None and item.path is None:
            if item.label not in tree:
                raise UsageError(
                    f"{truth.where}: the label {item.label!r} of {key} is not in the task's tree",
                    hint="write labels as the tree has them, or a column path (animal > dog)",
                )
            items[key] = replace(item, path=path_to(item.label, tree))
        else:
            items[key] = item
    return replace(truth, items=items)


def pair_keys(truth: TruthSet, keys: Iterable[str]) -> dict[str, str]:
    """Item key -> truth key: the whole key, or its end from a `/` on; an end that two items share matches nothing."""
    exact: dict[str, list[str]] = {}
    ends: dict[str, list[str]] = {}
    for key in keys:
        whole = key.rpartition(".")[0] or key if truth.is_stem else key
        if whole in truth.items:
            exact.setdefault(whole, []).append(key)
            continue
        rest = whole
        while "/" in rest:
            rest = rest.partition("/")[2]
            if rest in truth.items:
                ends.setdefault(rest, []).append(key)
    matches = ends | exact
    return {found[0]: name for name, found in matches.items() if len(found) == 1}
