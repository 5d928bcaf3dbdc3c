"""Are lines read as a person reads them: down a column, along a receipt's rows, whichever way the page lies?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_workers.text.lines import corners_of
from winnow_workers.text.reading_order import reading_order

HEIGHT = 20.0
Box = tuple[float, float, float, float]


def line(left: float, top: float, width: float, height: float = HEIGHT) -> Box:
    return (left, top, left + width, top + height)


def column(left: float, top: float, width: float, count: int, *, leading: float = 30.0) -> list[Box]:
    return [line(left, top + leading * number, width) for number in range(count)]


TWO_COLUMNS = [*column(50, 100, 400, 8), *column(500, 100, 400, 6)]
NEWSPAPER = [  # a heading, two columns, a heading across, three columns, a footer
    line(50, 20, 850, 40),
    *column(50, 100, 400, 5),
    *column(500, 100, 400, 5),
    line(50, 300, 850, 30),
    *column(50, 360, 250, 4),
    *column(350, 360, 250, 4),
    *column(650, 360, 250, 3),
    line(50, 600, 850),
]
RECEIPT = [one for row in range(6) for one in (line(50, 100 + 30 * row, 160), line(500, 100 + 30 * row, 50))]
PARAGRAPHS = [*column(50, 50, 800, 4), line(50, 170, 300), *column(50, 230, 800, 3)]
SHORT_HEADING = [line(50, 40, 120), *column(50, 100, 400, 5), *column(500, 100, 400, 5)]
WORDS = [
    one for row in range(3) for one in (line(50, 30 * row, 90), line(145, 30 * row + 2, 60), line(208, 30 * row, 99))
]
PAGES = {
    "two columns": TWO_COLUMNS,
    "newspaper": NEWSPAPER,
    "receipt": RECEIPT,
    "paragraphs": PARAGRAPHS,
    "short heading": SHORT_HEADING,
    "words in rows": WORDS,
}


def shown(boxes: list[Box], *, degrees: float = 0.0) -> list[np.ndarray]:
    """Corners in reading order, the page turned clockwise around a point."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [corners_of(box) @ turn + 2000 for box in boxes]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 2, -2, 91.5])
@pytest.mark.parametrize("name", list(PAGES))
def test_reading_order__as_a_person_reads(name: str, degrees: float) -> None:
    corners = shown(PAGES[name], degrees=degrees)
    shuffled = np.random.default_rng(7).permutation(len(corners))
    order = reading_order([corners[index] for index in shuffled])
    assert [int(shuffled[index]) for index in order] == list(range(len(corners)))


def test_reading_order__nothing_and_one() -> None:
    assert reading_order([]) == []
    assert reading_order([corners_of((1, 2, 3, 4))]) == [0]


def test_reading_order__no_direction() -> None:
    assert sorted(reading_order([np.zeros((4, 2)), np.zeros((4, 2))])) == [0, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900), st.integers(1, 400), st.integers(1, 60)), max_size=25),
)
def test_reading_order__every_line_once_whatever_order_they_come_in(boxes: list[Box]) -> None:
    corners = [corners_of(line(*box)) for box in dict.fromkeys(boxes)]
    order = reading_order(corners)
    assert sorted(order) == list(range(len(corners)))
    backwards = reading_order(corners[::-1])
    assert [len(corners) - 1 - index for index in backwards] == order
