"""Which of too many unsure predictions are worth a person's time? The most unsure of each kind of image.

By uncertainty alone people see the same difficulty again and again. So the most unsure candidates, POOL for each place,
are grouped by k-means of their vectors, a group for each place, and each group sends its most unsure one: the scheme of
Zhdanov, Diverse mini-batch Active Learning (arXiv:1901.05954), with the most unsure where that takes the central one.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]

POOL = 10  # candidates that are compared, for each place
ALIKE = 0.995  # cosine of two images from which on one answer is enough; re-encodings and slight crops reach it
_ROUNDS = 20  # of k-means; more moves few candidates from group to group
_SMALL = 5_000  # candidates up to which every round looks at all of them
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Selected:
    """A candidate's place in the order that was given, and how many of them its group has, itself included."""

    place: int
    group: int


def select(
    vectors: Vectors, count: int, *, seed: int, typical: bool = False, known: Vectors | None = None
) -> list[Selected]:
    """`count` of the candidates, most unsure first; all of them if there are not more.

    `vectors` is (n, width), of any length (zero: like nothing), in the order of the candidates, the most unsure first.
    Without scores (`typical`) the one next to the centre of each group is taken. Near-duplicates of what is taken, and
    of what people were asked about before (`known`, (m, width)), are asked about only once nothing else is left. The
    same for the same arguments.
    """
    if count >= len(vectors):
        return [Selected(place, 1) for place in range(len(vectors))]
    if count <= 0:
        return []
    unit = _unit(vectors)
    groups, distances = _grouped(unit, count, seed)
    order = np.lexsort((np.arange(len(unit)), distances)) if typical else np.arange(len(unit))
    sizes = np.bincount(groups, minlength=count)
    taken: list[int] = []
    is_open = np.ones(len(unit), np.bool_)  # neither taken nor like one that was
    others = np.empty((0, unit.shape[1]), np.float32) if known is None else _unit(known)
    for start in range(0, len(others), _BLOCK):
        is_open &= (unit @ others[start : start + _BLOCK].T).max(axis=1) < ALIKE
    for by_group in (True, False):  # what groups of near-duplicates leave goes to the most unsure of all
        done = set[int]()
        for place in order.tolist():
            if len(taken) == count:
                break
            group = int(groups[place])
            if not is_open[place] or (by_group and group in done):
                continue
            taken.append(place)
            done.add(group)
            is_open &= unit @ unit[place] < ALIKE
            is_open[place] = False
    is_taken = set(taken)
    rest = [place for place in order.tolist() if place not in is_taken][: count - len(taken)]
    found = [Selected(place, int(sizes[groups[place]])) for place in taken]
    found = found if typical else sorted(found, key=lambda one: one.place)
    return found + [Selected(place, int(sizes[groups[place]])) for place in rest]


def shares(room: int, candidates: Mapping[str, int]) -> dict[str, int]:
    """How many places each task has: the same for all, as far as it has candidates; what it leaves goes to the others.

    The first by name have the odd ones.
    """
    found = dict.fromkeys(sorted(candidates), 0)
    left = max(room, 0)
    while left and (hungry := [task for task in found if found[task] < candidates[task]]):
        each = max(left // len(hungry), 1)
        for task in hungry:
            given = min(each, candidates[task] - found[task], left)
            found[task] += given
            left -= given
    return found


def stacked(vectors: Mapping[str, Vectors], items: Sequence[str]) -> Vectors | None:
    """(n, width) of these items, zeros (like nothing) where there is no vector; None if none of them has one."""
    width = next((len(vectors[item]) for item in items if item in vectors), 0)
    if width == 0:
        return None
    nothing = np.zeros(width, np.float32)
    return np.stack([vectors.get(item, nothing) for item in items]).astype(np.float32)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return found


def _grouped(unit: Vectors, count: int, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The group of each candidate, and how far it is from the centre."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # half a second, only where something is to be chosen
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # the order in which threads add would decide who is asked
    with threadpool_limits(1), warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        if len(unit) <= _SMALL:
            model = KMeans(count, n_init=1, max_iter=_ROUNDS, random_state=seed, init="k-means++")
        else:
            model = MiniBatchKMeans(count, n_init=1, max_iter=_ROUNDS, batch_size=_BLOCK, random_state=seed)
        groups = model.fit_predict(unit).astype(np.int64)
    centres = model.cluster_centers_
    return groups, np.linalg.norm(unit - centres[groups], axis=1)
