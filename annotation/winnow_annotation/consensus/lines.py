"""What do the lines of an image say, when several people typed them? Lines matched by place, then voted on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from winnow_annotation.consensus.clusters import Cluster, Shape, cluster_objects
from winnow_annotation.consensus.opinions import Answer, Consensus, Opinion
from winnow_annotation.consensus.shapes import box_iou
from winnow_annotation.consensus.texts import USUAL, vote_text
from winnow_annotation.kinds.geometry import box_xyxy_px

KEPT = 0.5
_PRIOR_CHARACTERS = 200.0  # what is usual weighs as much as this many characters of a person
_PASSES = 2  # who types well is known after the first

_Reliability = dict[str, float]


def consensus_of_lines(opinions: Sequence[Opinion]) -> Consensus:
    """The consensus on {lines, full_text}; texts without places are one line each.

    `accuracy` is of characters. The posterior of an item is that of its least sure line.
    """
    drawn: dict[str, dict[str, list[Shape]]] = defaultdict(dict)
    for one in opinions:
        if one.value.get("lines") is not None or one.value.get("full_text") is not None:
            drawn[one.item][one.annotator] = _lines(one.value)
    clusters: dict[str, list[Cluster]] = {item: [] for item in drawn}
    for cluster in cluster_objects(drawn, box_iou).clusters:
        clusters[cluster.item].append(cluster)
    reliability: _Reliability = {}
    answers: dict[str, Answer] = {}
    for _ in range(_PASSES):
        edits: dict[str, int] = defaultdict(int)
        length: dict[str, int] = defaultdict(int)
        for item, found in clusters.items():
            answers[item] = _answer(found, drawn[item], reliability, (edits, length))
        people = {name for some in drawn.values() for name in some}
        reliability = {name: _right(edits[name], length[name]) for name in people}
    return Consensus(answers, reliability)


def _answer(
    clusters: Sequence[Cluster],
    drawn: Mapping[str, Sequence[Shape]],
    reliability: Mapping[str, float],
    tally: tuple[dict[str, int], dict[str, int]],
) -> Answer:
    edits, length = tally
    lines: list[tuple[float, dict[str, Any]]] = []
    sure, agreed = 1.0, True
    for cluster in clusters:
        agreed &= len(cluster.shapes) == len(drawn)
        if cluster.there < KEPT:
            sure = min(sure, 1.0 - cluster.there)
            continue
        typed = {name: str(shape["text"]) for name, shape in cluster.shapes.items()}
        voted = vote_text(typed, reliability)
        for name, own in typed.items():
            edits[name] += voted.errors[name]
            length[name] += max(len(own), 1)
        agreed &= len(set(typed.values())) == 1
        sure = min(sure, cluster.there * voted.posterior)
        best = min(cluster.shapes, key=lambda name: (-reliability.get(name, USUAL), name))
        place = sum(float(shape["order"]) for shape in cluster.shapes.values()) / len(cluster.shapes)
        lines.append((place, {"text": voted.text, "polygon": cluster.shapes[best]["polygon"]}))
    lines.sort(key=lambda pair: pair[0])
    written = [{**line, "order": order} for order, (_, line) in enumerate(lines)]
    return Answer({"lines": written, "full_text": "\n".join(line["text"] for line in written)}, sure, agreed)


def _lines(value: Mapping[str, Any]) -> list[Shape]:
    """Lines with the box around each; a text without places is one line that fills everything."""
    placed = [line for line in value.get("lines") or [] if line.get("polygon")]
    if not placed and value.get("full_text"):
        return [{"text": value["full_text"], "polygon": None, "box": [0.0, 0.0, 1.0, 1.0], "order": 0}]
    return [{**line, "box": box_xyxy_px(line["polygon"])} for line in placed]


def _right(edits: int, length: int) -> float:
    wrong = (edits + _PRIOR_CHARACTERS * (1.0 - USUAL)) / (length + _PRIOR_CHARACTERS)
    return max(0.5, 1.0 - wrong)
