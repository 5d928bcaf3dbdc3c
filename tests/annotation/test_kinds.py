"""Tests of predictions as Label Studio results and back: masks bit for bit, coordinates within 0.01 px."""

import json
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from tests.annotation.examples import HEIGHT, LABELS, OPERATORS, PREDICTIONS, WIDTH, disc, item
from winnow_annotation.kinds import masks
from winnow_annotation.kinds.catalogue import kind_of
from winnow_annotation.kinds.geometry import Frame, polygon_px
from winnow_annotation.label_set import LabelSet
from winnow_annotation.labelling_config import config_hash, labelling_config
from winnow_annotation.tasks import review_task, value_of
from winnow_storage.errors import SpecError

FRAME = Frame(WIDTH, HEIGHT)


def there_and_back(task: str) -> Any:
    results = kind_of(OPERATORS[task]).results(PREDICTIONS[task], FRAME)
    return value_of(OPERATORS[task], json.loads(json.dumps(results)))


@pytest.mark.parametrize("task", list(OPERATORS))
def test_review_task__fits_its_interface_by_the_sdks_own_check(task: str) -> None:
    config = labelling_config(OPERATORS[task], LABELS.get(task, ()))
    interface = LabelInterface(config)
    interface.validate()
    made = review_task(item(task, "s3://bucket/a.jpg"), image="s3://bucket/a.jpg")
    for prediction in made.get("predictions", ()):
        assert interface.validate_prediction(prediction, return_errors=True) == []


def test_classify__there_and_back() -> None:
    assert there_and_back("kind") == {"label": "dog & cow"}
    assert value_of("classify", []) == {"label": None}


def test_segment__there_and_back_bit_for_bit() -> None:
    value = there_and_back("parts")
    assert [(mask["label"], mask["rle"]) for mask in value["masks"]] == [
        (mask["label"], mask["rle"]) for mask in PREDICTIONS["parts"]["masks"]
    ]
    assert value["masks"][0]["area_px"] == int(disc(120, 100, 40).sum())


def test_segment__answers_of_one_label_are_united_and_an_empty_mask_is_not_shown() -> None:
    two = {"masks": [_mask(disc(100, 100, 20)), _mask(disc(110, 100, 20)), _mask(np.zeros((HEIGHT, WIDTH), bool))]}
    results = kind_of("segment").results(two, None)
    assert len(results) == 2
    (mask,) = value_of("segment", results)["masks"]
    assert np.array_equal(masks.from_coco(mask["rle"])[0], disc(100, 100, 20) | disc(110, 100, 20))


def test_segment__things_of_one_label_come_back_one_by_one_and_weak_ones_are_not_shown() -> None:
    shown = [_mask(disc(100, 100, 20)), _mask(disc(110, 100, 20))]
    weak = {**_mask(disc(300, 200, 20)), "is_output": False}
    value = value_of("segment", kind_of("segment").results({"masks": [*shown, weak]}, None))
    assert [one["rle"] for one in value["instances"]] == [one["rle"] for one in shown]


def test_detect__there_and_back_without_what_was_only_nearly_found() -> None:
    value = there_and_back("things")
    assert [box["label"] for box in value["boxes"]] == ["coin", "rim"]
    for box, wanted in zip(value["boxes"], PREDICTIONS["things"]["boxes"], strict=False):
        assert box["box"] == pytest.approx(wanted["box"], abs=0.01)


def test_detect__every_region_has_its_score() -> None:
    results = kind_of("detect").results(PREDICTIONS["things"], FRAME)
    assert [(result["from_name"], result["score"]) for result in results] == [
        ("box", 0.9),
        ("box", 0.6),
        ("candidate", 0.2),
    ]


