import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from torchmetrics.classification import BinaryCalibrationError

from winnow_workers.evaluation.calibration_error import (
    brier_score,
    expected_calibration_error,
    reliability,
)

CLAIMS = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60)


def test_reliability__by_hand() -> None:
    # two bins: [0, 0.5) holds 0.2 (wrong) and 0.4 (right); [0.5, 1] holds 0.5 (right), 0.9 (wrong), 1.0 (right)
    found = reliability(np.array([0.2, 0.4, 0.5, 0.9, 1.0]), np.array([0, 1, 1, 0, 1]), bins=2)
    assert [row.count for row in found.table()] == [2, 3]
    assert [row.mean_confidence for row in found.table()] == pytest.approx([0.3, 0.8])
    assert [row.share_ok for row in found.table()] == pytest.approx([0.5, 2 / 3])
    assert found.ece == pytest.approx(2 / 5 * 0.2 + 3 / 5 * (0.8 - 2 / 3))
    assert found.largest_gap == pytest.approx(0.2)
    assert found.brier == pytest.approx((0.04 + 0.36 + 0.25 + 0.81) / 5)


@settings(max_examples=60, deadline=None)
@given(CLAIMS)
def test_ece_and_brier__agree_with_torchmetrics_and_scikit_learn(claims: list[tuple[float, bool]]) -> None:
    confidence, ok = np.array([one for one, _ in claims]), np.array([right for _, right in claims])
    # theirs leaves 1.0 out of the last bin into one of its own, which holds the same sums unless others share the bin
    confidence = np.minimum(confidence, 0.999)
    theirs = BinaryCalibrationError(n_bins=15, norm="l1")(torch.tensor(confidence), torch.tensor(ok.astype(int)))
    on_edge = np.isclose(confidence * 15, np.round(confidence * 15), atol=1e-5) & (confidence > 0)
    if not on_edge.any():  # theirs has float32 edges
        assert expected_calibration_error(confidence, ok) == pytest.approx(float(theirs), abs=1e-6)
    assert brier_score(confidence, ok) == pytest.approx(
        brier_score_loss(ok, confidence, labels=[False, True], pos_label=True), abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(CLAIMS, st.integers(0, 60))
def test_reliability__adds_up_over_parts(claims: list[tuple[float, bool]], cut: int) -> None:
    confidence, ok = np.array([one for one, _ in claims]), np.array([right for _, right in claims])
    parts = reliability(confidence[:cut], ok[:cut]) + reliability(confidence[cut:], ok[cut:])
    whole = reliability(confidence, ok)
    assert (parts.n, parts.counts.tolist()) == (whole.n, whole.counts.tolist())
    assert parts.ece == pytest.approx(whole.ece, abs=1e-12)
    assert parts.brier == pytest.approx(whole.brier, abs=1e-12)


def test_reliability__nothing_and_nonsense() -> None:
    nothing = reliability(np.empty(0), np.empty(0))
    assert np.isnan([nothing.ece, nothing.brier, nothing.largest_gap]).all()
    for bad in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match="no number in"):
            reliability(np.array([bad]), np.array([1]))
    with pytest.raises(ValueError, match="shape"):
        reliability(np.array([0.5]), np.array([1, 0]))
