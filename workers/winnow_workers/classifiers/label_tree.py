"""How are labels ordered under each other, and how far down is a model sure? Pure.

A tree is kept as label -> its parent, None of a label that stands at the top. A node's probability is that of all model
outputs at or below it, as the labels exclude each other; so it never grows on the way down.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Parents = Mapping[str, str | None]
Floats = npt.NDArray[np.float64]


def read_tree(value: object) -> dict[str, str | None]:
    """Label -> parent, checked, of a nested tree ({animal: [cat, dog]}, {animal: {cat: [tabby], dog: null}}) or of a
    flat one ({cat: animal, animal: null}).

    Raises:
        ValueError: neither of them, a label twice, a parent that is no label, or a cycle.
    """
    if not isinstance(value, Mapping) or not value:
        raise ValueError("write a tree: {animal: [cat, dog], vehicle: [car]}, or each label with its parent")
    pairs = list(_flat(value)) if any(isinstance(one, str) for one in value.values()) else list(_nested(value, None))
    return checked_parents(pairs)


def checked_parents(pairs: Iterable[tuple[str, str | None]]) -> dict[str, str | None]:
    """(label, parent) pairs as a tree, in their order.

    Raises:
        ValueError: a label twice or empty, a parent that is no label, or a cycle.
    """
    parents: dict[str, str | None] = {}
    for label, parent in pairs:
        if not label.strip():
            raise ValueError("a label of the tree is empty")
        if label in parents:
            raise ValueError(f"the label {label!r} stands in the tree twice")
        parents[label] = parent
    for label, parent in parents.items():
        if parent is not None and parent not in parents:
            near = difflib.get_close_matches(parent, parents, n=1)
            meant = (
                f"did you mean {near[0]!r}?" if near else f"add {parent!r} itself, with no parent if it is a top one"
            )
            raise ValueError(f"the parent {parent!r} of {label!r} is unknown: it is no label of the tree; {meant}")
    for label in parents:
        _refuse_cycle(label, parents)
    return parents


def path_to(label: str, parents: Parents) -> tuple[str, ...]:
    """From the top down to the label.

    Raises:
        KeyError: it is not in the tree.
    """
    path = [label]
    while (parent := parents[path[-1]]) is not None:
        path.append(parent)
    return tuple(reversed(path))


def leaves(parents: Parents) -> tuple[str, ...]:
    """The labels that are nobody's parent, in the tree's order."""
    inner = set(parents.values())
    return tuple(label for label in parents if label not in inner)


@dataclass(frozen=True, slots=True)
class LabelTree:
    """A tree over a model's outputs. `below` (nodes, outputs) is 1 where an output lies at or below a node."""

    nodes: tuple[str, ...]
    children: Mapping[int | None, tuple[int, ...]]
    below: Floats

    @classmethod
    def over(cls, parents: Parents, labels: Sequence[str]) -> "LabelTree":
        """The tree over a model's label set.

        Raises:
            ValueError: a label is not in the tree, or a leaf of the tree is no label of the model.
        """
        lacking = [label for label in labels if label not in parents]
        if lacking:
            raise ValueError(f"the tree lacks {_some(lacking)} of the model's {len(labels)} labels")
        idle = [leaf for leaf in leaves(parents) if leaf not in set(labels)]
        if idle:
            near = difflib.get_close_matches(idle[0], labels, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"the tree ends in {_some(idle)}, which is no label of the model{meant}")
        nodes = tuple(parents)
        place = {node: index for index, node in enumerate(nodes)}
        children: dict[int | None, list[int]] = {}
        for node, parent in parents.items():
            children.setdefault(None if parent is None else place[parent], []).append(place[node])
        below = np.zeros((len(nodes), len(labels)))
        for output, label in enumerate(labels):
            for node in path_to(label, parents):
                below[place[node], output] = 1.0
        return cls(nodes, {node: tuple(some) for node, some in children.items()}, below)

    def summed(self, probabilities: Floats) -> Floats:
        """(nodes,) probabilities of (outputs,) ones."""
        sums: Floats = self.below @ probabilities
        return np.minimum(sums, 1.0)

    def descend(self, sums: Floats, sure: float) -> list[int]:
        """The nodes from the top to the deepest one whose probability is at least `sure`; none where none is.

        From 0.5 on at most one child of a node can be (of exact ties the first).
        """
        path: list[int] = []
        while children := self.children.get(path[-1] if path else None, ()):
            best = max(children, key=lambda node: (sums[node], -node))
            if sums[best] < sure:
                break
            path.append(best)
        return path

    def best_top(self, sums: Floats) -> int:
        """The most probable node without a parent."""
        return max(self.children[None], key=lambda node: (sums[node], -node))


def _flat(value: Mapping[Any, Any]) -> Iterable[tuple[str, str | None]]:
    for label, parent in value.items():
        if parent is not None and not isinstance(parent, str):
            raise ValueError(f"{label!r} has {parent!r} where its parent belongs: write all labels nested, or none")
        yield str(label), parent


def _nested(value: Any, parent: str | None) -> Iterable[tuple[str, str | None]]:
    if value is None:
        return
    if isinstance(value, Mapping):
        for label, inner in value.items():
            yield str(label), parent
            yield from _nested(inner, str(label))
    elif isinstance(value, list | tuple):
        for one in value:
            if isinstance(one, Mapping):
                yield from _nested(one, parent)
            elif isinstance(one, list | tuple) or one is None:
                raise ValueError(f"below {parent!r} stands {one!r}: write labels")
            else:
                yield str(one), parent
    else:
        raise ValueError(f"below {parent!r} stands {value!r}: write a list of labels, or a tree")


def _refuse_cycle(label: str, parents: Parents) -> None:
    seen = [label]
    while (parent := parents[seen[-1]]) is not None:
        if parent in seen:
            raise ValueError(f"the tree goes in a circle: {' -> '.join([*seen[seen.index(parent) :], parent])}")
        seen.append(parent)


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(repr(label) for label in labels[:3])
    return shown if len(labels) <= 3 else f"{shown} and {len(labels) - 3} more"
