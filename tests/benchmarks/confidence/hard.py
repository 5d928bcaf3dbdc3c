"""A task of the confidence benchmark: a model, images that it has not seen, and what it says of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from winnow_jobs.acceptance import is_accepted
from winnow_jobs.part_verdicts import parts_right
from winnow_workers.confidence.features import Features, features, fields_of
from winnow_workers.confidence.parts import Bools, Floats
from winnow_workers.operator import Operator, PixelsHWC, View

Part = Literal["calibrate", "held out", "corrupted"]  # the last: of the held-out images, spoiled in another way


@dataclass(frozen=True, slots=True)
class Alike:
    """For the neighbours of n items: `vectors` (n, length), and in one word what is said and what is true."""

    vectors: Floats
    said: npt.NDArray[np.str_]
    truths: npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said of n items: what a calibrator sees, and whether it was right.

    `others`: confidences (n,) that the operator itself gives, by name, to be compared with `p_ok`.
    """

    found: Features
    ok: Bools
    alike: Alike | None = None
    others: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hard:
    """`answers(part, strength)`: of disjoint images. `ladder`: the strengths that may be chosen from, upwards."""

    name: str
    operator: str
    setup: str
    ladder: Sequence[float]
    answers: Callable[[Part, float], Answers]


def structs_of(operator: Operator[Any], images: Sequence[PixelsHWC]) -> list[dict[str, Any]]:
    """What an open operator says of images, as a task's rows hold it."""
    views = [View(pixels, pixels.shape[1], pixels.shape[0]) for pixels in images]
    size = operator.batch_size
    found = [one for start in range(0, len(views), size) for one in operator.run(views[start : start + size])]
    return [{"score": one.score, **one.fields} for one in found]


def judged(operator: str, structs: Sequence[dict[str, Any]], truths: Sequence[dict[str, Any]]) -> Answers:
    """Of structs as a task's rows hold them, and what is true in the form of labels' values."""
    pairs = list(zip(structs, truths, strict=True))
    ok = np.array([is_accepted(operator, struct, true) for struct, true in pairs], np.bool_)
    names = fields_of(operator)
    found = features(operator, pa.array([{name: struct.get(name) for name in names} for struct in structs]))
    if found.parts is not None:
        verdicts = [verdict for struct, true in pairs for verdict in parts_right(operator, struct, true) or ()]
        found = replace(found, parts=replace(found.parts, ok=np.array(verdicts, np.bool_)))
    return Answers(found, ok)
