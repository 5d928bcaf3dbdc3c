from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from winnow_jobs.evaluation.compare import Pair, Struct, compare
from winnow_jobs.evaluation.truth import TrueItem, TrueObject
from winnow_workers.evaluation.acceptance import Acceptance

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
    assert record["per_item"] == [("a", True), ("b", False)]
    assert record["measures"]["ece"] == pytest.approx(0.1)  # of the item that has a p_ok


def test_compare__texts() -> None:
    pairs = [
        Pair("a", TrueItem(text="one two"), {"full_text": "one\ntwo", "score": 0.9, "p_ok": None}),
        Pair("b", TrueItem(text="three"), {"full_text": "thee", "score": 0.4, "p_ok": None}),
    ]
    record = compare(pairs, "ocr", Acceptance())
    assert record["measures"]["character_error_rate"] == pytest.approx(1 / 12)
    assert record["measures"]["word_error_rate"] == pytest.approx(1 / 3)
    assert [ok for _, ok in record["per_item"]] == [True, False]
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
    assert [ok for _, ok in record["per_item"]] == [True, False, False]
    assert record["measures"]["precision"] == pytest.approx(2 / 3)
    assert record["measures"]["recall"] == pytest.approx(2 / 3)
    assert 0.5 < record["measures"]["ap50"] < 1.0


def test_compare__masks_and_verdicts() -> None:
    rle = {"size": [2, 2], "counts": "04"}  # all four pixels
    masks = {"label": "coin", "rle": rle}
    pairs = [
        Pair("a", TrueItem(masks={"coin": rle}), {"masks": [masks], "score": 0.9, "p_ok": None}),
        Pair("b", TrueItem(masks={}), {"masks": [masks], "score": 0.2, "p_ok": None}),
    ]
    record = compare(pairs, "segment", Acceptance())
    assert [ok for _, ok in record["per_item"]] == [True, False]
    assert record["measures"]["mean_iou"] == 0.5
    scores = [0.2, 0.4, 1.3, 0.9]
    verdicts = [
        Pair(str(at), TrueItem(anomalous=at >= 2), {"score": score, "is_anomalous": score > 1, "p_ok": None})
        for at, score in enumerate(scores)
    ]
    found = compare(verdicts, "anomaly", Acceptance())["measures"]
    assert found["auroc"] == 1.0
    assert found["accuracy"] == 0.75


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
    assert [ok for _, ok in record["per_item"]] == [True, False]
