"""How is a large image looked at in parts, and what of the parts' findings is one object?"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from winnow_workers.boxes import Floats, Ints, areas, iou_matrix, paired_intersection
from winnow_workers.detectors.found import Found
from winnow_workers.models.preprocess import Window
from winnow_workers.operator import View

Bools = npt.NDArray[np.bool_]

_BORDER_PX = 2.0  # a box that ends so near to a tile's inner border is taken to go on behind it


class Tiling(BaseModel):
    """Square tiles of `side_px` pixels of the full-size image, neighbours sharing at least `overlap` of a side.

    An object is seen whole by some tile if it is no larger than the overlap; `whole` also looks at the image as a
    whole, for larger ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    side_px: int = Field(ge=32, le=8192)
    overlap: float = Field(default=0.2, ge=0.0, le=0.75)
    whole: bool = True

    @property
    def suffix(self) -> str:
        """What a preprocessing id gains where images are looked at in tiles."""
        return f"-t{self.side_px}-{self.overlap:g}{'-whole' if self.whole else ''}"


@dataclass(frozen=True, slots=True)
class Look:
    """What was found in one window of an image, in the image's coordinates."""

    window: Window
    found: Found


@dataclass(frozen=True, slots=True)
class Group:
    """The findings (numbers in the order of the looks) that are one object, the strongest first, and its box."""

    members: tuple[int, ...]
    box: tuple[float, float, float, float]


def starts(length: int, *, side: int, overlap: float) -> list[int]:
    """Where tiles of `side` begin along a `length`, evenly spread from end to end; one at 0 where it fits in one."""
    if length <= side:
        return [0]
    step = max(1.0, side * (1.0 - overlap))
    count = 1 + int(np.ceil((length - side) / step))
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def windows(width_px: int, height_px: int, tiling: Tiling) -> list[Window]:
    """The tiles of an image, row by row; the whole image alone where it is no larger than one."""
    side = tiling.side_px
    return [
        Window(left, top, min(side, width_px), min(side, height_px))
        for top in starts(height_px, side=side, overlap=tiling.overlap)
        for left in starts(width_px, side=side, overlap=tiling.overlap)
    ]


def looks_of(width_px: int, height_px: int, tiling: Tiling | None) -> list[Window]:
    """Every window in which objects are searched: the image, or its tiles and, if wished, the image as well."""
    whole = Window(0, 0, width_px, height_px)
    if tiling is None:
        return [whole]
    tiles = windows(width_px, height_px, tiling)
    return [*tiles, whole] if tiling.whole and len(tiles) > 1 else tiles


def at_full_size(view: View) -> View:
    """A view with every pixel of its image: itself, or enlarged where it was decoded smaller."""
    if view.pixels.shape[:2] == (view.height_px, view.width_px):
        return view
    return View(cv2.resize(view.pixels, (view.width_px, view.height_px)), view.width_px, view.height_px)


def merge(looks: Sequence[Look], *, width_px: int, height_px: int, max_iou: float) -> list[Group]:
    """Which findings of all looks are the same object? The strongest object first.

    Two boxes of one class from two looks are the same where, each cut to what both looks see, they have an IoU above
    `max_iou`. Of two boxes that are complete the stronger stays; one that its tile's border cut gives way to a
    complete one; what only was seen cut, by two tiles or more, is put together to the box around all its pieces.
    """
    boxes = np.concatenate([look.found.boxes for look in looks]).astype(np.float32)
    scores = np.concatenate([look.found.scores for look in looks])
    classes = np.concatenate([look.found.classes for look in looks])
    owner = np.repeat(np.arange(len(looks)), [len(look.found) for look in looks])
    edges = np.array(
        [[w.left, w.top, w.left + w.width, w.top + w.height] for w in (look.window for look in looks)], np.float32
    )
    size = np.array([width_px, height_px], np.float32)
    cut = _are_cut(boxes, edges[owner], size)
    groups: list[Group] = []
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        members = members[np.argsort(-scores[members], kind="stable")]
        groups.extend(_merge_class(boxes, members, cut, owner, edges, max_iou))
    return sorted(groups, key=lambda group: (-float(scores[group.members[0]]), group.members[0]))


def _are_cut(boxes: Floats, edges: Floats, size: Floats) -> Bools:
    """Which boxes end at a border of their window that is no border of the image."""
    low = (boxes[:, :2] <= edges[:, :2] + _BORDER_PX) & (edges[:, :2] > 0)
    high = (boxes[:, 2:] >= edges[:, 2:] - _BORDER_PX) & (edges[:, 2:] < size)
    return np.asarray((low | high).any(axis=1))


def _merge_class(
    boxes: Floats,
    members: Ints,
    cut: Bools,
    owner: Ints,
    edges: Floats,
    max_iou: float,
) -> list[Group]:
    complete = _suppressed(boxes, members[~cut[members]], owner, max_iou)
    pieces = members[cut[members]]
    if len(pieces) and len(complete):
        pieces = pieces[~_agree(boxes, pieces, complete, owner, edges, max_iou).any(axis=1)]
    groups = [Group((int(index),), _as_box(boxes[index])) for index in complete]
    if len(pieces):
        same = _agree(boxes, pieces, pieces, owner, edges, max_iou)
        for part in _connected(same):
            numbers = pieces[part]  # still the strongest first
            around = np.concatenate([boxes[numbers, :2].min(axis=0), boxes[numbers, 2:].max(axis=0)])
            groups.append(Group(tuple(int(number) for number in numbers), _as_box(around)))
    return groups


def _suppressed(boxes: Floats, members: Ints, owner: Ints, max_iou: float) -> Ints:
    """Greedy suppression, the strongest first, across looks only: within one the detector has had its say."""
    kept: list[int] = []
    left = members
    while len(left):
        first, left = left[0], left[1:]
        kept.append(int(first))
        overlap = iou_matrix(boxes[first : first + 1], boxes[left])[0]
        left = left[(overlap <= max_iou) | (owner[left] == owner[first])]
    return np.array(kept, np.int64)


def _agree(boxes: Floats, some: Ints, others: Ints, owner: Ints, edges: Floats, max_iou: float) -> Bools:
    """(n, m) whether box i and box j, of different looks, are the same in what both looks see."""
    same = np.zeros((len(some), len(others)), np.bool_)
    for row, index in enumerate(some):
        theirs = edges[owner[others]]
        shared = paired_intersection(np.broadcast_to(edges[owner[index]], theirs.shape), theirs)
        mine = paired_intersection(np.broadcast_to(boxes[index], theirs.shape), shared)
        other = paired_intersection(boxes[others], shared)
        common = areas(paired_intersection(mine, other))
        union = areas(mine) + areas(other) - common
        same[row] = (common > max_iou * union) & (union > 0) & (owner[others] != owner[index])
    return same


def _connected(same: Bools) -> list[Ints]:
    """The connected parts of a symmetric relation, each ascending, in the order of their first members."""
    left = np.ones(len(same), np.bool_)
    parts: list[Ints] = []
    for first in range(len(same)):
        if not left[first]:
            continue
        part: Bools = np.zeros(len(same), np.bool_)
        part[first] = True
        while True:
            grown = part | same[part].any(axis=0)
            if (grown == part).all():
                break
            part = grown
        left &= ~part
        parts.append(np.flatnonzero(part))
    return parts


def _as_box(values: Floats) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in values)
    return x0, y0, x1, y1
