"""Do boxes overlap as an independent implementation says, and does the image's score say what it should?"""

import numpy as np
import pytest
import torch
from torchvision import ops

from winnow_workers.boxes import areas, class_wise_nms, image_score, iou_matrix


def some_boxes(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.random((count, 2)) * 50
    return np.concatenate([corner, corner + rng.random((count, 2)) * 30 + 1], axis=1).astype(np.float32)


def test_iou_matrix__as_torchvision() -> None:
    one, other = some_boxes(20, 0), some_boxes(30, 1)
    assert np.allclose(iou_matrix(one, other), ops.box_iou(torch.from_numpy(one), torch.from_numpy(other)), atol=1e-6)
    assert np.allclose(areas(one), ops.box_area(torch.from_numpy(one)))


def test_class_wise_nms__as_torchvision() -> None:
    rng = np.random.default_rng(2)
    boxes, scores = some_boxes(200, 3), rng.random(200).astype(np.float32)
    classes = rng.integers(0, 3, 200)
    kept = ops.batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(classes), 0.4)
    assert class_wise_nms(boxes, scores, classes, max_iou=0.4).tolist() == kept.tolist()


def test_class_wise_nms__nothing() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert len(class_wise_nms(empty, np.zeros(0, np.float32), np.zeros(0, np.int64), max_iou=0.5)) == 0


def test_image_score__an_empty_image_has_one_minus_its_highest() -> None:
    assert image_score(np.array([0.4, 0.1], np.float32), threshold=0.5, floor=0.05) == pytest.approx(0.6)
    assert image_score(np.zeros(0, np.float32), threshold=0.5, floor=0.05) == pytest.approx(0.95)


def test_image_score__one_unsure_box_makes_the_image_unsure() -> None:
    sure = np.array([0.99, 0.98, 0.97], np.float32)
    assert image_score(sure, threshold=0.5, floor=0.05) > 0.95
    assert image_score(np.append(sure, np.float32(0.55)), threshold=0.5, floor=0.05) < 0.62
    assert image_score(np.append(sure, np.float32(0.45)), threshold=0.5, floor=0.05) < 0.62  # nearly put out
