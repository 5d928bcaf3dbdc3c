"""What is one item of the demo corpus? The bytes of a file, and everything that is known to be true of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from winnow_storage.schemas import Outcome


class Rle(TypedDict):
    """A mask as COCO compressed RLE: column-major, `size` is [height, width] in pixels of the upright image."""

    size: list[int]
    counts: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of one item. Fields of other operators than its own are null.

    `operator` is the only one that the item says something about (null: none, it is there for its outcome).
    `clean` is false where the image was spoiled on purpose, so that a model may well be unsure.
    """

    operator: str | None = None
    expected_outcome: Outcome = Outcome.DONE
    clean: bool | None = None
    label: str | None = None  # classify: the digit; embed: the photograph that this is a view of
    text: str | None = None  # ocr: the lines from top to bottom, joined by a line feed
    anomalous: bool | None = None
    masks: Mapping[str, Rle] | None = None  # segment: one mask per class that is present


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of the corpus: its path below the corpus folder (POSIX), its bytes, its truth."""

    key: str
    data: bytes
    truth: Truth = field(default_factory=Truth)


Samples = Iterator[Sample]


def rle(mask: npt.NDArray[np.bool_]) -> Rle:
    """A (height, width) mask as COCO RLE."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
