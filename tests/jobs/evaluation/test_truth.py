import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from winnow_jobs.evaluation.truth import TruthSet, from_answers, pair_keys, read_truth
from winnow_storage.errors import UsageError


def test_read_truth__classes_one_and_several(tmp_path: Path) -> None:
    one, several = tmp_path / "one.csv", tmp_path / "several.csv"
    one.write_text("key,label\na.png,cat\nb.png,dog\n")
    several.write_text("key,labels\na.png,cat|dog\nb.png,\n")
    assert read_truth(one, "classify").items["b.png"].label == "dog"
    assert read_truth(several, "classify").items["a.png"].labels == ("cat", "dog")
    assert read_truth(several, "classify").items["b.png"].labels == ()


@pytest.mark.parametrize(
    ("text", "operator", "said"),
    [
        ("name,label\na,b\n", "classify", "truth.csv:1: the columns are name, label"),
        ("key,label\na.png,\n", "classify", "truth.csv:2: the label is empty"),
        ("key,label\na.png,x\na.png,y\n", "classify", "truth.csv:3: a.png stands on line 2 already"),
        ("key,anomalous\na.png,perhaps\n", "anomaly", "truth.csv:2: 'perhaps' is no verdict"),
    ],
)
def test_read_truth__bad_lines(tmp_path: Path, text: str, operator: str, said: str) -> None:
    file = tmp_path / "truth.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"truth\.csv") as raised:
        read_truth(file, operator)
    assert said in str(raised.value)


def test_read_truth__coco_boxes_and_masks(tmp_path: Path) -> None:
    file = tmp_path / "coco.json"
    square = [[2, 2, 6, 2, 6, 6, 2, 6]]
    annotation = {"image_id": 1, "category_id": 3, "bbox": [2, 2, 4, 4], "area": 16, "segmentation": square}
    crowd = {
        "image_id": 1, "category_id": 3, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 1,
        "segmentation": {"size": [10, 10], "counts": [0, 100]},
    }  # fmt: skip
    images = [{"id": 1, "file_name": "a.png", "width": 10, "height": 10}, {"id": 2, "file_name": "b.png"}]
    document = {"images": images, "categories": [{"id": 3, "name": "cat"}], "annotations": [annotation, crowd]}
    file.write_text(json.dumps(document))
    truth = read_truth(file, "segment")
    objects = truth.items["a.png"].objects
    assert objects is not None
    assert [(one.label, one.box, one.crowd) for one in objects] == [
        ("cat", (2.0, 2.0, 6.0, 6.0), False), ("cat", (0.0, 0.0, 10.0, 10.0), True)
    ]  # fmt: skip
    masks = truth.items["a.png"].masks
    assert masks is not None
    assert list(masks) == ["cat"]
    assert truth.items["b.png"].objects == ()


def test_read_truth__coco_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "coco.json"
    file.write_text("[]")
    with pytest.raises(UsageError, match="is not COCO JSON"):
        read_truth(file, "detect")


def test_read_truth__index_masks(tmp_path: Path) -> None:
    values = np.zeros((4, 6), np.uint8)
    values[1:3, 2:4] = 2
    Image.fromarray(values).save(tmp_path / "a.png")
    truth = read_truth(tmp_path, "segment", classes=["coin", "leaf"])
    masks = truth.items["a"].masks
    assert masks is not None
    assert list(masks) == ["leaf"]
    with pytest.raises(UsageError, match="highest value 2"):
        read_truth(tmp_path, "segment", classes=["coin"])
    with pytest.raises(UsageError, match="index masks say numbers"):
        read_truth(tmp_path, "segment")


def test_read_truth__unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no truth of this kind") as raised:
        read_truth(tmp_path, "anomaly")
    assert ".csv" in str(raised.value.hint)


def test_pair_keys__by_end_and_by_stem() -> None:
    truth = TruthSet({"a.png": None, "x/b.png": None, "c.png": None}, "here")  # type: ignore[dict-item]
    keys = ["p/a.png", "q/x/b.png", "r/c.png", "s/c.png"]
    assert pair_keys(truth, keys) == {"p/a.png": "a.png", "q/x/b.png": "x/b.png"}  # c.png could be two
    stems = TruthSet({"a": None}, "here", is_stem=True)  # type: ignore[dict-item]
    assert pair_keys(stems, ["p/a.png", "p/ba.png"]) == {"p/a.png": "a"}


def test_from_answers__says_nothing() -> None:
    answers = [{"key": "a", "value": '{"label": null}'}, {"key": "b", "value": '{"label": "cat"}'}]
    assert {key: item.label for key, item in from_answers(answers, "classify").items.items()} == {"b": "cat"}
