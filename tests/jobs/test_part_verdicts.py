"""Which boxes, masks and lines are right, and with them their images."""

from typing import Any

import numpy as np
import pytest

from winnow_jobs.acceptance import is_accepted
from winnow_jobs.part_verdicts import parts_right
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.masks import encode_rle


def box(label: str, left: float, score: float, *, threshold: float = 0.5) -> dict[str, Any]:
    return {"label": label, "box": [left, 0, left + 10, 10], "score": score, "is_output": score >= threshold}


def mask(label: str, rows: slice, *, is_output: bool = True) -> dict[str, Any]:
    bits = np.zeros((8, 8), np.bool_)
    bits[rows] = True
    return {"label": label, "rle": encode_rle(bits), "is_output": is_output}


TRUE_BOXES = {"boxes": [{"label": "a", "box": [0, 0, 10, 10]}, {"label": "b", "box": [50, 0, 60, 10]}]}


@pytest.mark.parametrize(
    ("said", "right", "ok"),
    [
        ([box("a", 1, 0.9), box("b", 50, 0.8)], [True, True], True),
        ([box("a", 1, 0.9), box("a", 0, 0.3), box("b", 50, 0.8)], [True, False, True], True),  # found by a stronger one
        ([box("a", 1, 0.9), box("b", 50, 0.3)], [True, True], False),  # missed, but nearly found
        ([box("a", 1, 0.9), box("b", 58, 0.8)], [True, False], False),
        ([box("b", 1, 0.9)], [False], False),
        ([], [], False),
    ],
)
def test_boxes(said: list[dict[str, Any]], right: list[bool], ok: bool) -> None:
    assert parts_right("detect", {"boxes": said}, TRUE_BOXES) == right
    assert is_accepted("detect", {"boxes": said}, TRUE_BOXES) is ok


def test_boxes__crowds_and_a_threshold_of_the_task() -> None:
    crowd = {"boxes": [{"label": "a", "box": [0, 0, 40, 10], "crowd": True}]}
    said = {"boxes": [box("a", 1, 0.9), box("a", 20, 0.2)]}
    assert parts_right("detect", said, crowd) == [True, False]
    assert is_accepted("detect", said, crowd)
    low = {"boxes": [box("a", 1, 0.3, threshold=0.25), box("b", 50, 0.3, threshold=0.25)]}
    assert is_accepted("detect", low, TRUE_BOXES)
    assert is_accepted("detect", {"boxes": []}, {"boxes": []})
    assert is_accepted("detect", {"boxes": []}, {"label": "?"}) is None


def test_masks__whole_classes_single_things_and_what_was_held_back() -> None:
    true = {"masks": [mask("a", slice(0, 4)), mask("b", slice(4, 6))]}
    said = {"masks": [mask("a", slice(0, 3)), mask("b", slice(5, 8)), mask("c", slice(0, 1))]}
    assert parts_right("segment", said, true) == [True, False, False]
    assert parts_right("segment", said, true, Acceptance(mask_iou=0.9)) == [False, False, False]
    things = [mask("a", slice(0, 1)), mask("a", slice(6, 8)), mask("a", slice(1, 4), is_output=False)]
    assert parts_right("segment", {"masks": things}, true) == [True, False, True]
    hidden = [mask("a", slice(0, 4)), mask("a", slice(0, 3), is_output=False)]
    assert parts_right("segment", {"masks": hidden}, true) == [True, False]


def test_masks__pixels_in_crowds_count_neither_way() -> None:
    crowds = mask("", slice(4, 8))["rle"]
    true = {"masks": [mask("a", slice(0, 4))], "ignored": crowds}
    inside = [mask("b", slice(5, 8)), mask("b", slice(4, 6), is_output=False)]
    assert parts_right("segment", {"masks": inside}, true) == [True, False]  # no error, and nothing missed
    whole = {"masks": [mask("a", slice(0, 8))]}
    assert parts_right("segment", whole, true, Acceptance(mask_iou=0.9)) == [True]
    assert is_accepted("segment", whole, true, Acceptance(mask_iou=0.9))
    things = [mask("a", slice(0, 1)), mask("a", slice(3, 8)), mask("a", slice(1, 8), is_output=False)]
    assert parts_right("segment", {"masks": things}, true, Acceptance(mask_iou=0.6)) == [True, True, True]
    assert parts_right("segment", {"masks": things}, true, Acceptance(mask_iou=0.7)) == [True, True, False]
    outside = {"masks": [mask("a", slice(0, 8)), *inside]}
    assert is_accepted("segment", outside, true, Acceptance(mask_iou=0.9))
    assert not is_accepted("segment", outside, {"masks": true["masks"]}, Acceptance(mask_iou=0.9))


@pytest.mark.parametrize(
    ("lines", "true", "right"),
    [
        (["one  two", "three"], "one two\nthree", [True, True]),
        (["one two", "three"], "one two three", [True, True]),  # the truth's own line breaks do not matter
        (["three", "three"], "three one", [True, False]),
        (["", "oneX"], "one", [False]),  # nothing was read: no verdict
        (["one"], "", [False]),
    ],
)
def test_lines(lines: list[str], true: str, right: list[bool]) -> None:
    prediction = {"lines": [{"text": text, "score": 0.5} for text in lines]}
    assert parts_right("ocr", prediction, {"full_text": true}) == right


def test_no_truth_no_verdict() -> None:
    assert parts_right("ocr", {"lines": []}, {"full_text": None}) is None
    assert parts_right("classify", {"label": "a"}, {"label": "a"}) is None
