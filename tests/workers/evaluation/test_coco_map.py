import contextlib
import io
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from winnow_workers.evaluation.boxes import NOTHING, Objects
from winnow_workers.evaluation.coco_map import Kind, coco_map

LABELS = ("cat", "cow", "dog")
SIDE = 160
NAMES = ("map", "ap50", "ap75", "map_small", "map_medium", "map_large", "ar_1", "ar_10", "ar_100")
Pair = tuple[Objects, Objects]


def random_pairs(seed: int) -> list[Pair]:
    """Images with some objects, most of which are found nearly; boxes lie on whole pixels, so that masks are exact."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(int(random.integers(1, 5))):
        count = int(random.integers(0, 6))
        low = random.integers(0, SIDE - 60, (count, 2))
        truth = np.hstack([low, low + random.integers(4, 60, (count, 2))])
        labels = random.integers(0, 3, count)
        kept = np.flatnonzero(random.random(count) < 0.8)
        moved = truth[kept] + random.integers(-3, 4, (len(kept), 4))
        extra = int(random.integers(0, 3))
        low = random.integers(0, SIDE - 60, (extra, 2))
        boxes = np.vstack([moved, np.hstack([low, low + random.integers(4, 60, (extra, 2))])])
        boxes = np.clip(boxes, 0, SIDE)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        said = np.concatenate([labels[kept], random.integers(0, 3, extra)])
        crowd = random.random(count) < 0.15
        scores = (random.permutation(len(said)) + 1) / 10  # distinct in an image, and equal ones between images
        pairs.append((one_side(truth, labels, crowd=crowd), one_side(boxes, said, scores=scores)))
    return pairs


def one_side(boxes: np.ndarray, labels: np.ndarray, **more: Any) -> Objects:
    rles = []
    for left, top, right, bottom in boxes.astype(int):
        mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
        mask[top:bottom, left:right] = 1
        encoded = coco_mask.encode(mask)
        rles.append({"size": [SIDE, SIDE], "counts": encoded["counts"].decode()})
    sizes = boxes[:, 2:] - boxes[:, :2]
    return Objects(
        boxes.astype(np.float64),
        tuple(LABELS[label] for label in labels),
        areas=sizes.prod(axis=1).astype(np.float64),
        rles=tuple(rles),
        **more,
    )


def pycocotools_of(pairs: list[Pair], kind: Kind) -> COCOeval:
    """Its evaluation, with every image and every box matched."""
    truth, results = [], []
    for image, (true, predicted) in enumerate(pairs, 1):
        for place in range(len(true)):
            entry = common(true, place, image)
            truth.append(entry | {"id": len(truth) + 1, "iscrowd": int(true.is_crowd[place])})
        assert predicted.scores is not None
        scores = predicted.scores.tolist()
        results += [common(predicted, place, image) | {"score": score} for place, score in enumerate(scores)]
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(LABELS)]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        known = COCO()
        images = [{"id": image + 1, "height": SIDE, "width": SIDE} for image in range(len(pairs))]
        known.dataset = {"images": images, "annotations": truth, "categories": categories}
        known.createIndex()
        found = COCO()
        found.dataset = {
            "images": images,
            "annotations": [one | {"id": place + 1, "iscrowd": 0} for place, one in enumerate(results)],
            "categories": categories,
        }
        found.createIndex()
        evaluation = COCOeval(known, found, kind)
        evaluation.evaluate()
    return evaluation


def by_pycocotools(pairs: list[Pair], kind: Kind) -> dict[str, float]:
    evaluation = pycocotools_of(pairs, kind)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float("nan") if value == -1 else value for name, value in zip(NAMES, evaluation.stats, strict=False)}


def matches_of_pycocotools(pairs: list[Pair], iou: float) -> tuple[int, int, int]:
    """Boxes that are right, boxes that are not, and objects that were missed, of any size."""
    evaluation = pycocotools_of(pairs, "bbox")
    at = int(np.flatnonzero(np.isclose(evaluation.params.iouThrs, iou))[0])
    hits = extra = missed = 0
    for one in evaluation.evalImgs:
        if one is None or one["aRng"] != evaluation.params.areaRng[0]:
            continue
        counted, matched = ~one["dtIgnore"][at].astype(bool), one["dtMatches"][at] > 0
        hits += int((counted & matched).sum())
        extra += int((counted & ~matched).sum())
        missed += int((~one["gtIgnore"].astype(bool) & (one["gtMatches"][at] == 0)).sum())
    return hits, extra, missed


def common(objects: Objects, place: int, image: int) -> dict[str, Any]:
    left, top, right, bottom = objects.boxes[place]
    assert objects.rles is not None
    return {
        "image_id": image,
        "category_id": LABELS.index(objects.labels[place]) + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": float((right - left) * (bottom - top)),
        "segmentation": objects.rles[place],
    }


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_coco_map__agrees_with_pycocotools(kind: Kind, seed: int) -> None:
    pairs = random_pairs(seed)
    if not any(len(true) for true, _ in pairs):
        return
    ours, per_class = coco_map(pairs, kind)
    theirs = by_pycocotools(pairs, kind)
    for name in NAMES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-4, nan_ok=True), name
    known = [value for value in per_class.values() if not np.isnan(value)]
    if known:
        assert np.mean(known) == pytest.approx(theirs["map"], abs=1e-4)


def test_coco_map__nothing_is_true() -> None:
    summary, per_class = coco_map([(NOTHING, NOTHING)], "bbox")
    assert np.isnan(list(summary.values())).all()
    assert per_class == {}
