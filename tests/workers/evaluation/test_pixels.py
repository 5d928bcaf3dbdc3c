import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from winnow_workers.evaluation.pixels import PixelTally


def direct_aupro(scores: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """The definition, threshold by threshold and region by region."""
    regions = []
    for image, mask in zip(scores, masks, strict=True):
        parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [image[parts == number + 1] for number in range(count)]
    normal = scores[~masks]
    x, y = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        x.append(float((normal >= threshold).mean()))
        y.append(float(np.mean([(region >= threshold).mean() for region in regions])))
    grid = np.unique([*x, limit])
    grid = grid[grid <= limit]
    area = 0.0
    for low, high in itertools.pairwise(grid):
        # just behind a jump the curve stands at its upper end
        left = max(b for a, b in zip(x, y, strict=True) if a == low) if low in x else float(np.interp(low, x, y))
        right = min(b for a, b in zip(x, y, strict=True) if a == high) if high in x else float(np.interp(high, x, y))
        area += (high - low) * (left + right) / 2
    return area / limit


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.05, 0.3, 1.0]), st.booleans())
def test_tally__agrees_with_the_definition_and_scikit_learn(seed: int, limit: float, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    shape = (3, *random.integers(3, 9, 2))
    masks = random.random(shape) < 0.3
    scores = (random.random(shape) + 0.3 * masks).astype(np.float32)
    scores = np.round(scores, 1) if coarse else scores
    tally = PixelTally()
    for image, mask in zip(scores, masks, strict=True):
        tally.add(image, mask)
    if masks.any() and not masks.all():
        assert tally.aupro(limit) == pytest.approx(direct_aupro(scores, masks, limit), abs=1e-6)
        assert tally.auroc() == pytest.approx(roc_auc_score(masks.ravel(), scores.ravel()), abs=1e-9)
    else:
        assert np.isnan(tally.aupro())


def test_tally__rounding_bounds_the_memory_and_hardly_moves_the_numbers() -> None:
    random = np.random.default_rng(3)
    exact, rounded = PixelTally(), PixelTally(limit=10_000)
    for _ in range(4):
        mask = np.zeros((80, 80), bool)
        mask[20:30, 20:40] = True
        scores = (random.random((80, 80)) + mask * 0.5).astype(np.float32)
        exact.add(scores, mask)
        rounded.add(scores, mask)
    assert rounded.is_rounded
    assert not exact.is_rounded
    assert rounded.aupro() == pytest.approx(exact.aupro(), abs=1e-3)
    assert rounded.auroc() == pytest.approx(exact.auroc(), abs=1e-3)


def test_tally__a_failed_image_finds_nothing() -> None:
    tally = PixelTally()
    mask = np.eye(8, dtype=bool)
    tally.add(np.full((8, 8), -np.inf, np.float32), mask)
    tally.add(np.where(mask, 1.0, 0.0), mask)
    assert tally.regions == 2
    assert tally.aupro() == pytest.approx(0.5 + 0.5 * 0, abs=0.3)
    with pytest.raises(ValueError, match="shape"):
        tally.add(np.zeros((2, 2)), mask)
