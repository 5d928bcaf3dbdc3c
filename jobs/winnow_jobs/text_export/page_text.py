"""What does a row say of a page's text, and where does each word of a line stand?"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from winnow_storage.errors import UsageError
from winnow_storage.packed.names import PageMember, parse_place
from winnow_storage.schemas import RESULT_COMMON

Point = tuple[float, float]
BoxXYXYPx = tuple[float, float, float, float]

# what XML 1.0 has no way to say
_UNSPEAKABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its quadrangle, cut out of its line's."""

    text: str
    corners: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line; `corners` run clockwise from where the text begins, in pixels of the upright image."""

    text: str
    score: float | None
    corners: tuple[Point, ...]

    def words(self) -> list[Word]:
        """The line's words, each with the share of the line that its characters are: rows hold lines, not words."""
        words = []
        for found in re.finditer(r"\S+", self.text):
            start, end = found.start() / len(self.text), found.end() / len(self.text)
            a, b, c, d = self.corners
            corners = (_between(a, b, start), _between(a, b, end), _between(d, c, end), _between(d, c, start))
            words.append(Word(found.group(), corners))
        return words

    @property
    def angle_deg(self) -> float:
        """How far the text is turned counterclockwise from upright: 0 to 360."""
        (x0, y0), (x1, y1) = self.corners[0], self.corners[1]
        return math.degrees(math.atan2(y0 - y1, x1 - x0)) % 360.0


@dataclass(frozen=True, slots=True)
class PageText:
    """A page: its image (key and URI), size, number within its document (from 1), and lines in reading order."""

    item_id: str
    key: str
    uri: str
    number: int
    width_px: int
    height_px: int
    lines: tuple[TextLine, ...]
    score: float | None
    model: str
    run_id: str


def text_columns(schema: pa.Schema) -> list[str]:
    """The tasks whose predictions are lines of text."""
    return [field.name for field in schema if field.name not in RESULT_COMMON.names and _has_lines(field.type)]


def text_column(schema: pa.Schema, task: str | None) -> str:
    """The one task whose text is meant.

    Raises:
        UsageError: there is none, or several and none was named.
    """
    known = text_columns(schema)
    if task is None and len(known) == 1:
        return known[0]
    listed = ", ".join(known)
    if not known:
        raise UsageError("no task of these results reads text", hint="add a task with operator: ocr, and run it")
    if task is None:
        raise UsageError(f"several tasks read text: {listed}", hint=f"name one: --task {known[0]}")
    if task not in known:
        raise UsageError(f"{task!r} is no task that reads text", hint=f"tasks that do: {listed}")
    return task


def pages_of(table: pa.Table, task: str) -> Iterator[PageText]:
    """The pages of a table of results that the task has read; others (unreadable, failed, not due) are left out."""
    for row in table.to_pylist():
        struct = row[task]
        if struct is None or struct.get("error") is not None or struct["lines"] is None or row["width"] is None:
            continue
        yield PageText(
            item_id=row["item_id"],
            key=row["key"],
            uri=row["uri"],
            number=_page_number(row["uri"]),
            width_px=row["width"],
            height_px=row["height"],
            lines=tuple(_line(line) for line in sorted(struct["lines"], key=lambda line: int(line["order"]))),
            score=struct["score"],
            model=struct["model"],
            run_id=row["run_id"],
        )


def box_of(corners: tuple[Point, ...]) -> BoxXYXYPx:
    """The upright box around corners."""
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def box_around(lines: tuple[TextLine, ...] | list[TextLine]) -> BoxXYXYPx:
    """The upright box around lines; nothing has a box of no size at the corner."""
    corners = tuple(corner for line in lines for corner in line.corners)
    return box_of(corners) if corners else (0.0, 0.0, 0.0, 0.0)


def speakable(text: str) -> str:
    """The text without what XML 1.0 has no way to say."""
    return _UNSPEAKABLE.sub("\ufffd", text)


def _line(line: Mapping[str, Any]) -> TextLine:
    numbers = [float(number) for number in line["polygon"]]
    corners = tuple(zip(numbers[0::2], numbers[1::2], strict=True))
    return TextLine(line["text"] or "", line["score"], corners)


def _has_lines(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or kind.get_field_index("lines") < 0:
        return False
    lines = kind.field("lines").type
    if not pa.types.is_list(lines) and not pa.types.is_large_list(lines):
        return False
    line = lines.value_type
    return pa.types.is_struct(line) and all(line.get_field_index(name) >= 0 for name in ("text", "polygon", "order"))


def _page_number(uri: str) -> int:
    place = parse_place(uri)
    return place.member.page if place is not None and isinstance(place.member, PageMember) else 1


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
