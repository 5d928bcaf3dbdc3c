import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from winnow_jobs.evaluation.json_lines import line_of
from winnow_jobs.evaluation.true_items import TruthSet, pair_keys
from winnow_jobs.evaluation.truth import read_truth
from winnow_jobs.evaluation.truth_coco import covers
from winnow_jobs.evaluation.truth_people import from_answers, from_labels
from winnow_storage.errors import UsageError
from winnow_storage.records import Label


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


def test_read_truth__parquet_says_nothing_where_it_is_null(tmp_path: Path) -> None:
    file = tmp_path / "truth.parquet"
    rows: dict[str, list[object]] = {
        "key": ["a", "b", "c", "d"],
        "operator": ["classify", "classify", "ocr", None],
        "label": [7.0, None, None, 8.0],
        "text": [None, None, "", "x"],
    }
    pq.write_table(pa.table(rows), file)
    assert {key: item.label for key, item in read_truth(file, "classify").items.items()} == {"a": "7", "d": "8"}
    assert {key: item.text for key, item in read_truth(file, "ocr").items.items()} == {"c": "", "d": "x"}
    pq.write_table(pa.table({"key": ["a", "a"], "label": ["x", "y"]}), file)
    with pytest.raises(UsageError, match=r"truth\.parquet:2: a stands on line 1 already"):
        read_truth(file, "classify")
    file.write_text("key,label")
    with pytest.raises(UsageError, match=r"truth\.parquet cannot be read"):
        read_truth(file, "classify")


def test_read_truth__unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no truth of this kind") as raised:
        read_truth(tmp_path, "detect")
    assert raised.value.hint == "for detect give .json"


def test_pair_keys__by_end_and_by_stem() -> None:
    truth = TruthSet({"a.png": None, "x/b.png": None, "c.png": None}, "here")  # type: ignore[dict-item]
    keys = ["p/a.png", "q/x/b.png", "r/c.png", "s/c.png"]
    assert pair_keys(truth, keys) == {"p/a.png": "a.png", "q/x/b.png": "x/b.png"}  # c.png could be two
    stems = TruthSet({"a": None}, "here", is_stem=True)  # type: ignore[dict-item]
    assert pair_keys(stems, ["p/a.png", "p/ba.png"]) == {"p/a.png": "a"}


def test_from_answers__says_nothing() -> None:
    answers = [{"key": "a", "value": '{"label": null}'}, {"key": "b", "value": '{"label": "cat"}'}]
    assert {key: item.label for key, item in from_answers(answers, "classify").items.items()} == {"b": "cat"}


def square(**more: object) -> dict[str, object]:
    return {"image_id": 1, "category_id": 3, "bbox": [2, 2, 4, 4], "segmentation": [[2, 2, 6, 2, 6, 6]]} | more


def coco_file(place: Path, *annotations: object) -> Path:
    images = [{"id": 1, "file_name": "a.png", "width": 10, "height": 10}]
    lines = ",\n".join(map(json.dumps, annotations))
    document = {"images": images, "categories": [{"id": 3, "name": "cat"}]}
    file = place / "coco.json"
    file.write_text(f'{json.dumps(document)[:-1]},\n"annotations": [\n{lines}]}}')
    return file


@pytest.mark.parametrize(
    ("annotation", "operator", "said"),
    [
        (square(image_id=9), "detect", "its image_id is 9, which the file does not have"),
        (square(category_id=[1]), "detect", "its category_id is [1]"),
        (square(bbox=[1, 2, 3]), "detect", "not [x, y, width, height]"),
        (square(bbox=[1, 2, -3, 4]), "detect", "negative"),
        (square(area=-1), "detect", "its area is -1"),
        (7, "detect", "it is no object"),
        (square(segmentation=[[1, 2, 3, 4]]), "segment", "neither polygons"),
        (square(segmentation={"size": [5, 10], "counts": "04"}), "segment", "its mask is of size [5, 10]"),
        (square(segmentation={"size": [10, 10], "counts": [5, 5]}), "segment", "do not add up to 10 x 10"),
        (square(segmentation={"size": [10, 10], "counts": "04"}), "segment", "does not cover 10 x 10"),
    ],
)
def test_read_truth__coco_says_line_and_entry(tmp_path: Path, annotation: object, operator: str, said: str) -> None:
    file = coco_file(tmp_path, square(), annotation)
    with pytest.raises(UsageError) as raised:
        read_truth(file, operator)
    assert raised.value.message.startswith(f"{file}:4: annotations[1]: ")
    assert said in raised.value.message


def test_line_of__of_a_list_and_of_the_file() -> None:
    assert line_of('{"a": [1],\n "b": [\n  {},\n  {"x": "]"}\n ]}', "b", 1) == 4
    assert line_of("[\n {},\n\n {}]", "", 1) == 4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_covers__what_pycocotools_writes_and_nothing_cut(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(1, 40, 2))
    mask = np.asfortranarray(random.random((height, width)) < random.random()).astype(np.uint8)
    counts = coco.encode(mask)["counts"].decode()
    assert covers(counts, height * width)
    assert not covers(counts, height * width + 1)
    assert not covers(counts + "\x01", height * width)


def test_read_truth__crowds_of_masks_do_not_count(tmp_path: Path) -> None:
    crowd = square(iscrowd=1, segmentation={"size": [10, 10], "counts": [0, 100]})
    item = read_truth(coco_file(tmp_path, square(), crowd), "segment").items["a.png"]
    assert item.masks is not None
    assert list(item.masks) == ["cat"]
    assert item.ignored == {
        "size": [10, 10],
        "counts": coco.encode(np.ones((10, 10), np.uint8, "F"))["counts"].decode(),
    }


