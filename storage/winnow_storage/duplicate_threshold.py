"""From which cosine on are two images near-duplicates? Where they stand apart from the others, by the data."""

import numpy as np
import numpy.typing as npt

from winnow_storage.neighbours import DECIMALS
from winnow_storage.vectors import VectorBlock, Vectors, unit

_SAMPLE = 2000
_AUTO_RANGE = (0.8, 0.9999)  # cosines between which a threshold is looked for
_GAP = 0.3  # in powers of ten of the distance: the closest of the others are twice as far as the farthest duplicate


def find_threshold(vectors: Vectors) -> float | None:
    """Where near-duplicates end, by the data; None where they do not stand apart.

    Of up to 2,000 items (those with the smallest item_id, which is a digest) the cosine with the nearest other item is
    taken. Among these, the threshold is the middle, on a logarithmic scale of 1 - cosine, of the widest gap between two
    that follow each other, if that gap is at least a factor of two and has three on either side.
    """
    sample = _sample(vectors)
    if sample is None:
        return None
    best = np.full(len(sample.vectors), -1.0, np.float32)
    own = np.array(sample.rows["item_id"].to_pylist())
    ours = unit(sample.vectors)
    for block in vectors.blocks():
        scores = ours @ unit(block.vectors).T
        theirs = {item: place for place, item in enumerate(block.rows["item_id"].to_pylist())}
        for number, item in enumerate(own):
            if item in theirs:
                scores[number, theirs[item]] = -1.0
        best = np.maximum(best, scores.max(axis=1))
    return _widest_gap(best.astype(np.float64))


def _widest_gap(nearest: npt.NDArray[np.float64]) -> float | None:
    low, high = _AUTO_RANGE
    depth = np.sort(-np.log10(np.clip(1.0 - nearest, 1.0 - high, 2.0)))
    floor, ceiling = -np.log10(1.0 - low), -np.log10(1.0 - high)
    below, above = np.clip(depth[:-1], floor, ceiling), np.clip(depth[1:], floor, ceiling)
    gaps = above - below
    gaps[:2] = gaps[len(gaps) - 2 :] = 0.0  # three on either side
    if len(gaps) < 5 or gaps.max() < _GAP:
        return None
    widest = int(gaps.argmax())
    return float(np.round(1.0 - 10.0 ** (-(below[widest] + above[widest]) / 2), DECIMALS))


def _sample(vectors: Vectors) -> VectorBlock | None:
    ids: list[str] = []
    for block in vectors.blocks():
        ids = sorted([*ids, *block.rows["item_id"].to_pylist()])[:_SAMPLE]
    return vectors.of_items(ids) if ids else None
