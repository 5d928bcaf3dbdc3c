"""Does the record of `winnow evaluate` have the numbers that others compute? On drawn cases, within 1e-6, mAP 1e-4."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from sklearn import metrics

from tests.jobs.evaluation.test_rows import evaluated
from tests.workers.evaluation.test_coco_map import by_pycocotools, matches_of_pycocotools, random_pairs
from tests.workers.evaluation.test_pixels import direct_aupro
from winnow_jobs.evaluation.compare import Pair, compare
from winnow_jobs.evaluation.true_items import TrueItem, TrueObject
from winnow_workers.evaluation.acceptance import Acceptance
from winnow_workers.evaluation.boxes import Objects

SEEDS = st.integers(0, 2**31)
CLASSES = ("coin", "leaf")


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_classify__top_k_as_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = [f"kind {number}" for number in range(int(random.integers(6, 9)))]
    n = int(random.integers(1, 60))
    scores = random.random((n, len(labels)))
    true = random.integers(0, len(labels), n)
    pairs = []
    for number, (row, place) in enumerate(zip(scores, true, strict=True)):
        top = [{"label": labels[at], "score": float(row[at])} for at in np.argsort(-row)[:5]]
        pairs.append(Pair(str(number), TrueItem(label=labels[place]), {**top[0], "top": top, "p_ok": None}))
    found = compare(pairs, "classify", Acceptance())["measures"]
    for k in (1, 3, 5):
        theirs = metrics.top_k_accuracy_score(true, scores, k=k, labels=range(len(labels)))
        assert found["accuracy" if k == 1 else f"top_{k}_accuracy"] == pytest.approx(theirs, abs=1e-6)


def as_pair(number: int, true: Objects, said: Objects) -> Pair:
    assert true.areas is not None
    assert said.scores is not None
    objects = tuple(
        TrueObject(label, tuple(box), area=area, crowd=crowd)
        for label, box, area, crowd in zip(
            true.labels, true.boxes.tolist(), true.areas.tolist(), true.is_crowd.tolist(), strict=True
        )
    )
    boxes = [
        {"label": label, "box": box, "score": score}
        for label, box, score in zip(said.labels, said.boxes.tolist(), said.scores.tolist(), strict=True)
    ]
    return Pair(str(number), TrueItem(objects=objects), {"boxes": boxes, "score": 0.5, "p_ok": None})


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 0.15, 0.3]), st.sampled_from([0.5, 0.75, 0.9]))
def test_detect__precision_recall_and_f1_as_pycocotools_matches(seed: int, threshold: float, iou: float) -> None:
    pairs = random_pairs(seed)
    assume(any(len(true) for true, _ in pairs))
    wanted = Acceptance(box_threshold=threshold, box_iou=iou)
    found = compare([as_pair(at, *pair) for at, pair in enumerate(pairs)], "detect", wanted)["measures"]
    hits, extra, missed = matches_of_pycocotools([(true, said.above(threshold)) for true, said in pairs], iou)
    assert found["precision"] == pytest.approx(hits / (hits + extra) if hits + extra else 0.0, abs=1e-6)
    assert found["recall"] == pytest.approx(hits / (hits + missed) if hits + missed else 0.0, abs=1e-6)
    total = 2 * hits + extra + missed
    assert found["f1"] == pytest.approx(2 * hits / total if total else 0.0, abs=1e-6)
    assert found["map"] == pytest.approx(by_pycocotools(pairs, "bbox")["map"], abs=1e-4, nan_ok=True)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_anomaly__aupro_as_its_definition(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("masks")
    random = np.random.default_rng(seed)
    masks, maps, pairs = [], [], []
    for number in range(4):
        mask = np.zeros((12, 15), bool)
        for _ in range(int(random.integers(0, 4)) if number else 0):
            top, left = random.integers(0, 9, 2)
            mask[top : top + random.integers(1, 4), left : left + random.integers(1, 4)] = True
        values = (random.integers(0, 120, mask.shape) + 60 * mask).astype(np.uint8)
        masks.append(mask)
        maps.append(values.astype(np.float32) * np.float32(0.01))
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{number}.png")
        heat = {"height": 12, "width": 15, "scale": 0.01, "values": values.tobytes()}
        truth = TrueItem(anomalous=bool(mask.any()), anomalous_where=folder / f"{number}.png" if mask.any() else None)
        struct = {"score": float(values.max() / 100), "is_anomalous": True, "p_ok": None, "heat_map": heat}
        pairs.append(Pair(str(number), truth, struct, size=mask.shape))
    everywhere = np.array(masks)
    assume(everywhere.any())
    found = compare(pairs, "anomaly", Acceptance(), has_where=True)["measures"]
    assert found["aupro"] == pytest.approx(direct_aupro(np.array(maps), everywhere, 0.3), abs=1e-6)
    theirs = metrics.roc_auc_score(everywhere.ravel(), np.array(maps).ravel())
    assert found["pixel_auroc"] == pytest.approx(theirs, abs=1e-6)


def directly(p_ok: list[float | None], ok: list[bool]) -> dict[str, float]:
    """ECE in 15 bins, Brier score, AURC and what a review finds, item by item; p_ok are distinct."""
    claims = [(one, right) for one, right in zip(p_ok, ok, strict=True) if one is not None]
    gaps = []
    for number in range(15):
        inside = [(one, right) for one, right in claims if number / 15 <= one < (number + 1) / 15]
        if inside:
            confidence, share = (sum(column) / len(inside) for column in zip(*inside, strict=True))
            gaps.append((abs(confidence - share), len(inside)))
    ranked = [
        right for _, right in sorted(zip(p_ok, ok, strict=True), key=lambda item: -1 if item[0] is None else item[0])
    ]
    errors = [sum(not right for right in ranked[::-1][:k]) for k in range(1, len(ranked) + 1)]
    best = [sum(not right for right in sorted(ok, reverse=True)[:k]) for k in range(1, len(ok) + 1)]
    reviewed = len(ok) // 10
    aurc, least = (sum(count / k for k, count in enumerate(row, 1)) / len(ok) for row in (errors, best))
    return {
        "ok_share": sum(ok) / len(ok),
        "ece": sum(gap * count for gap, count in gaps) / len(claims),
        "largest_gap": max(gap for gap, _ in gaps),
        "brier": sum((one - right) ** 2 for one, right in claims) / len(claims),
        "aurc": aurc,
        "excess_aurc": aurc - least,
        "errors_found_by_reviewing_10_percent": sum(not right for right in ranked[:reviewed])
        / min(reviewed, sum(not right for right in ok)),
    }


def same(found: dict[str, Any], p_ok: list[float | None], ok: list[bool]) -> None:
    wanted = directly(p_ok, ok)
    assert {name: found["measures"][name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
    assert found["confidence"] == "p_ok"
    assert sum(row[2] for row in found["tables"]["reliability"]) == sum(one is not None for one in p_ok)
    assert found["tables"]["risk_coverage"][-1] == pytest.approx([1.0, 1.0 - sum(ok) / len(ok)], abs=1e-6)


def segmented(random: np.random.Generator, n: int) -> tuple[list[np.ndarray], list[np.ndarray | None], list[bool]]:
    """True and said index masks of (6, 7) px, some of which failed; whether the mean IoU of the classes is 0.5."""
    true = [random.integers(0, 3, (6, 7)).astype(np.uint8) for _ in range(n)]
    said: list[np.ndarray | None] = []
    ok = []
    for mask in true:
        noisy = np.where(random.random(mask.shape) < random.uniform(0, 0.8), random.integers(0, 3, mask.shape), mask)
        failed = random.random() < 0.05
        said.append(None if failed else noisy)
        values = [place for place in (1, 2) if (mask == place).any() or (noisy == place).any()]
        shares = [((mask == one) & (noisy == one)).sum() / ((mask == one) | (noisy == one)).sum() for one in values]
        ok.append(not failed and bool(np.mean(shares) >= 0.5))
    return true, said, ok


def by_label(index_mask: np.ndarray) -> dict[str, dict[str, Any]]:
    found = {}
    for place, label in enumerate(CLASSES, 1):
        if (index_mask == place).any():
            code = coco_mask.encode(np.asfortranarray(index_mask == place))
            found[label] = {"size": list(code["size"]), "counts": code["counts"].decode()}
    return found


def p_oks(random: np.random.Generator, ok: list[bool], failed: list[bool]) -> list[float | None]:
    """Distinct, higher where it is right, mostly; None of what failed."""
    drawn = 0.6 * random.random(len(ok)) + 0.399 * np.array(ok)
    return [None if lost else float(one) for one, lost in zip(drawn, failed, strict=True)]


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_segment__calibration_and_risk_coverage(seed: int) -> None:
    random = np.random.default_rng(seed)
    true, said, ok = segmented(random, 40)
    p_ok = p_oks(random, ok, [one is None for one in said])
    assume(not all(ok) and any(one is not None for one in p_ok))
    pairs = []
    for number, (mask, answer, claim) in enumerate(zip(true, said, p_ok, strict=True)):
        masks = [] if answer is None else [{"label": name, "rle": rle} for name, rle in by_label(answer).items()]
        struct = None if answer is None else {"masks": masks, "score": 0.5, "p_ok": claim}
        pairs.append(Pair(str(number), TrueItem(masks=by_label(mask)), struct))
    same(compare(pairs, "segment", Acceptance()), p_ok, ok)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_ocr__calibration_and_risk_coverage(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = ["".join(random.choice([*"abc "], 6)).strip() or "a" for _ in range(40)]
    said = [text if random.random() < 0.7 else text + "x" for text in true]
    failed = [bool(random.random() < 0.05) for _ in true]
    ok = [not lost and one == other for one, other, lost in zip(true, said, failed, strict=True)]
    p_ok = p_oks(random, ok, failed)
    assume(not all(ok) and not all(failed))
    pairs = [
        Pair(str(at), TrueItem(text=one), None if lost else {"full_text": other, "score": 0.5, "p_ok": claim})
        for at, (one, other, lost, claim) in enumerate(zip(true, said, failed, p_ok, strict=True))
    ]
    same(compare(pairs, "ocr", Acceptance()), p_ok, ok)


def test_evaluate__segment_and_ocr_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(7)
    true, said, ok = segmented(random, 60)
    answers = [np.zeros((6, 7), np.uint8) if one is None else one for one in said]
    ok = [right and one is not None for right, one in zip(ok, said, strict=True)]
    p_ok = p_oks(random, ok, [False] * 60)
    (tmp_path / "masks").mkdir()
    rows = []
    for number, (mask, answer) in enumerate(zip(true, answers, strict=True)):
        Image.fromarray(mask).save(tmp_path / f"masks/{number}.png")
        masks = [{"label": name, "rle": rle, "is_output": True} for name, rle in by_label(answer).items()]
        rows.append({"key": f"{number}.jpg", "masks": masks, "score": 0.5, "p_ok": p_ok[number]})
    (tmp_path / "masks.json").write_text(json.dumps(rows))
    code, found = evaluated(
        capsys, "--operator", "segment", "--truth", tmp_path / "masks", "--classes", ",".join(CLASSES),
        "--predictions", tmp_path / "masks.json",
    )  # fmt: skip
    assert (code, found["n"]) == (0, 60)
    same(found, p_ok, ok)
    texts = [(f"{number}.jpg", f"text {number}", f"text {number}" if right else "?") for number, right in enumerate(ok)]
    (tmp_path / "texts.csv").write_text("key,text\n" + "".join(f"{key},{text}\n" for key, text, _ in texts))
    rows = [{"key": key, "full_text": read, "score": 0.5, "p_ok": p_ok[at]} for at, (key, _, read) in enumerate(texts)]
    (tmp_path / "texts.json").write_text(json.dumps(rows))
    code, found = evaluated(
        capsys, "--operator", "ocr", "--truth", tmp_path / "texts.csv", "--predictions", tmp_path / "texts.json"
    )
    assert (code, found["n"]) == (0, 60)
    same(found, p_ok, ok)