def test_read_truth__mvtec_folders(tmp_path: Path) -> None:
    for name in ("test/good/000.png", "test/hole/000.png", "test/hole/001.png", "ground_truth/hole/000_mask.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / name)
    for place in (tmp_path, tmp_path / "test"):
        truth = read_truth(place, "anomaly")
        assert {key: item.anomalous for key, item in truth.items.items()} == {
            "good/000.png": False, "hole/000.png": True, "hole/001.png": True
        }  # fmt: skip
        assert truth.items["hole/000.png"].anomalous_where == tmp_path / "ground_truth/hole/000_mask.png"
        assert truth.notes == ("1 defects without a mask are left out of the pixels' measures",)
        assert truth.has_where


def test_read_truth__one_hot_and_json_lines(tmp_path: Path) -> None:
    hot, lines = tmp_path / "hot.csv", tmp_path / "lines.jsonl"
    hot.write_text("key,cat,dog\na.png,1,1\nb.png,0,0\n")
    lines.write_text('{"key": "a.png", "labels": ["cat", "dog"]}\n\n{"key": "b.png", "labels": []}\n')
    for file in (hot, lines):
        assert {key: item.labels for key, item in read_truth(file, "classify").items.items()} == {
            "a.png": ("cat", "dog"), "b.png": ()
        }  # fmt: skip
    hot.write_text("key,cat\na.png,perhaps\n")
    with pytest.raises(UsageError, match=r"hot.csv:2: the column cat is 'perhaps'"):
        read_truth(hot, "classify")
    lines.write_text('{"key": "a.png", "text": "x"}\n{"key": \n')
    with pytest.raises(UsageError, match=r"lines.jsonl:2: no JSON"):
        read_truth(lines, "ocr")


@pytest.mark.parametrize(
    ("text", "said"),
    [("key,text\n", "no rows"), ("key,text\na,b,c\n", ":2: not the 2 values"), ('key,text\na,"b\n', "unexpected end")],
)
def test_read_truth__tables_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_truth(file, "ocr")
    file.write_bytes(b"key,text\na,\xff\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_truth(file, "ocr")


def test_read_truth__an_export_of_label_studio(tmp_path: Path) -> None:
    def answer(label: str, **more: object) -> dict[str, object]:
        choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}
        return {"result": [choice], "was_cancelled": False} | more

    tasks = [
        {"id": 1, "data": {"key": "x/a.png"}, "annotations": [answer("cat"), answer("cat"), answer("dog")]},
        {"id": 2, "data": {"image": "/data/local-files/?d=x/b.png"}, "annotations": [answer("cat"), answer("dog")]},
        {"id": 3, "data": {"image": "s3://bucket/c.png"}, "annotations": [answer("cat", was_cancelled=True)]},
    ]
    file = tmp_path / "export.json"
    file.write_text(json.dumps(tasks))
    found = {key: item.label for key, item in read_truth(file, "classify").items.items()}
    assert found == {"x/a.png": "cat", "b.png": "dog"}  # the newest of two that differ
    file.write_text(json.dumps([*tasks, {"id": 4}], indent=1))
    with pytest.raises(UsageError, match=r"export.json:\d+: task 3: it has no data"):
        read_truth(file, "classify")


def label(key: str, said: str | None, *, annotation: str, at: int, **more: object) -> Label:
    common = dict.fromkeys(("job", "item_id", "uri", "run_id", "server"), "x")
    own = {
        "label_id": f"{annotation}-{at}", "event": "created", "dedupe_key": key, "task": "kind", "operator": "classify",
        "version": "v1", "key": key, "purpose": "audit", "annotation_id": annotation, "project_id": 1, "ls_task_id": 1,
        "annotator": None, "created_at": None, "updated_at": datetime(2026, 1, 1, 0, at, tzinfo=UTC),
        "was_cancelled": False, "lead_time_s": None, "value": json.dumps({"label": said}), "raw": None,
        "config_hash": None, "model": None, "shown": None,
    }  # fmt: skip
    return Label(**(common | own | more))  # type: ignore[arg-type]


def test_from_labels__what_people_say_now() -> None:
    events = [
        label("a", "cat", annotation="1", at=1),
        label("a", "dog", annotation="1", at=2, event="updated"),
        label("b", "cat", annotation="2", at=1),
        label("b", "dog", annotation="3", at=2),
        label("b", "dog", annotation="3", at=3, event="deleted", value=None),
        label("c", "cat", annotation="4", at=1, was_cancelled=True),
        label("d", "cat", annotation="5", at=1, purpose="review"),
        label("e", "cat", annotation="6", at=1),
        label("e", "dog", annotation="7", at=2, version="v2"),
        label("f", "cat", annotation="8", at=1, task="other"),
    ]
    truth = from_labels(events, "kind", "classify", ())
    assert {key: item.label for key, item in truth.items.items()} == {"a": "dog", "b": "cat", "d": "cat", "e": "dog"}
    assert truth.versions["e"] == "v2"
    assert ["skipped" in truth.notes[0], "sent for being unsure" in truth.notes[1]] == [True, True]
    assert "d" not in from_labels(events, "kind", "classify", {"audit"}).items
    with pytest.raises(UsageError, match="nobody has answered anything about kind for calibrate"):
        from_labels(events, "kind", "classify", {"calibrate"})
