"""Who said what, as columns: the form in which answers of a closed set are counted."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AnswerT = TypeVar("AnswerT", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Votes:
    """n votes: `item`, `annotator` and `answer` are (n,) places in sets of these sizes; one per item and annotator."""

    item: Ints
    annotator: Ints
    answer: Ints
    items: int
    annotators: int
    answers: int

    def counts(self) -> Ints:
        """(items, answers): how many chose each."""
        found = np.zeros((self.items, self.answers), np.int64)
        np.add.at(found, (self.item, self.answer), 1)
        return found

    def per_item(self) -> Ints:
        """(items,): how many votes each has."""
        return np.bincount(self.item, minlength=self.items).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Names(Generic[AnswerT]):
    """The sets that the places in `Votes` belong to, in order."""

    items: tuple[str, ...]
    annotators: tuple[str, ...]
    answers: tuple[AnswerT, ...]


def count_votes(
    said: Iterable[tuple[str, str, AnswerT]], *, answers: Sequence[AnswerT] = (), items: Sequence[str] = ()
) -> tuple[Votes, Names[AnswerT]]:
    """The votes of (item, annotator, answer); of one person about one item the last one stands.

    `answers` and `items` are there whether anybody chose them or not; sets are sorted, so order changes nothing.
    """
    last = {(item, annotator): answer for item, annotator, answer in said}
    names = Names(
        tuple(sorted({item for item, _ in last} | set(items))),
        tuple(sorted({annotator for _, annotator in last})),
        tuple(sorted(set(last.values()) | set(answers), key=_order)),
    )
    place_item, place_annotator, place_answer = (
        _places(some) for some in (names.items, names.annotators, names.answers)
    )
    keys = sorted(last)
    return (
        Votes(
            _column(place_item[item] for item, _ in keys),
            _column(place_annotator[annotator] for _, annotator in keys),
            _column(place_answer[last[key]] for key in keys),
            len(names.items),
            len(names.annotators),
            len(names.answers),
        ),
        names,
    )


def majority(votes: Votes) -> tuple[Ints, Floats]:
    """The answer that most gave to each item, and its share of the votes; of equals the first answer.

    (items,) each; an item without votes gets the first answer with a share of 0.
    """
    counts = votes.counts()
    best = counts.argmax(axis=1)
    share = counts[np.arange(votes.items), best] / np.maximum(counts.sum(axis=1), 1)
    return best.astype(np.int64), share


def _places(names: Sequence[Any]) -> dict[Any, int]:
    return {name: place for place, name in enumerate(names)}


def _column(places: Iterable[int]) -> Ints:
    return np.fromiter(places, np.int64)


def _order(answer: Any) -> tuple[str, str]:
    return type(answer).__name__, str(answer)