def test_detect__a_candidate_counts_once_it_is_marked_as_real() -> None:
    results = list(kind_of("detect").results(PREDICTIONS["things"], FRAME))
    marked = {**results[2], "from_name": "real", "type": "choices", "value": {"choices": ["real"]}}
    value = value_of("detect", [*results, marked])
    assert [box["label"] for box in value["boxes"]] == ["coin", "rim", "coin"]
    assert value["boxes"][2]["box"] == pytest.approx([200, 100, 300, 120], abs=0.01)


def test_detect__only_the_strongest_candidates_are_shown() -> None:
    weak = [{"label": "coin", "box": [0, 0, 9, 9], "score": 0.1 + n / 1000, "is_output": False} for n in range(90)]
    results = kind_of("detect").results({"boxes": weak}, FRAME)
    assert len(results) == 30
    assert results[0]["score"] == pytest.approx(0.189)


def test_ocr__there_and_back_in_reading_order() -> None:
    value = there_and_back("text")
    assert value["full_text"] == "first\nsecond"
    expected = sorted(PREDICTIONS["text"]["lines"], key=lambda line: line["order"])
    for line, wanted in zip(value["lines"], expected, strict=True):
        assert line["text"] == wanted["text"]
        assert line["polygon"] == pytest.approx(wanted["polygon"], abs=0.01)
        assert line["order"] == wanted["order"]


def test_ocr__a_rectangle_drawn_by_a_person_and_turned() -> None:
    shape = {"x": 50.0, "y": 50.0, "width": 10.0, "height": 10.0, "rotation": 90}
    common = {"id": "drawn", "to_name": "image", "original_width": WIDTH, "original_height": HEIGHT}
    answer = [
        {**common, "from_name": "box", "type": "rectangle", "value": shape},
        {**common, "from_name": "transcription", "type": "textarea", "value": {**shape, "text": ["turned"]}},
    ]
    (line,) = value_of("ocr", answer)["lines"]
    # 40 x 30 px at (200, 150), turned by a quarter around that corner
    assert line["polygon"] == pytest.approx([200, 150, 200, 190, 170, 190, 170, 150], abs=0.01)
    assert line["text"] == "turned"


def test_anomaly__there_and_back() -> None:
    value = there_and_back("defect")
    assert value["is_anomalous"] is True
    (region,) = value["regions"]
    assert region["box"] == pytest.approx(PREDICTIONS["defect"]["regions"][0]["box"], abs=0.01)
    assert value_of("anomaly", [])["is_anomalous"] is None


def test_anomaly__the_heat_region_lies_where_the_heat_is_and_cannot_be_edited() -> None:
    results = kind_of("anomaly").results(PREDICTIONS["defect"], FRAME)
    (heat,) = (result for result in results if result["id"] == "heat")
    mask = masks.union_per_label([heat])["heat"]
    assert mask[125, 125]
    rows, columns = np.nonzero(mask)
    assert 75 <= columns.min() < columns.max() <= 175
    assert 75 <= rows.min() < rows.max() <= 175
    assert heat["readonly"] is True


def test_anomaly__a_cool_map_shows_its_hottest_place_and_an_empty_one_nothing() -> None:
    cool = {**PREDICTIONS["defect"], "heat_map": {**PREDICTIONS["defect"]["heat_map"], "scale": 0.001}}
    assert "heat" in {result["id"] for result in kind_of("anomaly").results(cool, FRAME)}
    cold = {**cool, "heat_map": {**cool["heat_map"], "scale": 0.0}}
    assert "heat" not in {result["id"] for result in kind_of("anomaly").results(cold, FRAME)}


def test_polygon_px__nothing_of_a_choice() -> None:
    assert polygon_px({"value": {"choices": ["a"]}, "original_width": 4, "original_height": 3}) is None


def test_kind_of__an_operator_without_an_interface() -> None:
    with pytest.raises(SpecError, match="'mine:Own' cannot be reviewed"):
        kind_of("mine:Own")


