"""What is true of the labelled items that look most alike? Where it speaks against a prediction, that is likely wrong.

A model that errs is often sure of it: its own scores cannot tell. The labelled draws that a calibrator is fitted on are
a second witness: items whose vectors (of an `embed` task) are the nearest, and what people said of them. After deep
k-nearest neighbours (Papernot and McDaniel, 2018) and trust scores (Jiang et al., 2018).
"""

import base64
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from winnow_workers.confidence.parts import Bools, Floats

Strings = npt.NDArray[np.str_]
COUNT = 10  # neighbours
MOST_AXES = 64
_CHUNK = 2048
SAYS: Mapping[str, str] = {"classify": "label", "anomaly": "is_anomalous"}  # of a struct: what truth can agree with


class Neighbours(BaseModel):
    """Labelled items by their vectors, which stand in the rows of `task`; the numbers are float32 in base64.

    Vectors are projected on their principal `axes` (a, length) around `mean` (length,); `points` (m, a) are the items,
    `right` whether the prediction of each was right, `truths` what is true of it, where that is one word.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    task_digest: str
    length: int
    mean: str
    axes: str
    points: str
    right: tuple[bool, ...]
    truths: tuple[str, ...]

    def columns(
        self, vectors: Floats, said: Strings, *, groups: npt.NDArray[np.int64] | None = None
    ) -> dict[str, Floats]:
        """Of n predictions with `vectors` (n, length), NaN where there is none, that say `said` (n,).

        `near_agree`: the log odds of a neighbour's truth being what is said; `near_right`: of its own prediction being
        right; `near`: minus the logarithm of the mean distance. `groups` (n,), of the labelled items themselves: those
        of one group are no witnesses of each other.

        Raises:
            ValueError: the vectors are of another length.
        """
        if vectors.shape[1] != self.length:
            raise ValueError(f"vectors of length {vectors.shape[1]}, the labelled ones have {self.length}")
        mean, axes, points = _read(self.mean, 1), _read(self.axes, self.length), _read(self.points, self._axes)
        right, truths = np.array(self.right, np.bool_), np.array(self.truths)
        found: dict[str, Floats] = {
            name: np.full(len(vectors), np.nan) for name in ("near_agree", "near_right", "near")
        }
        for start in range(0, len(vectors), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            distances = _distances((vectors[chunk] - mean.ravel()) @ axes.T, points)
            if groups is not None:
                distances[groups[chunk, None] == groups[None, :]] = np.inf
            nearest = np.argsort(distances, axis=1, kind="stable")[:, :COUNT]
            far = np.take_along_axis(distances, nearest, axis=1)
            known = np.isfinite(far).sum(axis=1)  # 0 where the vector is missing
            agree = ((truths[nearest] == said[chunk, None]) & np.isfinite(far)).sum(axis=1)
            good = (right[nearest] & np.isfinite(far)).sum(axis=1)
            found["near_agree"][chunk] = _log_odds(agree, known)
            found["near_right"][chunk] = _log_odds(good, known)
            mean_far = np.where(np.isfinite(far), far, 0.0).sum(axis=1) / np.maximum(known, 1)
            found["near"][chunk] = np.where(known > 0, -np.log(np.maximum(mean_far, 1e-6)), np.nan)
        return found

    @property
    def _axes(self) -> int:
        return len(base64.b64decode(self.axes)) // 4 // self.length


def gather(task: str, task_digest: str, vectors: Floats, right: Bools, truths: Sequence[str]) -> Neighbours:
    """The labelled items, (m, length) finite vectors, as witnesses. The same input gives the same."""
    mean = vectors.mean(axis=0).astype(np.float32)
    _, sizes, axes = np.linalg.svd(vectors - mean, full_matrices=False)
    kept = axes[: min(MOST_AXES, int((sizes > 1e-9).sum()) or 1)].astype(np.float32)
    points = ((vectors - mean) @ kept.T).astype(np.float32)
    return Neighbours(
        task=task,
        task_digest=task_digest,
        length=vectors.shape[1],
        mean=_write(mean),
        axes=_write(kept),
        points=_write(points),
        right=tuple(bool(one) for one in right),
        truths=tuple(truths),
    )


def _distances(some: Floats, points: Floats) -> Floats:
    """(n, m); infinite from where a number is missing."""
    squares = (some**2).sum(axis=1)[:, None] + (points**2).sum(axis=1)[None, :] - 2.0 * some @ points.T
    found: Floats = np.sqrt(np.maximum(squares, 0.0))
    return np.where(np.isnan(found), np.inf, found)


def _log_odds(count: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> Floats:
    """With half a case added on either side; NaN of none."""
    found: Floats = np.log((count + 0.5) / (of - count + 0.5))
    return np.where(of > 0, found, np.nan)


def _write(numbers: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, "<f4").tobytes()).decode("ascii")


def _read(text: str, width: int) -> Floats:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64).reshape(-1, width)
