import json
import math

import numpy as np
import pyarrow as pa
import pytest
from pycocotools import mask as coco

from winnow_jobs.quality import QualityMeasure, Target, measure
from winnow_storage.errors import UsageError


def rle(mask: np.ndarray) -> dict[str, object]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def box(left: int, right: int) -> dict[str, object]:
    mask = np.zeros((10, 20), bool)
    mask[:, left:right] = True
    return rle(mask)


def truth(**columns: list[object]) -> pa.Table:
    return pa.table({"key": [f"{n}.png" for n in range(len(next(iter(columns.values()))))], **columns})


def results(task: str, structs: list[dict[str, object] | None]) -> pa.Table:
    keys = [f"{n}.png" for n in range(len(structs))]
    outcomes = ["unreadable" if struct is None else "done" for struct in structs]
    rows = [None if struct is None else {"error": None, **struct} for struct in structs]
    return pa.table({"key": keys, "outcome": outcomes, task: rows})


def only(measures: list[QualityMeasure]) -> QualityMeasure:
    assert len(measures) == 1
    return measures[0]


def test_measure__accuracy_over_the_items_of_the_operator() -> None:
    known = truth(operator=["classify", "classify", "classify", "ocr"], label=["1", "2", "3", None])
    got = only(
        measure(known, results("kind", [{"label": "1"}, {"label": "7"}, None, {"label": "1"}]), {"kind": "classify"})
    )
    # the third could not be read and counts as wrong; the truth of the fourth is about another operator
    assert (got.task, got.name, got.value, got.n) == ("kind", "accuracy", 1 / 3, 3)


def test_measure__character_error_squeezes_space_and_leaves_out_spoiled_items() -> None:
    known = truth(operator=["ocr"] * 3, text=["ab cd", "xyz", "spoiled"], clean=[True, None, False])
    structs = [{"full_text": "ab\n  cx"}, {"full_text": "xyz"}, {"full_text": ""}]
    got = only(measure(known, results("text", structs), {"text": "ocr"}))
    assert (got.value, got.n) == (1 / 8, 2)


def test_measure__mean_iou_counts_missed_and_invented_classes() -> None:
    masks = json.dumps({"coin": box(0, 10), "disc": box(12, 14)})
    known = truth(operator=["segment"], masks=[masks])
    seen = [{"label": "coin", "rle": box(5, 15)}, {"label": "star", "rle": box(0, 2)}]
    got = only(measure(known, results("parts", [{"masks": seen}]), {"parts": "segment"}))
    assert got.value == pytest.approx((5 / 15 + 0 + 0) / 3)


def test_measure__auroc_by_hand_and_without_one_kind() -> None:
    known = truth(operator=["anomaly"] * 4, anomalous=[False, True, False, True])
    structs = [{"score": score} for score in (0.1, 0.4, 0.5, 0.9)]
    got = only(measure(known, results("defect", structs), {"defect": "anomaly"}))
    assert got.value == 0.75
    alone = truth(operator=["anomaly"], anomalous=[True])
    assert math.isnan(only(measure(alone, results("defect", structs[:1]), {"defect": "anomaly"})).value)


def test_measure__outcomes_and_targets() -> None:
    known = truth(expected_outcome=["done", "unreadable", "missing"])
    got = only(
        measure(
            known,
            results("kind", [{"label": "1"}, None, None]),
            {"kind": "classify"},
            targets={"outcomes as expected": Target(at_least=0.6)},
        )
    )
    assert got.value == pytest.approx(2 / 3)
    assert got.record()["target"] == {"text": "at least 0.6", "met": True}
    assert not Target(at_most=0.02).met(0.03)
    assert not Target(at_least=0.5).met(float("nan"))
    assert str(Target(at_most=0.02)) == "at most 0.02"


def test_measure__a_truth_without_keys_is_refused() -> None:
    with pytest.raises(UsageError, match="no column 'key'"):
        measure(pa.table({"label": ["1"]}), results("kind", []), {"kind": "classify"})
