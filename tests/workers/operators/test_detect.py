"""Does detect say what the library says of each image alone, and keep what is nearly found?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workers.operators import sharp
from tests.workers.operators.making import flat, opened, view
from winnow_storage.errors import ModelError
from winnow_workers.detectors.found import Found
from winnow_workers.operators.detect import DetectParams

FAMILIES = [
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
]


def open_rcnn(**params: object) -> Any:
    sides = {"min_side_px": 64, "max_side_px": 96}
    return opened(
        "detect",
        "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn",
        weights={"random": 1},
        **({"labels": ["a", "b"]} | sides | params),
    )


def same_boxes(ours: list[dict[str, Any]], labels: list[str], boxes: np.ndarray, scores: np.ndarray) -> None:
    """Every one of the library's has its own among ours, and there are no others."""
    assert len(ours) == len(scores)
    left = list(ours)
    for label, box, score in zip(labels, boxes, scores, strict=True):
        near = [
            one
            for one in left
            if one["label"] == label
            and abs(one["score"] - score) <= 1e-4
            and np.abs(np.array(one["box"]) - box).max() <= 0.5
        ]
        assert near, (label, box, score)
        left.remove(near[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_detect__as_the_library_on_each_image_alone(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    library = sharp.torchvision_detector(name)
    file = sharp.model_file(tmp_path, name, library)
    heads: Any = getattr(library, "roi_heads", library)
    floor = 0.7 if name.startswith("ssd") else 0.1  # SSD's suppression takes long over thousands of random boxes
    pictures = sharp.pictures()[: 2 if name == "ssd300_vgg16" else 3]
    heads.score_thresh, heads.detections_per_img = floor, 5000
    operator = opened("detect", file, max_boxes=5000, floor=floor, threshold=0.8)
    predictions = operator.run(pictures)
    assert sum(len(one.fields["boxes"]) for one in predictions) > 10
    for picture, prediction in zip(pictures, predictions, strict=True):
        with torch.no_grad():
            (said,) = library([sharp.as_input(picture.pixels)])
        labels = ["__background__", "a", "b", "c"]
        same_boxes(
            prediction.fields["boxes"],
            [labels[index] for index in said["labels"].tolist()],
            said["boxes"].numpy(),
            said["scores"].numpy(),
        )


def test_detect__boxes_lie_in_the_full_image_however_small_it_was_decoded() -> None:
    operator = open_rcnn()
    pixels = sharp.pictures()[0].pixels
    small = operator.run([view(pixels)])[0].fields["boxes"]
    large = operator.run([view(pixels, width_px=260, height_px=180)])[0].fields["boxes"]
    assert small
    assert np.allclose(np.array([one["box"] for one in small]) * 2, [one["box"] for one in large], atol=1e-3)


def test_detect__what_is_cut_is_counted_and_the_rest_are_the_strongest() -> None:
    everything = open_rcnn(max_boxes=5000).run(sharp.pictures()[:1])[0].fields
    few = open_rcnn(max_boxes=3).run(sharp.pictures()[:1])[0].fields
    assert everything["cut"] == 0
    assert few["cut"] == len(everything["boxes"]) - 3 > 0
    assert few["boxes"] == everything["boxes"][:3]
    scores = [one["score"] for one in everything["boxes"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0.05


def test_detect__the_threshold_marks_boxes_and_the_score_follows() -> None:
    operator = open_rcnn(threshold=0.5, floor=0.05)
    box = [[0, 0, 10, 10]] * 3
    found = Found(np.array(box, np.float32), np.array([1, 1, 2]), np.array([0.9, 0.5, 0.3], np.float32))
    prediction = operator._predict(found)
    assert [one["is_output"] for one in prediction.fields["boxes"]] == [True, True, False]
    values = np.array([0.9, 0.5, 0.7])  # of the weak one: that it is none
    weights = np.exp((1 - values) / 0.1)
    assert prediction.score == pytest.approx((values * weights).sum() / weights.sum(), abs=1e-6)
    weak = operator._predict(found.take(np.array([2])))
    assert weak.score == pytest.approx(0.7, abs=1e-6)
    assert operator._predict(found.take(np.zeros(0, np.int64))).score == pytest.approx(0.95)


def test_detect__a_thin_strip_is_searched_as_well() -> None:
    (prediction,) = open_rcnn().run([view(flat((9, 9, 9), width=3000, height=1))])
    for one in prediction.fields["boxes"]:
        assert 0 <= one["box"][1] <= one["box"][3] <= 1
        assert 0 <= one["box"][0] <= one["box"][2] <= 3000


def test_detect__labels_without_the_background_get_it() -> None:
    operator = open_rcnn(labels=["cat", "dog"], floor=0.01)
    assert operator._detector.labels == ("__background__", "cat", "dog")
    found = {one["label"] for one in operator.run(sharp.pictures())[0].fields["boxes"]}
    assert found <= {"cat", "dog"}


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("torchvision/resnet18", {}, "is no detector"),
        ("torchvision/ssdlite320_mobilenet_v3_large", {"min_side_px": 64}, "has its own input"),
        ("torchvision/fcos_resnet50_fpn", {"input": {"height_px": 64, "width_px": 64}}, "has its own input"),
    ],
)
def test_detect__models_and_keys_that_do_not_fit(name: str, params: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said) as raised:
        opened("detect", name, weights={"random": 1}, **params)
    assert raised.value.hint


def test_detect__a_floor_above_the_threshold() -> None:
    with pytest.raises(ValueError, match=r"floor 0\.7 is above threshold 0\.5"):
        DetectParams(floor=0.7)
