import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco
from sklearn.metrics import f1_score, jaccard_score

from winnow_workers.evaluation import masks

CLASSES = ("a", "b")
SEEDS = st.integers(0, 2**31)


def rle(mask: np.ndarray) -> dict[str, object]:
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def by_class(index_map: np.ndarray) -> dict[str, dict[str, object]]:
    found = {label: index_map == place + 1 for place, label in enumerate(CLASSES)}
    return {label: rle(mask) for label, mask in found.items() if mask.any()}


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_overlaps__agree_with_scikit_learn_on_pixels(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = (3, *random.integers(1, 9, 2))
    true, said = random.integers(0, 3, shape), random.integers(0, 3, shape)
    ignored = random.random(shape) < 0.2
    true_clean = np.where(ignored, 0, true)
    items = [
        masks.overlaps(by_class(one), by_class(two), ignored=rle(three))
        for one, two, three in zip(true_clean, said, ignored, strict=True)
    ]
    summed = masks.totals(items)
    kept = ~ignored
    for place, label in enumerate(CLASSES):
        wanted, got = true[kept] == place + 1, said[kept] == place + 1
        if not (wanted.any() or got.any()):
            assert label not in summed
            continue
        assert summed[label].iou == pytest.approx(jaccard_score(wanted, got, zero_division=0), abs=1e-9)
        assert summed[label].dice == pytest.approx(f1_score(wanted, got, zero_division=0), abs=1e-9)
    per_item = [
        jaccard_score(one[keep] == place + 1, two[keep] == place + 1)
        for one, two, keep in zip(true, said, kept, strict=True)
        for place in range(2)
        if (one[keep] == place + 1).any() or (two[keep] == place + 1).any()
    ]
    if per_item:
        assert masks.mean_item_iou(items) == pytest.approx(np.mean(per_item), abs=1e-9)


def test_overlaps__missed_invented_and_nothing() -> None:
    box = np.zeros((10, 20), bool)
    box[:, :10] = True
    found = masks.overlaps({"a": rle(box)}, {"b": rle(box)})
    assert (found["a"].iou, found["b"].iou, masks.item_iou(found)) == (0.0, 0.0, 0.0)
    assert masks.item_iou(masks.overlaps({}, {})) == 1.0
    assert np.isnan([masks.mean_iou({}), masks.mean_dice({}), masks.mean_item_iou([])]).all()
    with pytest.raises(ValueError, match="10 x 20, 20 x 10"):
        masks.overlaps({"a": rle(box)}, {"a": rle(box.T)})
    assert masks.union([rle(box), rle(~box)]) == rle(np.ones_like(box))
