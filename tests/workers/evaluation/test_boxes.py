from dataclasses import replace

import numpy as np
import pytest

from winnow_workers.evaluation.acceptance import Acceptance, boxes_ok
from winnow_workers.evaluation.boxes import NOTHING, Objects, box_iou, match, right_boxes


def objects(*rows: tuple[str, float, tuple[float, float, float, float]], crowd: tuple[bool, ...] = ()) -> Objects:
    return Objects(
        np.array([box for _, _, box in rows], np.float64).reshape(-1, 4),
        tuple(label for label, _, _ in rows),
        np.array([score for _, score, _ in rows], np.float64),
        crowd=np.array(crowd or [False] * len(rows), np.bool_),
    )


CAT = ("cat", 0.9, (0, 0, 10, 10))
DOG = ("dog", 0.8, (20, 0, 30, 10))


def test_box_iou__by_hand() -> None:
    found = box_iou(np.array([[0, 0, 10, 10.0]]), np.array([[5, 0, 15, 10], [0, 0, 10, 10], [50, 50, 60, 60.0]]))
    assert found[0] == pytest.approx([50 / 150, 1.0, 0.0])


def test_match__the_confident_box_takes_the_object_and_the_second_is_extra() -> None:
    twice = objects(("cat", 0.5, (0, 0, 10, 10)), ("cat", 0.9, (0, 0, 10, 9)))
    found = match(objects(CAT, DOG), twice)
    assert (found.matched, found.missed) == ((-1, 0), (1,))
    assert (found.right, found.extra) == (1, 1)


def test_match__a_crowd_takes_any_number_and_need_not_be_found() -> None:
    truth = objects(("cat", 0.0, (0, 0, 100, 100)), crowd=(True,))
    found = match(truth, objects(("cat", 0.9, (0, 0, 10, 10)), ("cat", 0.8, (5, 5, 9, 9)), DOG))
    assert (found.matched, found.missed, found.extra) == ((-2, -2, -1), (), 1)
    scores, right = right_boxes([(truth, objects(("cat", 0.9, (0, 0, 10, 10)), DOG))])
    assert (scores.tolist(), right.tolist()) == ([0.8], [0.0])


@pytest.mark.parametrize(
    ("predicted", "ok"),
    [
        (objects(CAT, DOG), True),
        (objects(CAT, ("dog", 0.4, (20, 0, 30, 10))), False),  # below the threshold it is no claim
        (objects(CAT, DOG, ("dog", 0.4, (0, 0, 5, 5))), True),  # nor is it one too many
        (objects(CAT, DOG, ("dog", 0.6, (0, 0, 5, 5))), False),
        (objects(CAT, ("cat", 0.8, (20, 0, 30, 10))), False),  # the wrong class
        (NOTHING, False),
    ],
)
def test_boxes_ok__all_found_and_none_extra(predicted: Objects, ok: bool) -> None:
    assert boxes_ok(objects(CAT, DOG), predicted, Acceptance(box_threshold=0.5)) is ok
    assert boxes_ok(NOTHING, NOTHING, Acceptance())


@pytest.mark.parametrize(
    ("put_out", "threshold", "labels"),
    [
        ((True, False, True), None, ("cat", "cow")),  # what is put out is a claim, whatever it scores
        ((True, False, True), 0.5, ("cat", "dog")),
        ((False, False, False), None, ()),
        (None, None, ("cat", "dog", "cow")),
    ],
)
def test_claims__those_that_are_put_out_or_reach_a_threshold(
    put_out: tuple[bool, ...] | None, threshold: float | None, labels: tuple[str, ...]
) -> None:
    said = objects(CAT, DOG, ("cow", 0.4, (0, 0, 5, 5)))
    if put_out is not None:
        said = replace(said, put_out=np.array(put_out))
    found = said.claims(threshold)
    assert found.labels == labels
    assert len(found.boxes) == len(labels)
