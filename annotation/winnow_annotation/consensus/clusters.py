"""Which shapes of several people are of the same object, and is it there at all? Matched by IoU, kept by posterior.

People are taken one after the other, the more reliable first; each one's shapes are matched to the objects found so far
so that the summed IoU is highest (Hungarian algorithm: Kuhn 1955), pairs below the threshold being no match. Whether an
object is there is then a question with two answers, seen or not seen, for Dawid & Skene's method: it learns from all
items who overlooks much and who draws what is not there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from winnow_annotation.consensus.dawid_skene import Prior, dawid_skene
from winnow_annotation.consensus.votes import Floats, count_votes

MATCH_IOU = 0.5

Shape = Mapping[str, Any]
Iou = Callable[[Shape, Shape], float]


@dataclass(slots=True)
class Cluster:
    """One object of an item: each annotator's shape of it. `there`: the posterior that it exists."""

    item: str
    shapes: dict[str, Shape] = field(default_factory=dict)
    there: float = 0.0


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of all items, and of each annotator how often a decision (drawn or not drawn) was right."""

    clusters: Sequence[Cluster]
    accuracy: Mapping[str, float]


def cluster_objects(
    drawn: Mapping[str, Mapping[str, Sequence[Shape]]], iou: Iou, *, match_iou: float = MATCH_IOU
) -> Objects:
    """The objects behind `drawn` (item -> annotator -> shapes; an annotator without shapes saw nothing there).

    Twice: who is reliable, and so taken first, is known after the first time.
    """
    found = Objects((), {})
    for _ in range(2):
        clusters = [
            cluster
            for item in sorted(drawn)
            for cluster in _of_item(item, drawn[item], found.accuracy, iou=iou, match_iou=match_iou)
        ]
        found = _judged(clusters, drawn)
    return found


def _of_item(
    item: str,
    drawn: Mapping[str, Sequence[Shape]],
    accuracy: Mapping[str, float],
    *,
    iou: Iou,
    match_iou: float,
) -> list[Cluster]:
    clusters: list[Cluster] = []
    for annotator in sorted(drawn, key=lambda name: (-accuracy.get(name, 0.0), name)):
        shapes = drawn[annotator]
        table = np.array([[_nearness(cluster, shape, iou) for shape in shapes] for cluster in clusters])
        rows, columns = linear_sum_assignment(table, maximize=True) if table.size else ([], [])
        matched = {
            int(column): clusters[int(row)]
            for row, column in zip(rows, columns, strict=True)
            if table[row, column] >= match_iou
        }
        for place, shape in enumerate(shapes):
            if place in matched:
                matched[place].shapes[annotator] = shape
            else:
                clusters.append(Cluster(item, {annotator: shape}))
    return clusters


def _nearness(cluster: Cluster, shape: Shape, iou: Iou) -> float:
    """The mean IoU with the shapes in it."""
    return float(np.mean([iou(other, shape) for other in cluster.shapes.values()]))


def _judged(clusters: Sequence[Cluster], drawn: Mapping[str, Mapping[str, Sequence[Shape]]]) -> Objects:
    said = [
        (f"{place:09d}", annotator, annotator in cluster.shapes)
        for place, cluster in enumerate(clusters)
        for annotator in drawn[cluster.item]
    ]
    if not said:
        return Objects(clusters, {name: _usual() for people in drawn.values() for name in people})
    votes, names = count_votes(said, answers=[False, True])
    fit = dawid_skene(votes)
    there: Floats = fit.posterior[:, list(names.answers).index(True)]
    for cluster, posterior in zip(clusters, there.tolist(), strict=True):
        cluster.there = posterior
    accuracy = dict(zip(names.annotators, fit.accuracy.tolist(), strict=True))
    everybody = {name for people in drawn.values() for name in people}
    return Objects(clusters, {name: accuracy.get(name, _usual()) for name in everybody})


def _usual() -> float:
    prior = Prior()
    return prior.right / (prior.right + prior.wrong)
