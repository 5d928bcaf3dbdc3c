import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from winnow_workers.evaluation import ranking

ITEMS = st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1), st.booleans()), min_size=2)


@settings(max_examples=80, deadline=None)
@given(ITEMS)
def test_ranking__agrees_with_scikit_learn(items: list[tuple[float, bool]]) -> None:
    scores, positive = np.array([one for one, _ in items]), np.array([two for _, two in items])
    if positive.any() and not positive.all():
        assert ranking.auroc(scores, positive) == pytest.approx(metrics.roc_auc_score(positive, scores), abs=1e-9)
    if positive.any():
        theirs = metrics.average_precision_score(positive, scores)
        assert ranking.average_precision(scores, positive) == pytest.approx(theirs, abs=1e-9)
        best = max(metrics.f1_score(positive, scores >= threshold) for threshold in scores)
        found, threshold = ranking.best_f1(scores, positive)
        assert found == pytest.approx(best, abs=1e-9)
        assert metrics.f1_score(positive, scores >= threshold) == pytest.approx(best, abs=1e-9)


def test_ranking__infinite_scores_rank_and_one_kind_alone_says_nothing() -> None:
    assert ranking.auroc(np.array([-np.inf, 0.2, np.inf]), np.array([1, 1, 0])) == 0.0
    assert np.isnan(ranking.auroc(np.array([0.1, 0.2]), np.array([1, 1])))
    assert np.isnan(ranking.average_precision(np.array([0.1]), np.array([0])))
    assert np.isnan(ranking.best_f1(np.array([0.1]), np.array([0]))[0])
    assert ranking.roc_points(np.array([0.9, 0.1]), np.array([1, 0])) == [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    assert ranking.roc_points(np.array([0.9]), np.array([1])) == []
