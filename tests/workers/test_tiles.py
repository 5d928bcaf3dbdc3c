"""Do tiles cover an image, and does an object that several of them see come out once and whole?"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow_workers.detectors.detector import Detector
from winnow_workers.detectors.found import Found, Patch
from winnow_workers.detectors.looking import look_everywhere
from winnow_workers.operator import View
from winnow_workers.tiles import Tiling, looks_of, windows


class Blobs(Detector):
    """Finds the one bright rectangle of each colour channel exactly, whatever part of it is in view."""

    labels = ("red", "green", "blue")
    max_iou = 0.5
    preproc = "exact"
    needed_side_px = 1

    def find(self, views: list[View]) -> list[Found]:
        return [self._find(one.pixels) for one in views]

    def _find(self, pixels: np.ndarray) -> Found:
        boxes, classes, masks = [], [], []
        for channel in range(3):
            lit = pixels[:, :, channel] > 0
            if lit.any():
                y, x = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
                boxes.append([x[0], y[0], x[-1] + 1, y[-1] + 1])
                classes.append(channel)
                masks.append(Patch(int(x[0]), int(y[0]), lit[y[0] : y[-1] + 1, x[0] : x[-1] + 1]))
        scores = np.full(len(boxes), 0.8, np.float32)
        return Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64), scores, tuple(masks))


def scene(boxes: list[tuple[int, int, int, int]], width: int = 400, height: int = 300) -> View:
    pixels = np.zeros((height, width, 3), np.uint8)
    for channel, (x0, y0, x1, y1) in enumerate(boxes):
        pixels[y0:y1, x0:x1, channel] = 255
    return View(pixels, width, height)


def search(view: View, **tiling: object) -> Found:
    (found,) = look_everywhere(Blobs(), [view], Tiling.model_validate(tiling), most=100, floor=0.05)
    return found


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    side=st.integers(32, 300),
    overlap=st.floats(0, 0.75),
)
def test_windows__cover_the_image_and_overlap_as_asked(width: int, height: int, side: int, overlap: float) -> None:
    tiling = Tiling(side_px=side, overlap=overlap)
    found = windows(width, height, tiling)
    seen = np.zeros((height, width), bool)
    for one in found:
        assert one.left >= 0
        assert one.left + one.width <= width
        assert one.top + one.height <= height
        assert (one.width, one.height) == (min(side, width), min(side, height))
        seen[one.top : one.top + one.height, one.left : one.left + one.width] = True
    assert seen.all()
    lefts = sorted({one.left for one in found})
    for one, other in pairwise(lefts):
        assert one + side - other >= overlap * side - 1  # starts are whole pixels


def test_looks_of__the_whole_image_too() -> None:
    assert len(looks_of(400, 300, Tiling(side_px=200, whole=True))) == len(windows(400, 300, Tiling(side_px=200))) + 1
    assert len(looks_of(200, 200, Tiling(side_px=200, whole=True))) == 1


@settings(max_examples=60)
@given(data=st.data(), whole=st.booleans())
def test_merge__every_object_once_and_whole(data: st.DataObject, whole: bool) -> None:
    boxes = []
    for _ in range(3):
        x0, y0 = data.draw(st.integers(0, 380)), data.draw(st.integers(0, 280))
        x1, y1 = data.draw(st.integers(x0 + 8, 400)), data.draw(st.integers(y0 + 8, 300))
        boxes.append((x0, y0, x1, y1))
    view = scene(boxes)
    found = search(view, side_px=128, overlap=0.25, whole=whole)
    assert sorted(found.classes.tolist()) == [0, 1, 2]
    for channel, box in enumerate(boxes):
        (index,) = np.flatnonzero(found.classes == channel)
        assert found.boxes[index].tolist() == pytest.approx(box)
        assert found.masks is not None
        mask = found.masks[index]
        drawn = np.zeros((300, 400), bool)
        drawn[mask.top : mask.top + mask.bits.shape[0], mask.left : mask.left + mask.bits.shape[1]] = mask.bits
        assert (drawn == (view.pixels[:, :, channel] > 0)).all()


class Listed(Blobs):
    """Finds of the image's boxes, all of one class, what is in each view; views are told apart by their red value."""

    def __init__(self, boxes: list[list[float]], lefts: list[int]) -> None:
        self.boxes, self.lefts = np.array(boxes, np.float32), lefts

    def find(self, views: list[View]) -> list[Found]:
        return [self._clip(one) for one in views]

    def _clip(self, view: View) -> Found:
        left = int(view.pixels[0, 0, 0]) * 2
        seen = (self.boxes - np.array([left, 0, left, 0])).clip(0, view.width_px).astype(np.float32)
        seen = seen[seen[:, 2] > seen[:, 0]]
        return Found(seen, np.zeros(len(seen), np.int64), np.full(len(seen), 0.9, np.float32))


def test_merge__neighbours_of_one_class_stay_apart() -> None:
    tiling = Tiling(side_px=128, overlap=0.2, whole=False)
    tiles = windows(400, 100, tiling)
    pixels = np.zeros((100, 400, 3), np.uint8)
    pixels[:, :, 0] = (np.arange(400) + 1) // 2
    lefts = [tile.left for tile in tiles]
    # both are cut by the border of the first tile, one behind the other
    boxes = [[100.0, 10.0, 150.0, 40.0], [90.0, 50.0, 140.0, 90.0], [152.0, 10.0, 170.0, 40.0]]
    (found,) = look_everywhere(Listed(boxes, lefts), [View(pixels, 400, 100)], tiling, most=100, floor=0.05)
    assert np.allclose(sorted(found.boxes.tolist()), sorted(boxes), atol=1.01)


def test_merge__of_two_complete_boxes_the_stronger_stays() -> None:
    class Unsure(Blobs):
        def find(self, views: list[View]) -> list[Found]:
            strength = [0.3 + 0.1 * number for number in range(len(views))]
            return [
                Found(one.boxes, one.classes, np.full(len(one), score, np.float32), one.masks)
                for one, score in zip(super().find(views), strength, strict=True)
            ]

    (found,) = look_everywhere(
        Unsure(), [scene([(110, 10, 120, 20)])], Tiling(side_px=128, overlap=0.5, whole=False), most=9, floor=0.05
    )
    assert len(found) == 1
    assert found.scores[0] == pytest.approx(0.4)  # the second tile's
