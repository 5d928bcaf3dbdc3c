import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from sklearn import metrics

from winnow_jobs.acceptance import is_accepted
from winnow_jobs.evaluation.compare import Pair, Resampling, Struct, compare
from winnow_jobs.evaluation.true_items import TrueItem, TrueObject
from winnow_workers.evaluation import masks
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.pixels import PixelTally

LABELS = ("cat", "cow", "dog")


def classified(label: str | None, p_ok: float | None = None, score: float = 0.5) -> Struct:
    if label is None:
        return None
    return {"label": label, "top": [{"label": label, "score": score}], "score": score, "p_ok": p_ok}


def test_compare__classes_agree_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    true, said = random.choice(LABELS, 200).tolist(), random.choice(LABELS, 200).tolist()
    pairs = [Pair(str(at), TrueItem(label=t), classified(s)) for at, (t, s) in enumerate(zip(true, said, strict=True))]
    found = compare(pairs, "classify", Acceptance())["measures"]
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(true, said), abs=1e-9)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(true, said, average="macro"), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, said), abs=1e-9)


def test_compare__failed_items_are_wrong() -> None:
    pairs = [
        Pair("a", TrueItem(label="cat"), classified("cat", p_ok=0.9)),
        Pair("b", TrueItem(label="cat"), classified(None)),
    ]
    record = compare(pairs, "classify", Acceptance())
    assert record["failed"] == 1
    assert record["measures"]["accuracy"] == 0.5
    assert (record["per_item"]["key"], record["per_item"]["ok"]) == (["a", "b"], [True, False])
    assert record["measures"]["ece"] == pytest.approx(0.1)  # of the item that has a p_ok


def test_compare__texts() -> None:
    pairs = [
        Pair("a", TrueItem(text="one two"), {"full_text": "one\ntwo", "score": 0.9, "p_ok": None}),
        Pair("b", TrueItem(text="three"), {"full_text": "thee", "score": 0.4, "p_ok": None}),
    ]
    record = compare(pairs, "ocr", Acceptance())
    assert record["measures"]["character_error_rate"] == pytest.approx(1 / 12)
    assert record["measures"]["word_error_rate"] == pytest.approx(1 / 3)
    assert record["per_item"]["ok"] == [True, False]
    assert record["confidence"] == "score"


def test_compare__boxes() -> None:
    truth = TrueItem(objects=(TrueObject("cat", (0.0, 0.0, 10.0, 10.0), area=100.0),))
    right: dict[str, Any] = {"label": "cat", "box": [0.0, 0.0, 10.0, 9.0], "score": 0.9}
    extra: dict[str, Any] = {"label": "cow", "box": [20.0, 0.0, 30.0, 9.0], "score": 0.8}
    pairs = [
        Pair("a", truth, {"boxes": [right], "score": 0.9, "p_ok": None}),
        Pair("b", truth, {"boxes": [right, extra], "score": 0.9, "p_ok": None}),
        Pair("c", truth, {"boxes": [], "score": 0.9, "p_ok": None}),
    ]
    record = compare(pairs, "detect", Acceptance())
    assert record["per_item"]["ok"] == [True, False, False]
    assert record["measures"]["precision"] == pytest.approx(2 / 3)
    assert record["measures"]["recall"] == pytest.approx(2 / 3)
    assert 0.5 < record["measures"]["ap50"] < 1.0
    assert record["measures"]["d_ece"] == pytest.approx((2 * (1 - 0.9) + 0.8) / 3)


@pytest.mark.parametrize(
    ("is_output", "threshold", "ok", "noted"),
    [
        (True, None, [False, True], False),  # a wrong box at 0.4 is put out
        (False, None, [True, False], False),  # an object at 0.4 is held back
        (None, None, [True, False], True),  # nothing says: from 0.5 on
        (None, 0.4, [False, True], False),
        (False, 0.4, [False, True], False),
        (True, 0.5, [True, False], False),
    ],
)
def test_compare__boxes_that_are_put_out_are_the_claims(
    is_output: bool | None, threshold: float | None, ok: list[bool], noted: bool
) -> None:
    box = {"label": "cat", "box": [0.0, 0.0, 10.0, 10.0], "score": 0.4, "is_output": is_output}
    there = TrueItem(objects=(TrueObject("cat", (0.0, 0.0, 10.0, 10.0), area=100.0),))
    pairs = [
        Pair(key, truth, {"boxes": [box], "score": 0.4, "p_ok": None})
        for key, truth in (("nothing is there", TrueItem(objects=())), ("it is there", there))
    ]
    record = compare(pairs, "detect", Acceptance(box_threshold=threshold))
    assert record["per_item"]["ok"] == ok
    assert record["per_item"]["value"] == [float(one) for one in ok]
    assert any("2 boxes do not say whether they are put out" in note for note in record["notes"]) is noted


