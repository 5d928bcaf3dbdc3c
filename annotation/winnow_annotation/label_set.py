"""Which answers can people choose from, and how many at once? The label set of a task, as its interface shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from winnow_storage.errors import SpecError


@dataclass(frozen=True, slots=True)
class LabelSet:
    """`several`: any number of them may hold. `parents`: label -> the one above it, None at the top, where the labels
    stand in a tree.
    """

    labels: tuple[str, ...] = ()
    several: bool = False
    parents: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A label with those below it."""

    text: str
    children: "tuple[TreeNode, ...]"


Labels = Sequence[str] | LabelSet


def as_label_set(labels: Labels) -> LabelSet:
    """Plain labels exclude each other."""
    return labels if isinstance(labels, LabelSet) else LabelSet(tuple(labels))


def tree_of(parents: Mapping[str, str | None]) -> tuple[TreeNode, ...]:
    """The labels at the top, with all below them, in the order given.

    Raises:
        SpecError: some label is not below the top, because a parent is unknown or they stand in a circle.
    """
    below: dict[str | None, list[str]] = {}
    for label, parent in parents.items():
        below.setdefault(parent, []).append(label)
    reached: set[str] = set()

    def nodes(parent: str | None) -> tuple[TreeNode, ...]:
        reached.update(below.get(parent, ()))
        return tuple(TreeNode(label, nodes(label)) for label in below.get(parent, ()))

    found = nodes(None)
    lost = [label for label in parents if label not in reached]
    if lost:
        raise SpecError(f"the label {lost[0]!r} stands below no label at the top", hint="correct the task's tree:")
    return found