@pytest.mark.parametrize("operator", ["classify", "several", "detect", "segment"])
def test_labelling_config__many_labels_scroll_and_can_be_searched(operator: str) -> None:
    for count, is_long in ((24, False), (25, True)):
        labels = LabelSet(tuple(f"label {number}" for number in range(count)), several=operator == "several")
        config = labelling_config("classify" if operator == "several" else operator, labels)
        LabelInterface(config).validate()
        assert ("<Filter" in config, "overflow-y" in config) == (is_long, is_long)


def test_labelling_config__escapes_labels_and_needs_some() -> None:
    assert 'value="dog &amp; cow"' in labelling_config("classify", LABELS["kind"])
    assert config_hash(labelling_config("ocr")) == config_hash(labelling_config("ocr"))
    with pytest.raises(SpecError, match="without labels"):
        labelling_config("segment")


def _mask(mask: Any) -> dict[str, Any]:
    return {"label": "coin", "score": None, "rle": masks.to_coco(mask)}


def test_classify__a_set_there_and_back_and_an_empty_one_is_an_answer() -> None:
    config = labelling_config("classify", LabelSet(("cat", "dog"), several=True))
    for labels in (["dog", "cat"], []):
        results = kind_of("classify").results({"labels": labels, "top": []}, None)
        assert LabelInterface(config).validate_prediction({"result": results}, return_errors=True) == []
        assert value_of("classify", json.loads(json.dumps(results))) == {"labels": sorted(labels)}


def test_classify__a_node_of_a_tree_there_and_back() -> None:
    parents = {"animal": None, "cat & co": "animal", "lion": "cat & co", "car": None}
    config = labelling_config("classify", LabelSet(tuple(parents), parents=parents))
    interface = LabelInterface(config)
    interface.validate()
    assert config.count("<Choice") == 4
    path = [{"label": "animal", "score": 0.9}, {"label": "cat & co", "score": 0.8}]
    results = kind_of("classify").results({"label": "cat & co", "path": path}, None)
    assert interface.validate_prediction({"result": results}, return_errors=True) == []
    assert value_of("classify", json.loads(json.dumps(results))) == {
        "label": "cat & co",
        "path": ["animal", "cat & co"],
    }
    assert kind_of("classify").results({"label": None, "path": []}, None) == []


def test_tree_of__labels_that_hang_in_the_air() -> None:
    with pytest.raises(SpecError, match="'a' stands below no label at the top"):
        labelling_config("classify", LabelSet(("a", "b"), parents={"a": "b", "b": "a"}))


def test_embed__an_answer_names_the_neighbours_that_were_shown() -> None:
    shown = [{"item_id": f"id{at}", "key": f"{at}.jpg", "version": "v", "score": 1.0 - at / 10} for at in range(3)]
    chosen = [{"same": True}, {"same": None}, {"same": False}]
    results = kind_of("embed").results({"neighbours": chosen}, None)
    assert LabelInterface(labelling_config("embed")).validate_prediction({"result": results}, return_errors=True) == []
    answer = [
        *json.loads(json.dumps(results)),
        {"from_name": "same_2", "type": "choices", "value": {"choices": ["cannot say"]}},
        {"from_name": "same_4", "type": "choices", "value": {"choices": ["different"]}},  # of a field without a picture
    ]
    value = value_of("embed", answer, neighbours=shown)
    assert value == {"neighbours": [{**one, **said} for one, said in zip(shown, chosen, strict=True)]}
    none = value_of("embed", [], neighbours=shown)
    assert [one["same"] for one in none["neighbours"]] == [None, None, None]


@pytest.mark.parametrize(("control", "word"), [("same_1", "alike"), ("same_5", "same"), ("label", "same")])
def test_embed__an_answer_of_another_interface(control: str, word: str) -> None:
    answer = [{"from_name": control, "type": "choices", "value": {"choices": [word]}}]
    with pytest.raises(ValueError, match="not a result of the interface for embed"):
        value_of("embed", answer, neighbours=[])