def test_compare__masks_and_verdicts() -> None:
    rle = {"size": [2, 2], "counts": "04"}  # all four pixels
    seen = {"label": "coin", "rle": rle}
    pairs = [
        Pair("a", TrueItem(masks={"coin": rle}), {"masks": [seen], "score": 0.9, "p_ok": None}),
        Pair("b", TrueItem(masks={}), {"masks": [seen], "score": 0.2, "p_ok": None}),
    ]
    record = compare(pairs, "segment", Acceptance())
    assert record["per_item"]["ok"] == [True, False]
    assert record["measures"]["mean_iou"] == 0.5
    scores = [0.2, 0.4, 1.3, 0.9]
    verdicts = [
        Pair(str(at), TrueItem(anomalous=at >= 2), {"score": score, "is_anomalous": score > 1, "p_ok": None})
        for at, score in enumerate(scores)
    ]
    found = compare(verdicts, "anomaly", Acceptance())["measures"]
    assert found["auroc"] == 1.0
    assert found["accuracy"] == 0.75


def test_compare__neighbours() -> None:
    made: Struct = {"score": None, "p_ok": None}
    pairs = [
        Pair("a", TrueItem(neighbours=(True, True, False, True)), made),
        Pair("b", TrueItem(neighbours=(False, True)), made),
        Pair("c", TrueItem(neighbours=(True,)), made),
        Pair("d", TrueItem(neighbours=(True, True)), None),
    ]
    record = compare(pairs, "embed", Acceptance(), resampling=Resampling(50, seed=1))
    assert record["per_item"]["ok"] == [True, False, True, False]
    assert record["measures"]["precision_at_4"] == pytest.approx((0.75 + 0.5 + 1.0 + 0.0) / 4)
    assert record["measures"]["ok_share"] == 0.5
    assert record["intervals"]["precision_at_4"]["method"] == "bootstrap, 50 draws, seed 1"
    plain = compare(pairs, "embed", Acceptance())["intervals"]["precision_at_4"]
    assert plain["method"] == "hoeffding-bentkus"
    assert plain["low"] < 0.5625 < plain["high"]


def test_compare__several_labels() -> None:
    def struct(*labels: str) -> Struct:
        return {"labels": labels, "label": None, "top": [{"label": one, "score": 0.9} for one in labels],
                "score": 0.9, "p_ok": None}  # fmt: skip

    pairs = [
        Pair("a", TrueItem(labels=("cat", "dog")), struct("cat", "dog")),
        Pair("b", TrueItem(labels=("cat",)), struct("dog")),
    ]
    record = compare(pairs, "classify", Acceptance())
    assert record["measures"]["subset_accuracy"] == 0.5
    assert record["per_item"]["ok"] == [True, False]


def test_compare__a_failed_item_gets_the_worst_score_for_it() -> None:
    pairs = [
        Pair("a", TrueItem(anomalous=True), {"score": 1.5, "is_anomalous": True, "p_ok": None}),
        Pair("b", TrueItem(anomalous=False), {"score": 0.1, "is_anomalous": False, "p_ok": None}),
        Pair("c", TrueItem(anomalous=False), None),
    ]
    record = compare(pairs, "anomaly", Acceptance())
    assert record["measures"]["auroc"] == 0.5
    assert record["confidence"] == "distance of the score from its threshold 1"
    assert record["per_item"]["confidence"][:2] == pytest.approx([0.5, 0.9])
    assert record["without_confidence"] == 1
    assert "ece" in record["measures"]  # both distances are in [0, 1]


def test_compare__heat_maps_against_masks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tally = PixelTally()
    pairs = []
    for number in range(4):
        mask = np.zeros((16, 20), bool)
        mask[2:7, 3 : 3 + number] = True  # the first one is normal
        values = (random.integers(0, 120, (16, 20)) + 100 * mask).astype(np.uint8)
        tally.add(values.astype(np.float32) * np.float32(0.01), mask)
        file = tmp_path / f"{number}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(file)
        heat = {"height": 16, "width": 20, "scale": 0.01, "values": values.tobytes()}
        if number == 3:
            heat["values"] = base64.b64encode(values.tobytes()).decode()  # as JSON has it
        struct = {"score": number, "is_anomalous": number > 1, "p_ok": None, "heat_map": heat}
        truth = TrueItem(anomalous=number > 0, anomalous_where=file if number else None)
        pairs.append(Pair(str(number), truth, struct, size=(16, 20)))
    measures = compare(pairs, "anomaly", Acceptance(), has_where=True)["measures"]
    assert measures["aupro"] == pytest.approx(tally.aupro(), abs=1e-12)
    assert measures["pixel_auroc"] == pytest.approx(tally.auroc(), abs=1e-12)
    assert "aupro" not in compare(pairs, "anomaly", Acceptance())["measures"]


