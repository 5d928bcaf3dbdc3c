"""In which order does a person read the lines of a page? Columns and rows, found from the lines' corners alone.

A cut between columns after the recursive XY-cut (Nagy and Seth, 1984), but tried on runs of rows rather than on the
whole page, since a heading across both columns would hide the gap between them:

1. The page is turned so that its text runs to the right: by the angle of its lines' baselines, weighted by length.
   That takes care of skew and of pages that lie on their side or stand on their head.
2. Lines that share at least half their height with the one before make a row.
3. Rows are taken from the top into segments. A row joins the segment as long as what is between columns stays free:
   a vertical gap of at least one line height that no line of the segment crosses. A heading, or a line as wide as the
   page, so ends a segment.
4. A segment with such a gap is read column by column (each by these same rules) if both sides have at least two rows,
   and lines that are long for their height on both (the median at least `_PROSE` heights wide): prose. Otherwise row by
   row from the left: a receipt's prices belong to what they are the prices of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SHARED = 0.5  # of the lower one's height, that two lines of a row share
_GAP = 1.0  # line heights between columns
_PROSE = 5.0  # heights that half of a column's lines are wide: about ten characters
_ROWS = 2
_BREADTH = 64  # columns within columns; a page has never as many


@dataclass(frozen=True, slots=True)
class _Box:
    """A line on the turned page."""

    index: int
    left: float
    top: float
    right: float
    bottom: float

    @property
    def height(self) -> float:
        return max(self.bottom - self.top, 1e-6)


def reading_order(corners: Sequence[npt.NDArray[np.float64]]) -> list[int]:
    """The indices of the lines, each (4, 2) from the text's top left corner on, in the order in which they are read."""
    if len(corners) < 2:
        return list(range(len(corners)))
    # begun from one and the same order, whatever the engine's was
    first = sorted(range(len(corners)), key=lambda index: corners[index].ravel().tolist())
    boxes = _turned(np.stack([np.asarray(corners[index], np.float64) for index in first]))
    height = float(np.median([box.height for box in boxes]))
    return [first[box.index] for box in _ordered(boxes, height, _BREADTH)]


def _turned(corners: npt.NDArray[np.float64]) -> list[_Box]:
    """Upright boxes of the (n, 4, 2) corners on the page turned by the text's own direction."""
    along = corners[:, 1] - corners[:, 0]
    along = along + corners[:, 2] - corners[:, 3]
    across = np.linalg.norm(corners[:, 3] - corners[:, 0], axis=1)
    long_enough = np.linalg.norm(along, axis=1) / 2 >= across  # one character has no direction
    total = along[long_enough].sum(axis=0) if long_enough.any() else along.sum(axis=0)
    length = float(np.hypot(*total))
    cos, sin = (1.0, 0.0) if length < 1e-9 else (float(total[0]) / length, float(total[1]) / length)
    turned = corners @ np.array([[cos, -sin], [sin, cos]])
    low, high = turned.min(axis=1), turned.max(axis=1)
    return [
        _Box(index, float(left), float(top), float(right), float(bottom))
        for index, ((left, top), (right, bottom)) in enumerate(zip(low, high, strict=True))
    ]


def _ordered(boxes: Sequence[_Box], height: float, breadth: int) -> list[_Box]:
    read: list[_Box] = []
    for rows in _segments(_rows(boxes), height):
        lines = [box for row in rows for box in row]
        split = _columns(lines, height) if breadth > 0 else None
        if split is None:
            read += lines
        else:
            read += _ordered(split[0], height, breadth - 1) + _ordered(split[1], height, breadth - 1)
    return read


def _rows(boxes: Sequence[_Box]) -> list[list[_Box]]:
    """From the top, each from the left."""
    rows: list[list[_Box]] = []
    for box in sorted(boxes, key=lambda one: (one.top + one.bottom, one.left, one.index)):
        last = rows[-1][-1] if rows else None
        if last is not None:
            shared = min(last.bottom, box.bottom) - max(last.top, box.top)
            if shared >= _SHARED * min(last.height, box.height):
                rows[-1].append(box)
                continue
        rows.append([box])
    return [sorted(row, key=lambda one: (one.left, one.index)) for row in rows]


def _segments(rows: Sequence[list[_Box]], height: float) -> list[list[list[_Box]]]:
    segments: list[list[list[_Box]]] = []
    open_gap = False  # of the last segment
    for row in rows:
        together = [box for one in segments[-1] for box in one] + row if segments else row
        gap = _widest_gap(together, height) is not None
        alone = _widest_gap(row, height) is not None
        if segments and (gap or not (open_gap or alone)):
            segments[-1].append(row)
            open_gap = gap
        else:
            segments.append([row])
            open_gap = alone
    return segments


def _widest_gap(boxes: Sequence[_Box], height: float) -> float | None:
    """The middle of the widest vertical gap between lines, if it is wide enough."""
    best, middle, reach = _GAP * height, None, None
    for box in sorted(boxes, key=lambda one: one.left):
        if reach is not None and box.left - reach >= best:
            best, middle = box.left - reach, (box.left + reach) / 2
        reach = box.right if reach is None else max(reach, box.right)
    return middle


def _columns(lines: Sequence[_Box], height: float) -> tuple[list[_Box], list[_Box]] | None:
    middle = _widest_gap(lines, height)
    if middle is None:
        return None
    sides = [box for box in lines if box.right <= middle], [box for box in lines if box.right > middle]
    for side in sides:
        if len(_rows(side)) < _ROWS or float(np.median([(box.right - box.left) / box.height for box in side])) < _PROSE:
            return None
    return sides
