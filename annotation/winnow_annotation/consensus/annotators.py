"""How good is each person? From questions with known answers (gold), and from agreement with the others."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from winnow_annotation.consensus.opinions import Consensus, Opinion, Value
from winnow_annotation.consensus.similarity import similarity

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class AnnotatorQuality:
    """Of one person about one task.

    `accuracy`: as the consensus estimates it. `gold_right` of `gold` known answers were given (of shapes and texts: the
    sum of similarities). `agreement`: mean similarity to each other person about the same items, over `pairs` such
    pairs; null without any. `confusions`: what is taken for what most often, (true, given, probability).
    """

    annotator: str
    answers: int
    accuracy: float
    gold: int
    gold_right: float
    agreement: float | None
    pairs: int
    confusions: tuple[tuple[str, str, float], ...] = ()


def annotator_quality(
    operator: str, opinions: Sequence[Opinion], consensus: Consensus, gold: Mapping[str, Value]
) -> list[AnnotatorQuality]:
    """Of everybody who answered, by name; opinions are one per person and item."""
    by_item: dict[str, list[Opinion]] = defaultdict(list)
    own: dict[str, list[Opinion]] = defaultdict(list)
    for one in opinions:
        by_item[one.item].append(one)
        own[one.annotator].append(one)
    alike = _agreement(operator, by_item)
    found = []
    for name in sorted(own):
        known = [similarity(operator, one.value, gold[one.item]) for one in own[name] if one.item in gold]
        scores = [one for one in known if one is not None]
        pairs = alike.get(name, [])
        found.append(
            AnnotatorQuality(
                annotator=name,
                answers=len(own[name]),
                accuracy=consensus.accuracy.get(name, float("nan")),
                gold=len(scores),
                gold_right=sum(scores),
                agreement=sum(pairs) / len(pairs) if pairs else None,
                pairs=len(pairs),
                confusions=_confusions(consensus.confusion.get(name, {})),
            )
        )
    return found


def mean_agreement(operator: str, opinions: Sequence[Opinion]) -> tuple[float | None, int]:
    """The mean similarity of two people's answers about an item, and over how many pairs; None without any."""
    by_item: dict[str, list[Opinion]] = defaultdict(list)
    for one in opinions:
        by_item[one.item].append(one)
    values = [value for some in _agreement(operator, by_item).values() for value in some]
    return (sum(values) / len(values) if values else None), len(values) // 2


def _agreement(operator: str, by_item: Mapping[str, Sequence[Opinion]]) -> dict[str, list[float]]:
    alike: dict[str, list[float]] = defaultdict(list)
    for some in by_item.values():
        for place, one in enumerate(some):
            for other in some[place + 1 :]:
                value = similarity(operator, one.value, other.value)
                if value is not None:
                    alike[one.annotator].append(value)
                    alike[other.annotator].append(value)
    return alike


def _confusions(table: Mapping[tuple[str, str], float]) -> tuple[tuple[str, str, float], ...]:
    wrong = sorted(
        ((true, given, share) for (true, given), share in table.items() if true != given),
        key=lambda one: (-one[2], one[:2]),
    )
    return tuple(wrong[:_SHOWN])