def test_compare__crowds_of_masks_and_instances() -> None:
    def rle(top: int, bottom: int) -> dict[str, Any]:
        mask = np.zeros((8, 8), np.uint8, "F")
        mask[top:bottom] = 1
        return {"size": [8, 8], "counts": coco.encode(mask)["counts"].decode()}

    objects = tuple(TrueObject("cat", (0.0, 0.0, 0.0, 0.0), rle(*rows), area=16.0) for rows in ((0, 2), (4, 6)))
    truth = TrueItem(
        objects=objects, masks={"cat": masks.union([one.rle for one in objects if one.rle])}, ignored=rle(6, 8)
    )
    said = [{"label": "cat", "score": 0.9, "rle": rle(0, 2)}, {"label": "cat", "score": 0.8, "rle": rle(4, 8)}]
    record = compare([Pair("a", truth, {"masks": said, "score": 0.9, "p_ok": None})], "segment", Acceptance())
    assert record["measures"]["mean_iou"] == 1.0  # what lies in the crowd does not count
    assert record["measures"]["mask_ap50"] == pytest.approx(1.0)
    assert record["measures"]["mask_ap75"] == pytest.approx(0.505, abs=0.01)  # the second one covers half


def test_compare__drawing_again_gives_intervals() -> None:
    pairs = [
        Pair(str(at), TrueItem(text="abcd"), {"full_text": "abcd"[: at % 4 + 1], "score": 0.5, "p_ok": None})
        for at in range(40)
    ]
    record = compare(pairs, "ocr", Acceptance(), resampling=Resampling(100, seed=3))
    found = record["intervals"]["character_error_rate"]
    rate = record["measures"]["character_error_rate"]
    assert rate == pytest.approx(0.375)
    assert found["low"] < rate < found["high"]
    assert found == compare(pairs, "ocr", Acceptance(), resampling=Resampling(100, seed=3))["intervals"][
        "character_error_rate"
    ]  # fmt: skip
    items = record["per_item"]
    assert np.average(items["value"], weights=items["weight"]) == pytest.approx(rate)


def test_compare__is_what_learning_asks_too() -> None:
    rle = {"size": [2, 2], "counts": "04"}
    cases: list[tuple[str, dict[str, Any], dict[str, Any], TrueItem]] = [
        ("classify", {"label": "cat", "top": []}, {"label": "cat"}, TrueItem(label="cat")),
        ("ocr", {"full_text": "a  b"}, {"full_text": "a b"}, TrueItem(text="a b")),
        ("anomaly", {"is_anomalous": True, "score": 2.0}, {"is_anomalous": False}, TrueItem(anomalous=False)),
        ("segment", {"masks": [{"label": "cat", "rle": rle}]}, {"masks": []}, TrueItem(masks={})),
    ]
    left, right, both = ({"size": [2, 2], "counts": text} for text in ("022", "22", "04"))
    things = [{"label": "cat", "rle": one, "is_output": True} for one in (left, right)]
    weak = {"label": "dog", "rle": both, "is_output": False}
    cases.append(
        (
            "segment",
            {"masks": [*things, weak]},
            {"masks": [{"label": "cat", "rle": both}]},
            TrueItem(masks={"cat": both}),
        )
    )
    there = {"boxes": [{"label": "cat", "box": [0.0, 0.0, 9.0, 9.0]}]}
    for score, is_output, is_there in ((0.4, True, False), (0.6, False, True), (0.4, True, True), (0.6, None, False)):
        box = {"label": "cat", "box": [0.0, 0.0, 9.0, 9.0], "score": score, "is_output": is_output}
        objects = (TrueObject("cat", (0.0, 0.0, 9.0, 9.0), area=81.0),) if is_there else ()
        cases.append(("detect", {"boxes": [box]}, there if is_there else {"boxes": []}, TrueItem(objects=objects)))
    for operator, struct, value, truth in cases:
        ok = compare([Pair("a", truth, struct)], operator, Acceptance())["per_item"]["ok"][0]
        assert is_accepted(operator, struct, value) is ok, operator
