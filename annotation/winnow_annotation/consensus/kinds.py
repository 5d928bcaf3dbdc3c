"""How do answers of each operator become one? Classes and verdicts, boxes, masks, lines of text, neighbours."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from winnow_annotation.consensus.choices import Beliefs, consensus_of_choices
from winnow_annotation.consensus.clusters import Cluster, Iou, Objects, Shape, cluster_objects
from winnow_annotation.consensus.label_sets import consensus_of_sets
from winnow_annotation.consensus.lines import consensus_of_lines
from winnow_annotation.consensus.opinions import Answer, Consensus, Method, Opinion, Value
from winnow_annotation.consensus.shapes import (
    box_iou,
    label_mask_iou,
    mask_iou,
    mean_box,
    voted_mask,
    with_pixels,
    written_mask,
)
from winnow_storage.errors import SpecError

KEPT = 0.5  # an object stays whose posterior is at least this


@dataclass(frozen=True, slots=True)
class Rules:
    """How: the method, the label set as far as it is known, what the model thinks, and what is known (gold)."""

    method: Method = Method.DAWID_SKENE
    labels: tuple[str, ...] = ()
    beliefs: Beliefs | None = None
    known: Mapping[str, Value] | None = None  # by item, as a label's value


def consensus_of(operator: str, opinions: Sequence[Opinion], rules: Rules) -> Consensus:
    """What these opinions say of each item; the same whatever their order, of one person about one item the last.

    Raises:
        SpecError: people cannot answer this operator.
    """
    if operator not in _KINDS:
        raise SpecError(
            f"there is no consensus for the operator {operator!r}", hint=f"there is for {', '.join(_KINDS)}"
        )
    last = {(one.item, one.annotator): one for one in opinions}
    return _KINDS[operator]([last[key] for key in sorted(last)], rules)


def _classes(opinions: Sequence[Opinion], rules: Rules) -> Consensus:
    if any(one.value.get("labels") is not None for one in opinions):
        return consensus_of_sets(opinions, method=rules.method)
    found = _choices(opinions, rules, "label", rules.labels)
    paths = {one.value["label"]: one.value["path"] for one in opinions if one.value.get("path")}
    if not paths:
        return found
    answers = {
        item: Answer({**answer.value, "path": paths.get(answer.value["label"])}, answer.posterior, answer.agreed)
        for item, answer in found.answers.items()
    }
    return Consensus(answers, found.accuracy, found.confusion)


def _verdicts(opinions: Sequence[Opinion], rules: Rules) -> Consensus:
    """The verdict counts; where it is anomalous, the regions of those who say so are merged."""
    found = _choices(opinions, rules, "is_anomalous", (False, True))
    anomalous = {item for item, answer in found.answers.items() if answer.value["is_anomalous"]}
    drawn: dict[str, dict[str, list[Shape]]] = defaultdict(dict)
    for one in opinions:
        if one.item in anomalous and one.value.get("is_anomalous"):
            drawn[one.item][one.annotator] = list(one.value.get("regions") or [])
    kept = _kept(cluster_objects(drawn, box_iou))
    answers = {
        item: Answer(
            {**answer.value, "regions": [{"box": mean_box(one.shapes, found.accuracy)} for one in kept.get(item, [])]},
            answer.posterior,
            answer.agreed,
        )
        for item, answer in found.answers.items()
    }
    return Consensus(answers, found.accuracy, found.confusion)


def _choices(opinions: Sequence[Opinion], rules: Rules, field: str, answers: Sequence[Any]) -> Consensus:
    known = {item: value[field] for item, value in (rules.known or {}).items() if value.get(field) is not None}
    return consensus_of_choices(
        opinions, field, method=rules.method, answers=answers, beliefs=rules.beliefs, known=known
    )


def _boxes(opinions: Sequence[Opinion], rules: Rules) -> Consensus:
    drawn = _drawn(opinions, lambda value: value.get("boxes"))
    merged = _merged(drawn, box_iou, rules)
    written = {
        item: {"boxes": [{"label": one.label, "box": mean_box(one.cluster.shapes, merged.accuracy)} for one in some]}
        for item, some in merged.objects.items()
    }
    return _consensus(written, merged)


def _masks(opinions: Sequence[Opinion], rules: Rules) -> Consensus:
    """`masks` decide, one per label; `instances` are merged as they were painted."""
    whole = _merged(
        _drawn(opinions, lambda v: with_pixels(v["masks"]) if "masks" in v else None), label_mask_iou, rules
    )
    parts = _merged(
        _drawn(opinions, lambda v: with_pixels(v.get("instances") or v.get("masks") or [])), mask_iou, rules
    )
    written: dict[str, dict[str, Any]] = {}
    for name, merged in (("masks", whole), ("instances", parts)):
        for item in whole.objects:
            some = merged.objects.get(item, [])
            pixels = [(one.label, voted_mask(one.cluster.shapes, merged.accuracy)) for one in some]
            written.setdefault(item, {})[name] = [written_mask(label, mask) for label, mask in pixels]
    return _consensus(written, whole)


def _texts(opinions: Sequence[Opinion], _rules: Rules) -> Consensus:
    return consensus_of_lines(opinions)


def _neighbours(opinions: Sequence[Opinion], rules: Rules) -> Consensus:
    """Of every neighbour that anybody was shown, nearest first, whether it shows the same: a choice for each."""
    shown: dict[str, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    said = []
    for one in opinions:
        for neighbour in one.value.get("neighbours") or ():
            shown[one.item][neighbour["item_id"]] = neighbour
            said.append(replace(one, item=f"{one.item}\0{neighbour['item_id']}", value={"same": neighbour["same"]}))
    found = _choices(said, rules, "same", (False, True))
    answers = {}
    for item, neighbours in shown.items():
        nearest = sorted(neighbours.values(), key=lambda one: (-one["score"], one["key"]))
        verdicts = [found.answers.get(f"{item}\0{one['item_id']}") for one in nearest]
        judged = [verdict for verdict in verdicts if verdict is not None]
        if judged:
            told = [None if verdict is None else verdict.value["same"] for verdict in verdicts]
            value = {"neighbours": [{**one, "same": same} for one, same in zip(nearest, told, strict=True)]}
            sure, agreed = min(one.posterior for one in judged), all(one.agreed for one in judged)
            answers[item] = Answer(value, sure, agreed)
    return Consensus(answers, found.accuracy, found.confusion)


@dataclass(frozen=True, slots=True)
class _Object:
    cluster: Cluster
    label: str | None


@dataclass(frozen=True, slots=True)
class _Merged:
    """By item: the objects that are kept, how sure the least sure decision is, and whether nobody drew otherwise."""

    objects: Mapping[str, list[_Object]]
    sure: Mapping[str, float]
    agreed: Mapping[str, bool]
    accuracy: Mapping[str, float]


def _merged(drawn: Mapping[str, Mapping[str, Sequence[Shape]]], iou: Iou, rules: Rules) -> _Merged:
    found = cluster_objects(drawn, iou)
    numbered = {f"{place:09d}": cluster for place, cluster in enumerate(found.clusters)}
    said = [
        Opinion(number, annotator, {"label": shape.get("label")})
        for number, cluster in numbered.items()
        for annotator, shape in cluster.shapes.items()
    ]
    method = Method.MAJORITY if rules.method is Method.MAJORITY else Method.DAWID_SKENE
    labels = consensus_of_choices(said, "label", method=method, answers=rules.labels).answers
    objects: dict[str, list[_Object]] = {item: [] for item in drawn}
    sure = {item: _nothing_there(people, found.accuracy) for item, people in drawn.items()}
    agreed = dict.fromkeys(drawn, True)
    for number, cluster in numbered.items():
        item, label = cluster.item, labels.get(number)
        name = 1.0 if label is None else label.posterior
        is_kept = cluster.there >= KEPT
        sure[item] = min(sure[item], cluster.there * name if is_kept else 1.0 - cluster.there)
        agreed[item] &= len(cluster.shapes) == len(drawn[item]) and (label is None or label.agreed)
        if is_kept:
            objects[item].append(_Object(cluster, None if label is None else label.value["label"]))
    return _Merged(objects, sure, agreed, found.accuracy)


def _nothing_there(people: Mapping[str, Sequence[Shape]], accuracy: Mapping[str, float]) -> float:
    """How sure it is that an item on which nobody drew anything is empty; 1 where somebody did: those shapes tell."""
    if any(people.values()):
        return 1.0
    wrong = right = 1.0
    for name in people:
        wrong *= 1.0 - accuracy[name]
        right *= accuracy[name]
    return right / (right + wrong)


def _drawn(
    opinions: Sequence[Opinion], shapes: Callable[[Value], Sequence[Shape] | None]
) -> dict[str, dict[str, Sequence[Shape]]]:
    found: dict[str, dict[str, Sequence[Shape]]] = defaultdict(dict)
    for one in opinions:
        own = shapes(one.value)
        if own is not None:
            found[one.item][one.annotator] = own
    return dict(found)


def _kept(found: Objects) -> dict[str, list[Cluster]]:
    kept: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in found.clusters:
        if cluster.there >= KEPT:
            kept[cluster.item].append(cluster)
    return kept


def _consensus(written: Mapping[str, Value], merged: _Merged) -> Consensus:
    answers = {item: Answer(value, merged.sure[item], merged.agreed[item]) for item, value in written.items()}
    return Consensus(answers, merged.accuracy)


_KINDS: Mapping[str, Callable[[Sequence[Opinion], Rules], Consensus]] = MappingProxyType(
    {
        "classify": _classes,
        "anomaly": _verdicts,
        "detect": _boxes,
        "segment": _masks,
        "ocr": _texts,
        "embed": _neighbours,
    }
)
OPERATORS = tuple(_KINDS)
